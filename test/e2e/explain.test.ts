/**
 * Why a step missed, on a real daemon with real files: each case builds, changes one thing, builds again, and reads the answer that
 * `cooper explain`, the API, the span and the metric share.
 */
import assert from 'node:assert/strict';
import { chmodSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, test } from 'node:test';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import type { CacheChange, MissReason } from '../../src/builder/events.ts';
import type { Explanation } from '../../src/builder/explain/explanation.ts';
import { contextOf, type TestContext } from '../fixtures/context.ts';
import { buildctl, buildDir, run, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { serveRepository } from '../fixtures/git.ts';
import { busyboxRootfs, pushImage } from '../fixtures/images.ts';
import { startRegistry, startScriptedServer, type TestRegistry } from '../fixtures/registry.ts';

const skip = unableTo('buildctl', 'runc', 'docker-registry', 'busybox', 'git');
const MAIN = join(import.meta.dirname, '..', '..', 'src', 'cmd', 'main.ts');
let registry: TestRegistry;
let daemon: TestDaemon;
let base: string;

before(async () => {
  if (skip !== false) return;
  registry = await startRegistry();
  await pushImage(registry.host, 'base', 'latest', [await busyboxRootfs()]);
  base = `${registry.host}/base:latest`;
  daemon = await TestDaemon.start();
});
after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
});

async function built(dir: string, args: readonly string[] = []): Promise<string> {
  const { status, stderr } = await buildDir(daemon, dir, args);
  assert.equal(status, 0, stderr);
  const { builds } = JSON.parse((await daemon.ops('/api/v1/builds?limit=1')).body) as { builds: { ref: string }[] };
  return builds[0]?.ref ?? '';
}
async function explain(ref: string, query = ''): Promise<Explanation> {
  const { status, body } = await daemon.ops(`/api/v1/builds/${ref}/explain${query}`);
  assert.equal(status, 200, body);
  return JSON.parse(body) as Explanation;
}
const cooper = (...args: string[]) =>
  run(process.execPath, [MAIN, ...args, '--addr', daemon.address, '--ops-addr', daemon.opsUrl.replace('http://', '')]);

/** A context that knows its Dockerfile. */
type Writable = TestContext & { text(): string };

interface Case {
  readonly change: string;
  /** `TAG` becomes a word of this case; `BASE` the image. */
  readonly dockerfile: string;
  readonly files?: Readonly<Record<string, string>>;
  readonly apply?: (context: Writable) => void | Promise<void>;
  readonly args?: readonly [first: readonly string[], second: readonly string[]];
  /** The step that is asked for, by a part of its name. */
  readonly step: string;
  readonly expect: 'cached' | { readonly reason: MissReason; readonly because?: RegExp; readonly changes?: readonly Expected[] };
}
type Expected = Pick<CacheChange, 'what'> &
  Partial<{ name: string | RegExp; old: string | RegExp | undefined; new: string | RegExp | undefined }>;

