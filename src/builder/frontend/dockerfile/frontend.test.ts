import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { cpuMs } from '../../../../test/fixtures/cpu.ts';
import { BuildError, GRPC } from '../../../core/errors.ts';
import { parseDefinition, sourceOf } from '../../llb/definition.ts';
import { run } from '../../llb/exec.ts';
import { imageSource, localSource } from '../../llb/source.ts';
import { marshal } from '../../llb/state.ts';
import type { Definition } from '../../proto/gen/pb/ops_pb.ts';
import type { FrontendResult } from '../ports.ts';
import { dockerfileFrontend } from './frontend.ts';
import { type GoldenCase, recordingBridge } from './golden.test-rig.ts';

const busybox = {
  architecture: 'amd64',
  os: 'linux',
  rootfs: { type: 'layers', diff_ids: [`sha256:${'1'.repeat(64)}`] },
  config: { Env: ['PATH=/bin'] },
};
const images: GoldenCase['images'] = { 'docker.io/library/busybox:latest': busybox };

interface Built {
  readonly result: FrontendResult;
  readonly definitions: readonly Definition[];
  readonly names: readonly string[];
}

async function build(
  t: TestContext,
  dockerfile: string,
  options: Record<string, string> = {},
  inputs: ReadonlyMap<string, Definition> = new Map(),
  llbCaps?: ReadonlySet<string>,
): Promise<Built> {
  const dir = await mkdtemp(join(tmpdir(), 'dockerfile-'));
  t.after(() => rm(dir, { recursive: true }));
  await writeFile(join(dir, 'Dockerfile'), dockerfile);
  const { bridge, definitions } = recordingBridge(dir, { options: {}, images }, llbCaps);
  const request = { frontend: 'dockerfile.v0', options: new Map(Object.entries(options)), inputs };
  const result = await dockerfileFrontend.run(bridge, request);
  const last = definitions.at(-1);
  const names = last === undefined ? [] : parseDefinition(last).vertices.map((vertex) => vertex.name);
  return { result, definitions, names };
}

const failure = async (work: Promise<unknown>): Promise<BuildError> => {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof BuildError, `expected a BuildError, got ${error}`);
  return error;
};

test('a failing step finds its lines through the graph', async (t) => {
  const { definitions } = await build(t, 'FROM busybox\n\nRUN a \\\n  b\n');
  const graph = parseDefinition(definitions.at(-1) as Definition);
  const source = sourceOf(graph, graph.root?.vertex.digest ?? '');
  assert.equal(source?.filename, 'Dockerfile');
  assert.deepEqual(
    source?.ranges.map(({ start }) => start.line),
    [3, 4],
  );
});

test('an error about the file carries code Unknown, the excerpt and the nearest right word', async (t) => {
  const error = await failure(build(t, 'FROM busybox\nRUNX make\n'));
  assert.equal(error.message, 'dockerfile parse error on line 2: unknown instruction: RUNX (did you mean RUN?)');
  assert.equal(error.kind, 'invalid-input');
  assert.equal(error.detail.grpcCode, GRPC.UNKNOWN);
  assert.deepEqual(error.detail.source?.ranges, [{ start: { line: 2, character: 0 }, end: { line: 2, character: 0 } }]);
  assert.match(new TextDecoder().decode(error.detail.source?.data), /RUNX make/);
});

test('a missing base image stays a registry failure, with the line that asked for it', async (t) => {
  const error = await failure(build(t, 'FROM busybox AS a\nFROM nosuch:1\n'));
  assert.equal(error.kind, 'not-found');
  assert.equal(error.detail.source?.ranges[0]?.start.line, 2);
});

test('a Dockerfile that is not there is said to be missing by the name that was asked for', async (t) => {
  const error = await failure(build(t, '', { filename: 'sub/Other' }));
  assert.equal(error.kind, 'not-found');
  assert.match(error.message, /failed to read dockerfile: open sub\/Other: no such file or directory/);
});

test('input contexts keep their graph and bring their config', async (t) => {
  const platform = { os: 'linux', architecture: 'amd64', variant: '', osVersion: '', osFeatures: [] };
  const nothing = { mounts: [], secrets: [], ssh: [], extraHosts: [], ulimits: [] };
  const input = marshal(run(imageSource('docker.io/library/x:1', { platform }), { ...nothing, args: ['inner'] }), { platform });
  const config = Buffer.from(JSON.stringify({ ...busybox, config: { Env: ['FROM_INPUT=1'] } })).toString('base64');
  const { names, result } = await build(
    t,
    'FROM base\nRUN outer\n',
    { 'context:base': 'input:0-base', 'input-metadata:0-base': JSON.stringify({ 'containerimage.config': config }) },
    new Map([['0-base', input]]),
  );
  assert.deepEqual(names.slice(1), ['inner', 'docker-image://docker.io/library/x:1']);
  const image = JSON.parse(new TextDecoder().decode(result.metadata.get('containerimage.config')));
  assert.ok(image.config.Env.includes('FROM_INPUT=1'));
});

