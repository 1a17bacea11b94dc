import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { cacheDigestOf } from '../../core/digest.ts';
import { openMetadata } from '../metadata/metadata.ts';
import { type CacheLink, EPHEMERAL } from '../solver/ports.ts';
import { evaluate, openRig, step, story, Values } from '../solver/solver.test-rig.ts';
import { type KeyIndex, memoryKeyIndex, openKeyIndex } from './key-index.ts';

const tempDir = () => mkdtempDisposable(join(tmpdir(), 'cooper-keys-'));
const digest = cacheDigestOf('run make');
const selector = cacheDigestOf('/src');
const link = (more: Partial<CacheLink> = {}): CacheLink => ({ digest, input: 0, output: 0, ...more });

/** What an index knows of the keys used here. */
const knowledge = (index: KeyIndex) => ({
  plain: index.linked('base', link()),
  selected: index.linked('base', link({ selector })),
  second: index.linked('base', link({ input: 1 })),
  results: index.results('made'),
  had: ['made', 'gone', 'base'].map((key) => index.hadResult(key)),
  seen: [index.seen(digest), index.seen(cacheDigestOf('other'))],
});
function fill(index: KeyIndex): void {
  index.addLink('base', link(), 'made');
  index.addLink('base', link(), 'made'); // repeating it changes nothing
  index.addLink('base', link(), 'gone');
  index.addLink('base', link({ selector }), 'made');
  index.addResult('made', { id: 'old', createdAtNs: 1n });
  index.addResult('made', { id: 'new', createdAtNs: 2n ** 60n });
  index.addResult('made', { id: undefined, createdAtNs: 2n });
  index.addResult('gone', { id: 'lost', createdAtNs: 3n });
  index.forgetResult('gone', 'lost');
}
const FILLED = {
  plain: ['made', 'gone'],
  selected: ['made'],
  second: [],
  had: [true, true, false],
  seen: [true, false],
};

test('links and results are found by key, op, input, output and selector, the newest result first', () => {
  const index = memoryKeyIndex();
  fill(index);
  const { results, ...rest } = knowledge(index);
  assert.deepEqual(rest, FILLED);
  assert.deepEqual(
    results.map(({ id }) => id),
    [undefined, 'new', 'old'],
  );
});

test('everything is there after closing and opening again, except what belongs to one session', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'cooper.sqlite');
  {
    await using metadata = await openMetadata(path);
    const index = await openKeyIndex(metadata);
    fill(index);
    index.addLink(`${EPHEMERAL}local`, link(), 'made');
    index.addResult(`${EPHEMERAL}local`, { id: 'context', createdAtNs: 4n });
    assert.deepEqual(index.linked(`${EPHEMERAL}local`, link()), ['made']);
  }
  await using metadata = await openMetadata(path);
  const index = await openKeyIndex(metadata);
  const { results, ...rest } = knowledge(index);
  assert.deepEqual(rest, FILLED);
  assert.deepEqual(results, [
    { id: 'new', createdAtNs: 2n ** 60n },
    { id: undefined, createdAtNs: 2n },
    { id: 'old', createdAtNs: 1n },
  ]);
  assert.deepEqual(index.linked(`${EPHEMERAL}local`, link()), []);
  const names = await metadata.read("select count(*) as count from cache_names where text like 'ephemeral%'", []);
  assert.deepEqual(names, [{ count: 0 }]);
});