const SHA = /^sha256:[0-9a-f]{64}$/;
const COPY = 'FROM BASE AS TAG\nRUN echo TAG\nCOPY src /src\nRUN wc /src/*\n';
const SRC = { 'src/a': 'a', 'src/b': 'b' };
const CASES: readonly Case[] = [
  {
    change: 'one byte of a file',
    dockerfile: COPY,
    files: SRC,
    apply: (context) => context.write('src/b', 'B'),
    step: 'COPY src',
    expect: { reason: 'input-changed', changes: [{ what: 'file', name: 'src/b', old: SHA, new: SHA }] },
  },
  {
    change: 'the mode of a file',
    dockerfile: COPY,
    files: SRC,
    apply: ({ dir }) => chmodSync(join(dir, 'src/a'), 0o755),
    step: 'COPY src',
    expect: { reason: 'input-changed', changes: [{ what: 'file', name: 'src/a', old: SHA, new: SHA }] },
  },
  {
    change: 'a new file',
    dockerfile: COPY,
    files: SRC,
    apply: (context) => context.write('src/c', 'c'),
    step: 'COPY src',
    expect: { reason: 'input-changed', changes: [{ what: 'file', name: 'src/c', old: undefined, new: SHA }] },
  },
  {
    change: 'a file that is gone',
    dockerfile: COPY,
    files: SRC,
    apply: ({ dir }) => rmSync(join(dir, 'src/b')),
    step: 'COPY src',
    expect: { reason: 'input-changed', changes: [{ what: 'file', name: 'src/b', old: SHA, new: undefined }] },
  },
  {
    change: 'an ignored file',
    dockerfile: COPY,
    files: { ...SRC, 'src/x.log': '1', '.dockerignore': '**/*.log\n' },
    apply: (context) => context.write('src/x.log', '2'),
    step: 'COPY src',
    expect: 'cached',
  },
  {
    change: 'a file that a wildcard selects',
    dockerfile: 'FROM BASE AS TAG\nRUN echo TAG\nCOPY *.txt /t/\n',
    files: { 'a.txt': '1', 'b.txt': '1', 'c.md': '1' },
    apply: (context) => {
      context.write('b.txt', '2');
      context.write('c.md', '2');
    },
    step: 'COPY *.txt',
    expect: { reason: 'input-changed', changes: [{ what: 'file', name: 'b.txt', old: SHA, new: SHA }] },
  },
  {
    change: 'a step below a changed file',
    dockerfile: COPY,
    files: SRC,
    apply: (context) => context.write('src/b', 'B'),
    step: 'RUN wc',
    expect: { reason: 'parent-changed', because: /COPY src/ },
  },
  {
    change: 'a build argument',
    dockerfile: 'FROM BASE AS TAG\nARG LEVEL\nRUN echo TAG $LEVEL\n',
    args: [
      ['--opt', 'build-arg:LEVEL=1'],
      ['--opt', 'build-arg:LEVEL=2'],
    ],
    step: 'RUN echo',
    expect: { reason: 'build-arg-changed', changes: [{ what: 'build-arg', name: 'LEVEL', old: '1', new: '2' }] },
  },
  {
    change: 'a build argument inside a path',
    dockerfile: 'FROM BASE AS TAG\nARG FILE\nRUN echo TAG\nCOPY $FILE /x\n',
    files: { one: '1', two: '2' },
    args: [
      ['--opt', 'build-arg:FILE=one'],
      ['--opt', 'build-arg:FILE=two'],
    ],
    step: 'COPY',
    expect: { reason: 'build-arg-changed', changes: [{ what: 'build-arg', name: 'FILE', old: 'one', new: 'two' }] },
  },
  {
    change: 'a build argument with a secret name, whose value is not told',
    dockerfile: 'FROM BASE AS TAG\nARG API_TOKEN\nRUN echo TAG\n',
    args: [
      ['--opt', 'build-arg:API_TOKEN=hunter1'],
      ['--opt', 'build-arg:API_TOKEN=hunter2'],
    ],
    step: 'RUN echo',
    expect: {
      reason: 'build-arg-changed',
      changes: [{ what: 'build-arg', name: 'API_TOKEN', old: /^hidden:/, new: /^hidden:/ }],
    },
  },
  {
    change: 'a build argument nobody uses',
    dockerfile: 'FROM BASE AS TAG\nRUN echo TAG\n',
    args: [
      ['--opt', 'build-arg:UNUSED=1'],
      ['--opt', 'build-arg:UNUSED=2'],
    ],
    step: 'RUN echo',
    expect: 'cached',
  },
  {
    change: 'the text of a RUN',
    dockerfile: 'FROM BASE AS TAG\nRUN echo TAG one\nRUN true\n',
    apply: (context) => context.write('Dockerfile', context.text().replace('one', 'two')),
    step: 'RUN echo',
    expect: { reason: 'instruction-changed', changes: [{ what: 'command', old: /one$/, new: /two$/ }] },
  },
  {
    change: 'a step that was put in',
    dockerfile: 'FROM BASE AS TAG\nRUN echo TAG one\nRUN echo three\n',
    apply: (context) => context.write('Dockerfile', context.text().replace('one\n', 'one\nRUN echo two\n')),
    step: 'RUN echo two',
    expect: { reason: 'never-seen' },
  },
  {
    change: 'a step after one that was put in',
    dockerfile: 'FROM BASE AS TAG\nRUN echo TAG one\nRUN echo three\n',
    apply: (context) => context.write('Dockerfile', context.text().replace('one\n', 'one\nRUN echo two\n')),
    step: 'RUN echo three',
    expect: { reason: 'parent-changed', because: /RUN echo two/ },
  },
  {
    change: 'the body of a RUN heredoc',
    dockerfile: 'FROM BASE AS TAG\nRUN <<EOF\necho TAG one\nEOF\n',
    apply: (context) => context.write('Dockerfile', context.text().replace('one', 'two')),
    step: 'RUN <<EOF',
    expect: { reason: 'instruction-changed', changes: [{ what: 'command', old: /one/, new: /two/ }] },
  },
  {
    change: 'the body of a COPY heredoc',
    dockerfile: 'FROM BASE AS TAG\nRUN echo TAG\nCOPY <<EOF /etc/TAG.conf\none\nEOF\n',
    apply: (context) => context.write('Dockerfile', context.text().replace('one', 'two')),
    step: 'COPY <<EOF',
    expect: { reason: 'input-changed', changes: [{ what: 'file', name: /TAG.conf|EOF/, old: SHA, new: SHA }] },
  },
  {
    change: 'ENV above',
    dockerfile: 'FROM BASE AS TAG\nENV GREETING=one\nRUN echo TAG\n',
    apply: (context) => context.write('Dockerfile', context.text().replace('one', 'two')),
    step: 'RUN echo',
    expect: { reason: 'environment-changed', changes: [{ what: 'env', name: 'GREETING', old: 'one', new: 'two' }] },
  },
  {
    change: 'WORKDIR',
    dockerfile: 'FROM BASE AS TAG\nRUN echo TAG\nWORKDIR /one\nRUN pwd\n',
    apply: (context) => context.write('Dockerfile', context.text().replace('/one', '/two')),
    step: 'WORKDIR',
    expect: { reason: 'instruction-changed', changes: [{ what: 'instruction', old: 'WORKDIR /one', new: 'WORKDIR /two' }] },
  },
  {
    change: 'USER',
    dockerfile: 'FROM BASE AS TAG\nUSER 1\nRUN echo TAG\n',
    apply: (context) => context.write('Dockerfile', context.text().replace('USER 1', 'USER 2')),
    step: 'RUN echo',
    expect: { reason: 'environment-changed', changes: [{ what: 'user', old: '1', new: '2' }] },
  },
  {
    change: 'a stage that is copied from',
    dockerfile: 'FROM BASE AS made\nRUN echo TAG one >/out\nFROM BASE AS TAG\nRUN echo TAG\nCOPY --from=made /out /out\n',
    apply: (context) => context.write('Dockerfile', context.text().replace('one', 'two')),
    step: 'COPY --from=made',
    expect: {
      reason: 'parent-changed',
      because: /RUN echo TAG two/,
      changes: [{ what: 'file', name: 'out', old: SHA, new: SHA }],
    },
  },
  {
    change: 'a stage that is copied from, with the same files',
    dockerfile: 'FROM BASE AS made\nRUN echo same >/out; : TAG one\nFROM BASE AS TAG\nRUN echo TAG\nCOPY --from=made /out /out\n',
    apply: (context) => context.write('Dockerfile', context.text().replace('one', 'two')),
    step: 'COPY --from=made',
    expect: 'cached',
  },
  {
    change: 'no cache asked',
    dockerfile: 'FROM BASE AS TAG\nRUN echo TAG\n',
    args: [[], ['--no-cache']],
    step: 'RUN echo',
    expect: { reason: 'no-cache-asked' },
  },
  {
    change: 'the text of a RUN while a remote cache is down',
    dockerfile: 'FROM BASE AS TAG\nRUN echo TAG one\n',
    apply: (context) => context.write('Dockerfile', context.text().replace('one', 'two')),
    args: [[], ['--import-cache', 'type=registry,ref=127.0.0.1:9/none']],
    step: 'RUN echo',
    expect: { reason: 'instruction-changed', changes: [{ what: 'command', old: /one$/, new: /two$/ }] },
  },
  {
    change: 'the id of a secret',
    dockerfile: 'FROM BASE AS TAG\nRUN --mount=type=secret,id=one,target=/s echo TAG\n',
    apply: (context) => context.write('Dockerfile', context.text().replace('id=one', 'id=two')),
    step: 'echo TAG',
    expect: { reason: 'mount-changed', changes: [{ what: 'mount', name: '/s', old: /id=one/, new: /id=two/ }] },
  },
  {
    change: 'a cache mount',
    dockerfile: 'FROM BASE AS TAG\nRUN --mount=type=cache,target=/one echo TAG\n',
    apply: (context) => context.write('Dockerfile', context.text().replace('/one', '/two')),
    step: 'echo TAG',
    expect: {
      reason: 'mount-changed',
      changes: [
        { what: 'mount', name: '/one', new: undefined },
        { what: 'mount', name: '/two', old: undefined },
      ],
    },
  },
  {
    change: 'a file of a bind mount',
    dockerfile: 'FROM BASE AS TAG\nRUN --mount=target=/c,source=src cat /c/a; echo TAG\n',
    files: SRC,
    apply: (context) => context.write('src/a', 'A'),
    step: 'cat /c/a',
    expect: { reason: 'input-changed', changes: [{ what: 'file', name: 'src/a', old: SHA, new: SHA }] },
  },
  {
    change: 'the platform',
    dockerfile: 'FROM --platform=$TARGETPLATFORM scratch AS TAG\nCOPY src /TAG\n',
    files: SRC,
    args: [
      ['--opt', 'platform=linux/amd64'],
      ['--opt', 'platform=linux/arm64'],
    ],
    step: 'COPY src',
    expect: 'cached', // files are files
  },
];

