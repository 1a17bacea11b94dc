import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../../core/clock.ts';
import { BuildError, cancelled } from '../../core/errors.ts';
import { keyFor, linkAll, rootKey } from './keys.ts';
import {
  type Call,
  contentOf,
  evaluate,
  graphOf,
  Latches,
  MemoryOps,
  openRig,
  outputOf,
  step,
  story,
  Values,
} from './solver.test-rig.ts';
import { StepReporter } from './step-reporter.ts';

const never = new AbortController().signal;
const isRun = ({ what }: Call): boolean => what === 'run';

/** base ◄ copy(base, context by content) ◄ compile ◄ image */
function small(context: () => string, salt = '') {
  const base = step({ name: 'base', content: () => 'debian' });
  const files = step({ name: 'context', content: context, ephemeral: true, salt });
  const copy = step({ name: 'copy', kind: 'file', inputs: [base, files], byContent: [1] });
  const compile = step({ name: 'compile', inputs: [copy] });
  return { base, files, copy, compile };
}

test('a first build runs every step once, in an order that respects inputs, and says why each was not cached', async () => {
  await using rig = openRig();
  const { base, files, copy, compile } = small(() => 'a');
  const { value, events } = await rig.build(compile);
  assert.equal(value, evaluate(compile));
  assert.deepEqual([...rig.ops.runs], [...new Map(['base', 'context', 'copy', 'compile'].map((name) => [name, 1]))]);
  assert.deepEqual(story(events, base), ['started for key', 'key executed', 'missed: never-seen', 'started', 'executed']);
  assert.deepEqual(story(events, files), ['started for key', 'key executed', 'missed: unpinned-source', 'started', 'executed']);
  assert.deepEqual(story(events, copy), ['missed: never-seen', 'started', 'executed']);
  const announced = events[0];
  assert.ok(announced?.type === 'steps-announced');
  assert.deepEqual(
    announced.steps.map(({ name }) => name),
    ['compile', 'copy', 'context', 'base'],
  );
});

test('an equal second build evaluates only the context, and every other step is cached', async () => {
  await using rig = openRig();
  await rig.build(small(() => 'a', 'session 1').compile);
  const again = small(() => 'a', 'session 2');
  const { value, events } = await rig.build(again.compile);
  assert.equal(value, evaluate(again.compile));
  assert.deepEqual(Object.fromEntries(rig.ops.runs), { base: 1, context: 2, copy: 1, compile: 1 });
  for (const edge of [again.copy, again.compile]) assert.deepEqual(story(events, edge), ['hit', 'started', 'cached']);
  assert.deepEqual(story(events, again.base), ['started for key', 'key executed']); // its key was enough
});

test('a change in the context runs what reads it, and says that the input changed', async () => {
  await using rig = openRig();
  await rig.build(small(() => 'a', '1').compile);
  const changed = small(() => 'b', '2');
  const { value, events } = await rig.build(changed.compile);
  assert.equal(value, evaluate(changed.compile));
  assert.deepEqual(story(events, changed.copy), ['missed: input-changed', 'started', 'executed']);
  assert.deepEqual(story(events, changed.base), ['started for key', 'key executed', 'hit', 'started', 'cached']);
  const miss = events.find((event) => event.type === 'cache-lookup' && !event.hit && event.reason === 'input-changed');
  assert.ok(miss?.type === 'cache-lookup' && !miss.hit);
  assert.equal(miss.detail, 'context');
});

test('a step whose input was run again with the same content is found by that content', async () => {
  await using rig = openRig();
  const sourceOf = (tail: string) => step({ name: 'make', inputs: [step({ name: 'src', content: () => `x~${tail}` })] });
  const image = (tail: string) => step({ name: 'pack', inputs: [sourceOf(tail)], byContent: [0] });
  await rig.build(image('one'));
  const second = image('two');
  await rig.build(second);
  assert.deepEqual(Object.fromEntries(rig.ops.runs), { src: 2, make: 2, pack: 1 });
  // What was learnt by content is found by definition from now on: nothing but the source's key is needed.
  const { events } = await rig.build(second);
  assert.deepEqual(Object.fromEntries(rig.ops.runs), { src: 2, make: 2, pack: 1 });
  assert.deepEqual(story(events, second), ['hit', 'started', 'cached']);
});

