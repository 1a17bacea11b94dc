/** What a real buildkitd wrote, found by this daemon, and written by it again. The caches are in test/golden/remote-cache. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { contextOf, type TestContext } from '../fixtures/context.ts';
import { buildDir, TestDaemon, UNHURRIED, unableTo } from '../fixtures/daemon.ts';

const skip = unableTo('buildctl', 'runc', 'mount');
const GOLDEN = join(import.meta.dirname, '..', 'golden', 'remote-cache');
const PLATFORM = ['--opt', 'platform=linux/amd64'];

async function project(): Promise<TestContext> {
  const context = await contextOf({ Dockerfile: readFileSync(join(GOLDEN, 'context/Dockerfile'), 'utf8') });
  context.write('hello.txt', 'hello\n', 0o644);
  context.writeBytes('true', readFileSync(join(GOLDEN, 'context/true')));
  chmodSync(join(context.dir, 'true'), 0o755);
  return context;
}

interface Layout {
  readonly manifests: readonly { readonly digest: string }[];
}
const blobOf = (layout: string, digest: string): string => readFileSync(join(layout, 'blobs', digest.replace(':', '/')), 'utf8');
const manifestOf = (layout: string): { readonly config: { readonly digest: string }; readonly layers: readonly unknown[] } => {
  const { manifests } = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')) as Layout;
  return JSON.parse(blobOf(layout, manifests[0]?.digest ?? ''));
};

test('a cache of buildkitd is found whole, and written again it is the same cache, byte for byte', { skip }, async () => {
  await using context = await project();
  await using daemon = await TestDaemon.start({ toml: UNHURRIED });
  const out = mkdtempSync(join(tmpdir(), 'cooper-cache-'));
  try {
    const from = join(GOLDEN, 'buildkit-max');
    const flags = ['--import-cache', `type=local,src=${from}`, '--export-cache', `type=local,dest=${out},mode=max`];
    const { status, stderr } = await buildDir(daemon, context.dir, [...PLATFORM, ...flags]);
    assert.equal(status, 0, stderr);
    assert.equal([...stderr.matchAll(/^#\d+ CACHED/gm)].length, 8, stderr);
    const [written, golden] = [manifestOf(out), manifestOf(from)];
    assert.deepEqual(JSON.parse(blobOf(out, written.config.digest)), JSON.parse(blobOf(from, golden.config.digest)));
    assert.deepEqual(written, golden);
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
});
