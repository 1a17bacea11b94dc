/** Remote caches between daemons that share nothing else, by unmodified buildctl: what one builds, another with an empty root finds. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { contextOf } from '../fixtures/context.ts';
import { buildDir, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { busyboxRootfs, pushImage } from '../fixtures/images.ts';
import { startRegistry, type TestRegistry } from '../fixtures/registry.ts';

const skip = unableTo('buildctl', 'runc', 'docker-registry', 'busybox', 'mount');
let registry: TestRegistry;
let base: string;

before(async () => {
  if (skip !== false) return;
  registry = await startRegistry();
  await pushImage(registry.host, 'base', 'latest', [await busyboxRootfs()]);
  base = `${registry.host}/base:latest`;
});
after(() => registry?.[Symbol.asyncDispose]());

/** Two stages, so that `max` keeps more than `min`; a copied file, so that content keys count. */
const project = () =>
  contextOf({
    Dockerfile: `FROM ${base} AS tools
RUN echo tool > /tool && head -c 20000 /dev/urandom > /noise
FROM ${base}
COPY hello.txt /hello.txt
RUN cat /hello.txt > /greeting && date +%N > /moment
COPY --from=tools /tool /tool
RUN cat /tool >> /greeting
`,
    'hello.txt': 'hello\n',
  });

/** Steps of the Dockerfile that buildctl shows as cached, and those that ran. */
function steps(progress: string): { readonly cached: number; readonly total: number } {
  const names = new Map([...progress.matchAll(/^#(\d+) \[(?!internal)[^\n]*\] (?:RUN|COPY)/gm)].map(([, id]) => [id, false]));
  for (const [, id] of progress.matchAll(/^#(\d+) CACHED/gm)) if (names.has(id)) names.set(id, true);
  return { cached: [...names.values()].filter(Boolean).length, total: names.size };
}

async function build(daemon: TestDaemon, dir: string, flags: readonly string[]): Promise<string> {
  const { status, stderr } = await buildDir(daemon, dir, flags);
  assert.equal(status, 0, stderr);
  return stderr;
}

const sample = async (daemon: TestDaemon, name: string): Promise<number> => {
  const { body } = await daemon.ops('/metrics');
  const line = body.split('\n').find((each) => each.startsWith(`${name} `));
  return Number(line?.slice(name.length + 1).split(' ')[0] ?? 0);
};

for (const [what, flags] of [
  ['as an image manifest', ''],
  ['as an index', ',image-manifest=false'],
  ['with Docker media types', ',oci-mediatypes=false'],
  ['compressed with zstd', ',compression=zstd,force-compression=true'],
] as const)
  test(`registry, mode=max, ${what}: a daemon with an empty root finds every step, and bytes are counted`, { skip }, async () => {
    await using context = await project();
    const ref = `${registry.host}/cache:${what.replaceAll(' ', '-')}`;
    const metadata = join(context.dir, '..', `${context.dir.split('/').at(-1)}.json`);
    {
      await using first = await TestDaemon.start();
      const shown = await build(first, context.dir, [
        '--export-cache',
        `type=registry,ref=${ref},mode=max${flags}`,
        '--metadata-file',
        metadata,
      ]);
      assert.match(shown, /exporting cache to registry/);
      assert.match(readFileSync(metadata, 'utf8'), /cache\.manifest/);
      rmSync(metadata);
      assert.ok((await sample(first, 'cooper_cache_remote_bytes_total{backend="registry",op="upload"}')) > 20_000);
    }
    await using second = await TestDaemon.start();
    const out = mkdtempSync(join(tmpdir(), 'cooper-out-'));
    try {
      const shown = await build(second, context.dir, [
        '--import-cache',
        `type=registry,ref=${ref}`,
        '--output',
        `type=local,dest=${out}`,
      ]);
      assert.match(shown, /importing cache manifest from /);
      assert.deepEqual(steps(shown), { cached: 5, total: 5 }, shown);
      assert.equal(readFileSync(join(out, 'greeting'), 'utf8'), 'hello\ntool\n');
    } finally {
      rmSync(out, { recursive: true, force: true });
    }
    assert.ok((await sample(second, 'cooper_cache_remote_bytes_total{backend="registry",op="load"}')) > 500);
  });