for (const [at, one] of CASES.entries()) {
  test(`explain: ${one.change}`, { skip }, async () => {
    const tag = `case${at}`;
    const dockerfile = one.dockerfile.replaceAll('TAG', tag).replaceAll('BASE', base);
    await using context = await contextOf({ Dockerfile: dockerfile, ...one.files });
    const target = ['--opt', `target=${tag}`];
    const first = await built(context.dir, [...target, ...(one.args?.[0] ?? [])]);
    await one.apply?.(Object.assign(context, { text: () => dockerfile }) as Writable);
    const second = await built(context.dir, [...target, ...(one.args?.[1] ?? [])]);
    const explanation = await explain(second);
    assert.equal(explanation.against, first, JSON.stringify(explanation, null, 1));
    check(explanation, one, tag);
  });
}

function check(explanation: Explanation, { step: wanted, expect }: Pick<Case, 'step' | 'expect'>, tag: string): void {
  const step = explanation.steps.find(({ name }) => name.includes(wanted.replaceAll('TAG', tag)));
  const shown = JSON.stringify(explanation, null, 1);
  assert.ok(step, shown);
  if (expect === 'cached') return assert.ok(step.outcome === 'hit' || step.outcome === 'implied', shown);
  assert.deepEqual([step.outcome, step.reason], ['miss', expect.reason], shown);
  if (expect.because !== undefined)
    assert.match(step.because?.name ?? '', new RegExp(expect.because.source.replaceAll('TAG', tag)), shown);
  for (const wants of expect.changes ?? []) {
    const same = (value: string | undefined, pattern: string | RegExp | undefined): boolean =>
      pattern === undefined ? value === undefined : pattern instanceof RegExp ? pattern.test(value ?? '') : pattern === value;
    const found = step.changes?.some(
      (change) =>
        change.what === wants.what &&
        (wants.name === undefined || same(change.name.replaceAll(tag, 'TAG'), wants.name)) &&
        (!('old' in wants) || same(change.old, wants.old)) &&
        (!('new' in wants) || same(change.new, wants.new)),
    );
    assert.ok(found, `${JSON.stringify(wants)} is not in ${shown}`);
  }
  const files = step.changes?.filter(({ what }) => what === 'file').length ?? 0;
  const wantedFiles = expect.changes?.filter(({ what }) => what === 'file').length ?? 0;
  assert.equal(files, wantedFiles, shown);
}

