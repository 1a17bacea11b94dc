/** The real `buildx bake`: targets in parallel, linked contexts, inline Dockerfiles, shared directories. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { BuildxRig } from '../fixtures/buildx.ts';
import { contextOf } from '../fixtures/context.ts';
import { type Run, unableTo } from '../fixtures/daemon.ts';

const skip = unableTo('buildx', 'runc', 'docker-registry', 'busybox');
let rig: BuildxRig;

before(async () => {
  if (skip === false) rig = await BuildxRig.start();
});
after(() => rig?.[Symbol.asyncDispose]());

const META = 'meta.json';

/** Bakes in a folder of these files; `OUT` is where outputs go. */
async function bake(
  files: Readonly<Record<string, string>>,
  args: readonly string[] = [],
): Promise<Run & { readonly out: string }> {
  await using context = await contextOf(files);
  const out = await rig.folder();
  const options = { cwd: context.dir, env: { OUT: out } };
  const placed = args.map((arg) => (arg === META ? join(out, META) : arg));
  return { ...(await rig.buildx(['bake', '--progress', 'plain', '--allow', 'fs=*', ...placed], options)), out };
}

test('targets of a group are built side by side, a shared step runs once, each output goes where it belongs', {
  skip,
}, async () => {
  const { status, stderr, out } = await bake({
    'docker-bake.hcl': `
variable "OUT" {}
group "default" { targets = ["one", "two"] }
target "common" {
  dockerfile-inline = <<EOT
FROM ${rig.base} AS shared
COPY note /note
RUN cat /note > /shared && cat /proc/sys/kernel/random/uuid >> /shared
FROM shared
ARG WHO
RUN echo $WHO > /who
EOT
}
target "one" {
  inherits = ["common"]
  args = { WHO = "first" }
  output = ["type=local,dest=\${OUT}/one"]
}
target "two" {
  inherits = ["common"]
  args = { WHO = "second" }
  output = ["type=local,dest=\${OUT}/two"]
}
`,
    note: 'noted\n',
  });
  assert.equal(status, 0, stderr);
  assert.equal(readFileSync(join(out, 'one/who'), 'utf8'), 'first\n');
  assert.equal(readFileSync(join(out, 'two/who'), 'utf8'), 'second\n');
  assert.match(readFileSync(join(out, 'one/shared'), 'utf8'), /^noted\n[0-9a-f-]{36}\n$/);
  assert.equal(readFileSync(join(out, 'one/shared'), 'utf8'), readFileSync(join(out, 'two/shared'), 'utf8'));
});

test("one target's result is another's base image and another's directory", { skip }, async () => {
  const { status, stderr, out } = await bake({
    'docker-bake.json': JSON.stringify({
      group: { default: { targets: ['app'] } },
      target: {
        base: { dockerfile: 'base.Dockerfile', args: { MADE: 'by bake' } },
        files: { 'dockerfile-inline': 'FROM scratch\nCOPY note /docs/\n' },
        app: {
          contexts: { parent: 'target:base', papers: 'target:files' },
          'dockerfile-inline': 'FROM parent\nCOPY --from=papers /docs /docs\nRUN echo "$MADE" "$(cat /docs/note)" > /result\n',
          output: [`type=local,dest=\${OUT}`],
        },
      },
      variable: { OUT: {} },
    }),
    'base.Dockerfile': `FROM ${rig.base}\nARG MADE\nENV MADE=$MADE\nRUN true\n`,
    note: 'noted\n',
  });
  assert.equal(status, 0, stderr);
  assert.equal(readFileSync(join(out, 'result'), 'utf8'), 'by bake noted\n');
});

test('targets are pushed, and the metadata file names each', { skip }, async () => {
  const { status, stderr, out } = await bake(
    {
      'docker-bake.json': JSON.stringify({
        group: { default: { targets: ['a', 'b'] } },
        target: Object.fromEntries(
          ['a', 'b'].map((name) => [
            name,
            { 'dockerfile-inline': `FROM ${rig.base}\nRUN echo ${name} > /name\n`, tags: [`${rig.registry.host}/baked:${name}`] },
          ]),
        ),
      }),
    },
    ['--push', '--metadata-file', META, '--set', '*.labels.made=bake'],
  );
  assert.equal(status, 0, stderr);
  const metadata = JSON.parse(readFileSync(join(out, META), 'utf8')) as Record<string, Record<string, string>>;
  for (const name of ['a', 'b']) {
    const image = await rig.buildx([
      'imagetools',
      'inspect',
      `${rig.registry.host}/baked:${name}`,
      '--format',
      '{{json .Image.Config}}',
    ]);
    assert.deepEqual(JSON.parse(image.stdout).Labels, { made: 'bake' });
    const manifest = await fetch(`${rig.registry.url}/v2/baked/manifests/${name}`, {
      headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
    });
    assert.equal(metadata[name]?.['containerimage.digest'], manifest.headers.get('docker-content-digest'));
  }
});

test('a target that fails is named, with its line', { skip }, async () => {
  const { status, stderr } = await bake({
    'docker-bake.json': JSON.stringify({
      group: { default: { targets: ['good', 'bad'] } },
      target: {
        good: { 'dockerfile-inline': `FROM ${rig.base}\nRUN echo good\n` },
        bad: { 'dockerfile-inline': `FROM ${rig.base}\nRUN exit 9\n` },
      },
    }),
  });
  assert.equal(status, 1);
  assert.match(stderr, /target bad: failed to solve: process "\/bin\/sh -c exit 9" did not complete successfully: exit code: 9/);
  assert.match(stderr, / {3}2 \| >>> RUN exit 9/);
});