test('a context given as an input is used instead of the client directory', async (t) => {
  const platform = { os: 'linux', architecture: 'amd64', variant: '', osVersion: '', osFeatures: [] };
  const context = marshal(localSource('elsewhere', { sessionId: 's' }), { platform });
  const { names } = await build(t, 'FROM scratch\nCOPY a /\n', {}, new Map([['context', context]]));
  assert.deepEqual(names, ['[1/1] COPY a /', 'local://elsewhere']);
});

test('git and http contexts are sources of their own', async (t) => {
  const git = await build(t, 'FROM scratch\nCOPY a /\n', {
    context: 'https://github.com/x/y.git#main:sub',
    dockerfilekey: 'dockerfile',
  });
  assert.deepEqual(git.names, ['[1/1] COPY a /', '[internal] load git source https://github.com/x/y.git#main:sub']);
});

test('several platforms give one ref each, and the same refs for the same platform', async (t) => {
  const { result } = await build(t, 'FROM busybox\nRUN x\n', { platform: 'linux/amd64,linux/arm64' });
  assert.ok(result.refs.kind === 'map');
  assert.deepEqual([...result.refs.refs.keys()], ['linux/amd64', 'linux/arm64']);
  assert.ok(result.metadata.has('containerimage.config/linux/arm64'));
});

test('COPY --link is an ordinary copy where the worker knows no merge', async (t) => {
  const text = 'FROM busybox\nCOPY --link a /a\n';
  assert.ok((await build(t, text)).names.includes('[2/2] LINK COPY --link a /a'));
  const { names } = await build(t, text, {}, new Map(), new Set());
  assert.equal(names[0], '[2/2] COPY --link a /a');
});

const doubling = Array.from({ length: 60 }, (_, i) => `ENV V${i + 1}=$V${i}$V${i}`).join('\n');
const HOSTILE: readonly (readonly [string, string, RegExp | undefined])[] = [
  ['ten thousand RUN', `FROM busybox\n${Array.from({ length: 10_000 }, (_, i) => `RUN ${i}\n`).join('')}`, undefined],
  [
    'ten thousand ENV',
    `FROM busybox\n${Array.from({ length: 10_000 }, (_, i) => `ENV V${i}=${i}\n`).join('')}RUN x\n`,
    undefined,
  ],
  [
    'ENV and RUN in turns, which would make a graph of gigabytes',
    `FROM busybox\n${Array.from({ length: 5000 }, (_, i) => `ENV V${i}=${'x'.repeat(80)}\nRUN ${i}\n`).join('')}`,
    /the build graph is larger than/,
  ],
  ['variables that double', `FROM busybox\nENV V0=xxxxxxxx\n${doubling}\n`, /expands to more than/],
  [
    'two thousand stages that copy from each other',
    Array.from({ length: 2000 }, (_, i) => `FROM busybox AS s${i}\n${i === 0 ? '' : `COPY --from=s${i - 1} /a /a\n`}`).join(''),
    undefined,
  ],
  [
    'two thousand stages on top of each other',
    `FROM busybox AS s0\n${Array.from({ length: 2000 }, (_, i) => `FROM s${i} AS s${i + 1}\n`).join('')}`,
    undefined,
  ],
  ['five thousand triggers', `FROM busybox AS a\n${'ONBUILD RUN x\n'.repeat(5000)}FROM a\n`, undefined],
  ['three thousand mounts', `FROM busybox\n${'RUN --mount=type=cache,target=/c x\n'.repeat(3000)}`, undefined],
  [
    'a circle of a thousand stages',
    Array.from({ length: 1000 }, (_, i) => `FROM scratch AS s${i}\nCOPY --from=s${(i + 1) % 1000} a /\n`).join(''),
    /circular dependency/,
  ],
];
for (const [what, text, message] of HOSTILE)
  test(`hostile Dockerfile: ${what} ends soon`, async (t) => {
    const ms = await cpuMs(async () => {
      if (message === undefined) await build(t, text);
      else assert.match((await failure(build(t, text))).message, message);
    });
    assert.ok(ms < 10_000, `took ${ms} ms`);
  });