/** Builds, changes, builds again. */
async function twice(tag: string, dockerfile: () => string, change: () => Promise<unknown>, files = {}): Promise<Explanation> {
  const args = ['--opt', `target=${tag}`];
  await using context = await contextOf({ Dockerfile: dockerfile(), ...files });
  const first = await built(context.dir, args);
  await change();
  context.write('Dockerfile', dockerfile());
  const explanation = await explain(await built(context.dir, args));
  assert.equal(explanation.against, first);
  return explanation;
}

test('explain: a base image that moved under its tag, and what follows from it', { skip }, async () => {
  const layer = await busyboxRootfs();
  const old = await pushImage(registry.host, 'moving', 'v1', [layer]);
  let now = '';
  const explanation = await twice(
    'moved',
    () => `FROM ${registry.host}/moving:v1 AS moved\nCOPY a /\nRUN echo moved 2\nRUN echo moved 3\n`,
    async () => {
      now = await pushImage(registry.host, 'moving', 'v1', [layer, layer]);
    },
    { a: 'a' },
  );
  const [cause] = explanation.causes;
  assert.equal(explanation.causes.length, 1, JSON.stringify(explanation, null, 1));
  assert.equal(cause?.reason, 'base-image-changed');
  const change = cause?.changes.find(({ what }) => what === 'base-image');
  assert.deepEqual([change?.old, change?.new, change?.name], [old, now, `${registry.host}/moving:v1`]);
  assert.equal(cause?.follows.length, 2);
});