test('a result that was collected is a miss that says so, and the step runs again', async () => {
  await using rig = openRig();
  const { compile, copy } = small(() => 'a', '1');
  await rig.build(compile);
  rig.values.evict(evaluate(compile));
  const again = small(() => 'a', '2');
  const { value, events } = await rig.build(again.compile);
  assert.equal(value, evaluate(again.compile));
  assert.deepEqual(story(events, again.compile), ['missed: evicted', 'started', 'executed']);
  assert.deepEqual(story(events, again.copy), ['hit', 'started', 'cached']);
  assert.equal(rig.ops.runs.get(copy.vertex.name), 1);
});

test('a result in the middle may be gone as long as what was made of it is there', async () => {
  await using rig = openRig();
  const { compile, copy } = small(() => 'a', '1');
  await rig.build(compile);
  rig.values.evict(evaluate(copy));
  await rig.build(small(() => 'a', '2').compile);
  assert.deepEqual(Object.fromEntries(rig.ops.runs), { base: 1, context: 2, copy: 1, compile: 1 });
});

test('an image known by its layers is not fetched again under another manifest', async () => {
  await using rig = openRig();
  const image = (manifest: string) =>
    step({
      name: 'run',
      inputs: [step({ name: 'image', salt: manifest, content: () => manifest, alsoKnownAs: () => 'layers' })],
    });
  await rig.build(image('first'));
  await rig.build(image('second'));
  assert.deepEqual(Object.fromEntries(rig.ops.runs), { image: 1, run: 1 });
});

test('two builds at once of the same step run it once, and both are told everything', async () => {
  const latches = new Latches((call) => isRun(call) && call.name === 'compile');
  await using rig = openRig({ gate: latches.gate });
  const { compile } = small(() => 'a');
  const builds = [rig.build(compile, 'one'), rig.build(compile, 'two')];
  const { call, open } = await latches.next('compile');
  assert.deepEqual(call.context.sessions(), ['session of one', 'session of two']);
  open();
  const [one, two] = await Promise.all(builds);
  assert.equal(rig.ops.runs.get('compile'), 1);
  assert.equal(one?.value, two?.value);
  assert.deepEqual(story(one?.events ?? [], compile), ['missed: never-seen', 'started', 'executed']);
  assert.deepEqual(story(two?.events ?? [], compile), story(one?.events ?? [], compile));
});

test('equal steps of different graphs share one run when their inputs turn out to hold the same', async () => {
  const latches = new Latches((call) => isRun(call) && call.name === 'copy');
  await using rig = openRig({ gate: latches.gate });
  const [mine, yours] = [small(() => 'a', 'my session'), small(() => 'a', 'your session')];
  assert.notEqual(mine.copy.vertex.digest, yours.copy.vertex.digest);
  const first = rig.build(mine.compile);
  const { open } = await latches.next('copy');
  await using second = rig.job('second');
  second.job.load(graphOf(yours.compile));
  const result = second.job.build(yours.compile, never);
  while (!story(second.events, yours.copy).includes('started')) await new Promise((resolve) => setImmediate(resolve));
  open();
  await using _made = await result;
  await first;
  assert.deepEqual(Object.fromEntries(rig.ops.runs), { base: 1, context: 2, copy: 1, compile: 1 });
});

test('a build that joins late is told what it missed, with the output so far', async () => {
  const latches = new Latches((call) => isRun(call) && call.name === 'compile');
  await using rig = openRig({ gate: latches.gate });
  const { compile, base } = small(() => 'a');
  const first = rig.build(compile);
  const { call, open } = await latches.next('compile');
  call.context.progress.log(1, Buffer.from('hello '));
  call.context.progress.log(1, Buffer.from('world'));
  call.context.progress.log(2, Buffer.from('!')); // the other stream: what is buffered goes out first
  await using late = rig.job('late');
  late.job.load(graphOf(compile));
  assert.deepEqual(story(late.events, compile), ['missed: never-seen', 'started', 'log hello world']);
  assert.deepEqual(story(late.events, base), ['started for key', 'key executed', 'missed: never-seen', 'started', 'executed']);
  assert.equal(late.events[0]?.type, 'steps-announced');
  const result = late.job.build(compile, never);
  open();
  await using _made = await result;
  await first;
  assert.deepEqual(story(late.events, compile).slice(2), ['log hello world', 'log !', 'executed']);
});