test('at the bound the links used longest ago go, with everything only they led to', async () => {
  await using dir = await tempDir();
  await using metadata = await openMetadata(join(dir.path, 'cooper.sqlite'));
  const index = await openKeyIndex(metadata, { maxLinks: 3 });
  for (const n of [1, 2, 3]) {
    index.addLink('base', link({ output: n }), `made ${n}`);
    index.addResult(`made ${n}`, { id: `r${n}`, createdAtNs: BigInt(n) });
  }
  index.linked('base', link({ output: 1 })); // used just now
  index.addLink('base', link({ output: 4 }), 'made 4');
  assert.deepEqual(
    [1, 2, 3, 4].map((output) => index.linked('base', link({ output })).length),
    [1, 0, 1, 1],
  );
  assert.deepEqual(index.results('made 2'), []);
  assert.deepEqual(index.size, { links: 3, keysWithResults: 2 });
  const rows = await metadata.read(
    `select (select count(*) from cache_links) as links, (select count(*) from cache_results) as results,
       (select count(*) from cache_names where text = 'made 2') as dropped`,
    [],
  );
  assert.deepEqual(rows, [{ links: 3, results: 2, dropped: 0 }]);
});

test('a result that is collected is forgotten under all its keys, and a key keeps only its newest results', () => {
  const index = memoryKeyIndex();
  for (const key of ['manifest', 'layers']) index.addResult(key, { id: 'image', createdAtNs: 1n });
  index.addLink('manifest', link(), 'made');
  index.removed('image');
  assert.deepEqual([index.results('manifest'), index.results('layers')], [[], []]);
  assert.equal(index.hadResult('manifest'), true);
  for (let n = 0; n < 10; n += 1) index.addResult('made', { id: `r${n}`, createdAtNs: BigInt(n) });
  assert.deepEqual(
    index.results('made').map(({ id }) => id),
    ['r9', 'r8', 'r7', 'r6'],
  );
  index.removed('r0'); // dropped long ago
});

test('keys of sessions are bounded by themselves', () => {
  const index = memoryKeyIndex({ maxEphemeralKeys: 2 });
  for (let n = 0; n < 5; n += 1) index.addResult(`${EPHEMERAL}${n}`, { id: `r${n}`, createdAtNs: BigInt(n) });
  assert.equal(index.size.keysWithResults, 2);
  assert.equal(index.results(`${EPHEMERAL}4`).length, 1);
});

test('after kill -9 every chain that was reported committed is found, and none is torn', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'cooper.sqlite');
  let reported = 0;
  for (let round = 0; round < 2; round += 1) {
    const child = spawn(process.execPath, [join(import.meta.dirname, 'key-index.test-child.ts'), path, String(reported)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    for await (const chunk of child.stdout) {
      output += String(chunk);
      if (output.split('\n').length > 25 + 13 * round) break;
    }
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    reported = Number(output.trimEnd().split('\n').at(-1));

    await using metadata = await openMetadata(path);
    const index = await openKeyIndex(metadata);
    for (let n = 1; n <= reported; n += 1) {
      assert.deepEqual(index.linked(`key ${n - 1}`, link({ digest: cacheDigestOf(`op ${n}`) })), [`key ${n}`]);
      assert.deepEqual(index.results(`key ${n}`), [{ id: `result ${n}`, createdAtNs: BigInt(n) }]);
    }
  }
});

test('the second build after a restart is all cached', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'cooper.sqlite');
  const values = new Values();
  const graph = (session: string) => {
    const base = step({ name: 'base', content: () => 'debian' });
    const files = step({ name: 'context', content: () => 'a', ephemeral: true, salt: session });
    const copy = step({ name: 'copy', kind: 'file', inputs: [base, files], byContent: [1] });
    return { base, files, copy, compile: step({ name: 'compile', inputs: [copy] }) };
  };
  {
    await using metadata = await openMetadata(path);
    await using rig = openRig({ values, index: await openKeyIndex(metadata) });
    await rig.build(graph('first').compile);
  }
  await using metadata = await openMetadata(path);
  await using rig = openRig({ values, index: await openKeyIndex(metadata) });
  const second = graph('second');
  const { value, events } = await rig.build(second.compile);
  assert.equal(value, evaluate(second.compile));
  assert.deepEqual(Object.fromEntries(rig.ops.runs), { context: 1 });
  for (const edge of [second.copy, second.compile]) assert.deepEqual(story(events, edge), ['hit', 'started', 'cached']);
});