test('explain: one file changed after a build in which nothing had to be looked up', { skip }, async () => {
  const dockerfile = `FROM ${base} AS quiet\nCOPY one /one\nCOPY src /src\nRUN sleep 0.2; echo quiet\nRUN wc /src/*\n`;
  await using context = await contextOf({ Dockerfile: dockerfile, one: '1', ...SRC });
  const args = ['--opt', 'target=quiet'];
  await built(context.dir, args);
  const quiet = await explain(await built(context.dir, args));
  assert.deepEqual([quiet.totals.misses, quiet.totals.implied], [0, 3]);
  assert.ok(quiet.totals.savedSeconds >= 0.2, JSON.stringify(quiet.totals));
  context.write('src/b', 'B');
  const { causes, against } = await explain(await built(context.dir, args));
  assert.equal(against, quiet.ref);
  assert.deepEqual(
    causes.map(({ reason, changes, follows }) => [reason, changes.map(({ name }) => name), follows.length]),
    [['input-changed', ['src/b'], 2]],
  );
});

test('explain: a git source that moved', { skip }, async () => {
  await using repository = await serveRepository();
  const old = repository.commit({ f: '1' });
  let now = '';
  const explanation = await twice(
    'git',
    () => `FROM ${base} AS git\nADD ${repository.url}#main /g\nRUN cat /g/f\n`,
    async () => {
      now = repository.commit({ f: '2' });
    },
  );
  check(
    explanation,
    {
      step: 'ADD git:',
      expect: {
        reason: 'source-moved',
        changes: [
          { what: 'source', old, new: now },
          { what: 'file', name: 'f', old: SHA, new: SHA },
        ],
      },
    },
    'git',
  );
});

test('explain: a file on a web server that changed', { skip }, async () => {
  let text = 'one';
  await using server = await startScriptedServer((_request, response) => void response.end(text));
  const explanation = await twice(
    'http',
    () => `FROM ${base} AS http\nADD ${server.url}/f /f\n`,
    async () => {
      text = 'two';
    },
  );
  const changes = [
    { what: 'source', old: SHA, new: SHA },
    { what: 'file', name: 'f', old: SHA, new: SHA },
  ] as const;
  check(explanation, { step: 'ADD http', expect: { reason: 'source-moved', changes } }, 'http');
});