test('a failure names its vertex, stops its siblings, and is not remembered by the next build', async () => {
  let broken = true;
  const latches = new Latches((call) => isRun(call) && call.name === 'slow');
  await using rig = openRig({
    async gate(call) {
      if (isRun(call) && call.name === 'compile' && broken) throw new BuildError('step-failed', 'exit code: 1', { exitCode: 1 });
      await latches.gate(call);
    },
  });
  const { compile, base } = small(() => 'a');
  const slow = step({ name: 'slow', inputs: [base] });
  const image = step({ name: 'image', inputs: [slow, compile] });
  {
    await using watched = rig.job();
    watched.job.load(graphOf(image));
    const error = await watched.job.build(image, never).catch((thrown: unknown) => thrown);
    assert.ok(error instanceof BuildError);
    assert.deepEqual([error.kind, error.detail.vertex, error.detail.exitCode], ['step-failed', compile.vertex.digest, 1]);
    await watched.job.dispose();
    assert.deepEqual(story(watched.events, compile).slice(-1), ['step-failed']);
    assert.deepEqual(story(watched.events, slow).slice(-1), ['cancelled']);
    assert.deepEqual(story(watched.events, image), []);
    const stopped = watched.events.find((event) => event.type === 'step-finished' && event.outcome === 'cancelled');
    assert.ok(stopped?.type === 'step-finished' && stopped.error?.endsWith('context canceled'));
  }
  broken = false;
  const again = rig.build(image);
  (await latches.next('slow')).open(); // the call that was aborted
  (await latches.next('slow')).open();
  assert.equal((await again).value, evaluate(image));
});

test('a build that joins a failed vertex while the failed build still lingers gets a run of its own', async () => {
  let broken = true;
  await using rig = openRig({
    gate({ what, name }) {
      if (what === 'run' && name === 'compile' && broken) throw new BuildError('unavailable', 'registry does not answer');
    },
  });
  const { compile } = small(() => 'a');
  await using failed = rig.job();
  failed.job.load(graphOf(compile));
  await assert.rejects(failed.job.build(compile, never), { kind: 'unavailable' });
  await assert.rejects(failed.job.build(compile, never), { kind: 'unavailable' }); // the same build is told the same
  assert.equal(rig.ops.runs.get('compile'), 1);
  broken = false;
  assert.equal((await rig.build(compile)).value, evaluate(compile));
});

test('a step is cancelled when the last build that wants it goes, not before', async () => {
  const latches = new Latches((call) => isRun(call) && call.name === 'compile');
  await using rig = openRig({ gate: latches.gate });
  const { compile } = small(() => 'a');
  const [one, two] = [rig.job('one'), rig.job('two')];
  const abort = new AbortController();
  for (const { job } of [one, two]) job.load(graphOf(compile));
  const wanted = one.job.build(compile, abort.signal);
  const kept = two.job.build(compile, never);
  const { call, open } = await latches.next('compile');
  abort.abort(cancelled());
  await assert.rejects(wanted, { kind: 'cancelled' });
  await one.job.dispose();
  assert.equal(call.context.signal.aborted, false);
  assert.deepEqual(story(one.events, compile).slice(-1), ['cancelled']); // for this build it is over
  open();
  await using _result = await kept;
  assert.deepEqual(story(two.events, compile), ['missed: never-seen', 'started', 'executed']);

  const alone = rig.job('alone');
  const other = step({ name: 'compile', salt: 'other', inputs: [small(() => 'b', 'b').copy] });
  alone.job.load(graphOf(other));
  const lost = alone.job.build(other, never);
  const second = await latches.next('compile');
  const disposed = alone.job.dispose();
  assert.equal(second.call.context.signal.aborted, true);
  await assert.rejects(lost, { kind: 'cancelled' });
  await disposed;
  await two.job.dispose();
});

test('the run that others follow goes on when the build that began it goes away', async () => {
  const latches = new Latches((call) => isRun(call) && call.name === 'copy');
  await using rig = openRig({ gate: latches.gate });
  const [mine, yours] = [small(() => 'a', 'mine'), small(() => 'a', 'yours')];
  const first = rig.job('first');
  first.job.load(graphOf(mine.compile));
  const lost = first.job.build(mine.compile, never);
  const { open } = await latches.next('copy');
  await using second = rig.job('second');
  second.job.load(graphOf(yours.compile));
  const kept = second.job.build(yours.compile, never);
  while (!story(second.events, yours.copy).includes('started')) await new Promise((resolve) => setImmediate(resolve));
  const disposed = first.job.dispose();
  await assert.rejects(lost, { kind: 'cancelled' });
  await disposed;
  open();
  await using result = await kept;
  assert.equal(rig.values.of(result), evaluate(yours.compile));
  assert.equal(rig.ops.runs.get('copy'), 1);
});