test('explain: a result that was pruned, by what and when; also for the command, the span and the metric', { skip }, async () => {
  const explanation = await twice(
    'pruned',
    () => `FROM ${base} AS pruned\nRUN echo pruned >/p\n`,
    () => buildctl(daemon, ['prune', '--all']),
  );
  const [step] = explanation.steps;
  assert.deepEqual([step?.outcome, step?.reason], ['miss', 'evicted'], JSON.stringify(explanation, null, 1));
  assert.match(step?.summary ?? '', /^its result was evicted by prune.* at \d{4}-\d\d-\d\dT/);
  const told = await cooper('explain', explanation.ref);
  assert.equal(told.status, 0, told.stderr);
  assert.match(told.stdout, /1\. evicted: its result was evicted by prune/);
  assert.equal((await cooper('explain', explanation.ref, '--exit-code')).status, 1);
  assert.match((await cooper('explain', 'latest', 'echo pruned')).stdout, /missed, ran [\d.]+ s\n {2}evicted: /);
  const { spans } = JSON.parse((await daemon.ops(`/api/v1/builds/${explanation.ref}/trace`)).body) as {
    spans: { name: string; attributes: Record<string, unknown> }[];
  };
  const span = spans.find(({ name }) => name === step?.name);
  assert.equal(span?.attributes['cooper.cache.miss_detail'], step?.summary);
  assert.match((await daemon.ops('/metrics')).body, /cooper_cache_misses_total\{reason="evicted"\} [1-9]/);
});

test('explain: a remote cache that is down', { skip }, async () => {
  await using context = await contextOf({ Dockerfile: `FROM ${base} AS down\nRUN echo down 1\nRUN echo down 2\n` });
  const args = ['--opt', 'target=down', '--import-cache', 'type=registry,ref=127.0.0.1:9/none'];
  const { causes } = await explain(await built(context.dir, args));
  assert.deepEqual(
    causes.map(({ reason }) => reason),
    ['backend-down'],
  );
  assert.match(causes[0]?.summary ?? '', /127\.0\.0\.1:9/);
});

test('explain: keys that are made in another way, told after a restart', { skip }, async () => {
  await using context = await contextOf({ Dockerfile: `FROM ${base} AS format\nRUN echo format\n` });
  const args = ['--opt', 'target=format'];
  const first = await built(context.dir, args);
  await explain(first);
  const { root } = daemon;
  await daemon.kill('SIGTERM');
  rewriteAccounts(join(root, 'cooper.sqlite'), (account) => ({ ...account, keyFormat: 0 }));
  rewriteIndex(join(root, 'cooper.sqlite'));
  const again = await TestDaemon.start({ root });
  await using _ = again;
  const { status, stderr } = await buildDir(again, context.dir, args);
  assert.equal(status, 0, stderr);
  const { body } = await again.ops('/api/v1/builds?limit=1');
  const ref = (JSON.parse(body) as { builds: { ref: string }[] }).builds[0]?.ref;
  const explanation = JSON.parse((await again.ops(`/api/v1/builds/${ref}/explain`)).body) as Explanation;
  assert.equal(explanation.against, first);
  assert.equal(explanation.steps[0]?.reason, 'key-format-changed', JSON.stringify(explanation, null, 1));
});

/** As an older daemon would have left them. */
function rewriteAccounts(path: string, change: (account: object) => object): void {
  using store = new DatabaseSync(path);
  for (const { n, record } of store.prepare('select n, record from cache_accounts').all()) {
    const account = JSON.parse(inflateRawSync(record as Uint8Array).toString());
    store
      .prepare('update cache_accounts set record = ? where n = ?')
      .run(deflateRawSync(JSON.stringify(change(account))), n ?? 0);
  }
}
/** No key of an older daemon is found. */
function rewriteIndex(path: string): void {
  using store = new DatabaseSync(path);
  store.exec('delete from cache_results; delete from cache_links; delete from cache_names');
}