test('a failure of a shared run fails every build that follows it, once, each with its own vertex', async () => {
  const latches = new Latches((call) => isRun(call) && call.name === 'copy');
  await using rig = openRig({
    async gate(call) {
      await latches.gate(call);
      if (isRun(call) && call.name === 'copy') throw new BuildError('step-failed', 'exit code: 3');
    },
  });
  const [mine, yours] = [small(() => 'a', 'mine'), small(() => 'a', 'yours')];
  const first = rig.build(mine.compile).catch((error: unknown) => error);
  const { open } = await latches.next('copy');
  await using second = rig.job('second');
  second.job.load(graphOf(yours.compile));
  const failed = second.job.build(yours.compile, never).catch((error: unknown) => error);
  while (!story(second.events, yours.copy).includes('started')) await new Promise((resolve) => setImmediate(resolve));
  open();
  for (const [error, edge] of [
    [await first, mine.copy],
    [await failed, yours.copy],
  ] as const) {
    assert.ok(error instanceof BuildError);
    assert.deepEqual([error.kind, error.detail.vertex], ['step-failed', edge.vertex.digest]);
  }
  assert.equal(rig.ops.runs.get('copy'), 1);
});

test('a result that another build stored while this one evaluated its inputs is used', async () => {
  const latches = new Latches(
    (call) => isRun(call) && call.name === 'base' && call.context.sessions().includes('session of slow'),
  );
  await using rig = openRig({ gate: latches.gate });
  const { base, compile, copy } = small(() => 'a', 'one');
  await rig.build(copy);
  for (const edge of [base, copy]) rig.values.evict(evaluate(edge)); // their keys stay known, with no result
  await using slow = rig.job('slow');
  slow.job.load(graphOf(compile));
  const result = slow.job.build(compile, never);
  const { open } = await latches.next('base');
  const other = small(() => 'a', 'two');
  const salted = step({ name: 'compile', salt: 'two', inputs: [other.copy] });
  const meanwhile = rig.build(salted);
  open();
  await using _made = await result;
  await meanwhile;
  assert.deepEqual(Object.fromEntries(rig.ops.runs), { base: 2, context: 2, copy: 2, compile: 1 });
});

test('a step that is to ignore the cache runs, stores what it made, and is joined by builds that do not ask for that', async () => {
  const latches = new Latches((call) => isRun(call) && call.name === 'date');
  await using rig = openRig({ gate: latches.gate });
  const base = step({ name: 'base', content: () => 'debian' });
  const date = (ignoreCache: boolean) => step({ name: 'date', inputs: [base], ignoreCache });
  const cached = rig.build(date(false));
  (await latches.next('date')).open();
  await cached;

  await using normal = rig.job('normal');
  normal.job.load(graphOf(date(false)));
  await using forced = rig.job('forced');
  const anew = date(true);
  forced.job.load(graphOf(anew));
  const announced = forced.events[0];
  assert.ok(announced?.type === 'steps-announced');
  assert.notEqual(announced.steps[0]?.step, anew.vertex.digest); // a vertex of its own beside the one that may be cached
  const result = forced.job.build(anew, never);
  (await latches.next('date')).open();
  await using _made = await result;
  assert.deepEqual(story(forced.events, anew), ['missed: no-cache-asked', 'started', 'executed']);
  assert.equal(rig.ops.runs.get('date'), 2);

  await using joined = rig.job('joined');
  joined.job.load(graphOf(date(false)));
  await using _same = await joined.job.build(date(false), never).catch(async () => {
    const mine = graphOf(date(false));
    joined.job.load(mine);
    return await joined.job.build(mine.root as never, never);
  });
  assert.equal(rig.ops.runs.get('date'), 2);
});

test('outputs of one run are all kept, and asking for a second one later runs nothing', async () => {
  await using rig = openRig();
  const base = step({ name: 'base', content: () => 'debian' });
  const two = step({ name: 'two', inputs: [base], outputs: 2 });
  const image = step({ name: 'image', inputs: [outputOf(two, 1)] });
  assert.equal((await rig.build(two)).value, 'two(base=debian)');
  assert.equal((await rig.build(image)).value, 'image(two(base=debian)#1)');
  assert.equal(rig.ops.runs.get('two'), 1);
});

test('nothing runs before a build asks for a result', async () => {
  await using rig = openRig();
  await using watched = rig.job();
  watched.job.load(graphOf(small(() => 'a').compile));
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(rig.ops.runs.size, 0);
  assert.deepEqual(
    watched.events.map(({ type }) => type),
    ['steps-announced'],
  );
});

test('an op that has fewer outputs than are wanted fails the build instead of hanging it', async () => {
  await using rig = openRig();
  const one = step({ name: 'one', inputs: [step({ name: 'base', content: () => 'debian' })] });
  await assert.rejects(rig.build(outputOf(one, 3)), { kind: 'internal', message: /output 3 is wanted but 1 were made/ });
});

test('a key that cannot be found out fails the build with what was tried', async () => {
  await using rig = openRig({
    gate({ what, name }) {
      if (what === 'content' && name === 'copy') throw new BuildError('not-found', '"/nosuch": not found');
      if (what === 'map' && name === 'gone') throw new BuildError('not-found', 'no such image');
    },
  });
  const { copy } = small(() => 'a');
  await assert.rejects(rig.build(copy), {
    kind: 'not-found',
    message: 'failed to compute cache key: "/nosuch": not found',
    detail: { vertex: copy.vertex.digest },
  });
  await assert.rejects(rig.build(step({ name: 'gone', content: () => '' })), {
    message: 'failed to load cache key: no such image',
  });
});

test('content of the value is what the tests think it is', () => assert.equal(contentOf('a(b~c)'), 'a(b'));

test('a cached chain of 60 steps is found in a few milliseconds', async (t) => {
  await using rig = openRig();
  const chain = () => {
    let last = step({ name: 'base', content: () => 'debian' });
    for (let n = 0; n < 60; n += 1) last = step({ name: `run ${n}`, inputs: [last] });
    return last;
  };
  await rig.build(chain());
  const times: number[] = [];
  for (let round = 0; round < 9; round += 1) {
    const root = chain();
    const startMs = performance.now();
    await rig.build(root);
    times.push(performance.now() - startMs);
  }
  const median = times.sort((a, b) => a - b)[4] ?? 0;
  t.diagnostic(`median ${median.toFixed(2)} ms`);
  assert.ok(median < 50, `${median} ms`);
});

/** A chain whose values stay short: each step reads the content of the one before, which is empty. */
function chainOf(length: number) {
  let last = step({ name: '~0', content: () => 'x' });
  for (let n = 1; n < length; n += 1) last = step({ name: `~${n}`, inputs: [last], byContent: [0] });
  return last;
}

test('a graph of 12 000 vertices is run without a deep stack, giving way to others meanwhile', async (t) => {
  await using rig = openRig();
  const last = chainOf(12_000);
  await using watched = rig.job('large', { sink: { emit() {} } });
  watched.job.load(graphOf(last));
  let turns = 0;
  const probe = setInterval(() => {
    turns += 1;
  }, 1);
  const startMs = performance.now();
  await using _result = await watched.job.build(last, never);
  clearInterval(probe);
  t.diagnostic(`${(performance.now() - startMs).toFixed(0)} ms, ${turns} turns for others`);
  assert.equal(rig.ops.runs.size, 12_000);
  assert.ok(turns > 10, `others had ${turns} turns`);
});

test('a graph of 100 000 vertices of which the last is cached evaluates nothing', async (t) => {
  const values = new Values();
  await using rig = openRig({ values });
  const last = chainOf(100_000);
  const graph = graphOf(last);
  const ops = new MemoryOps(values);
  const context = { signal: never, sessions: () => [], progress: new StepReporter({} as never, [], systemClock()).progress };
  let key = '';
  for (const vertex of graph.vertices.toReversed()) {
    const { map } = await ops.resolve(vertex).cacheMap(context, 0);
    const [input] = map.inputs;
    const names = input === undefined ? [] : [{ keys: [key], selector: input.selector, contentKey: undefined }];
    const of = { digest: map.digest, output: 0 };
    key = input === undefined ? rootKey(map.digest, 0, false) : keyFor(rig.index, of, names);
    linkAll(rig.index, of, names, key);
  }
  await using stored = values.make('the end');
  rig.index.addResult(key, { id: stored.id, createdAtNs: 1n });
  const startMs = performance.now();
  await using watched = rig.job('large', { sink: { emit() {} } });
  watched.job.load(graph);
  await using result = await watched.job.build(last, never);
  t.diagnostic(`${(performance.now() - startMs).toFixed(0)} ms`);
  assert.equal(values.of(result), 'the end');
  assert.equal(rig.ops.runs.size, 0);
});
