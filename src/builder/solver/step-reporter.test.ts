import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VertexDigest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { BuildEvent } from '../events.ts';
import { StepReporter, type Subscriber } from './step-reporter.ts';

const FACTS = { keys: [], inputs: [] };
let now = 0n;
const clock = { nowNs: () => ++now };
const info = (name: string) => ({ step: name as VertexDigest, name, op: 'exec', inputs: [], cacheable: true }) as const;

function watcher(build: string): Subscriber & { readonly events: BuildEvent[]; lines(): string[] } {
  const events: BuildEvent[] = [];
  const sink = { emit: (event: BuildEvent) => events.push(event) };
  const lineOf = (event: BuildEvent): string => {
    const step = 'step' in event ? event.step : '';
    if (event.type === 'step-log') return `${step} log ${event.stream} ${Buffer.from(event.data)}`;
    if (event.type === 'step-status')
      return `${step} ${event.id} ${event.current}/${event.total}${event.completedAtNs === undefined ? '' : ' done'}`;
    if (event.type === 'step-finished') return `${step} ${event.outcome}${event.error === undefined ? '' : `: ${event.error}`}`;
    return `${step} ${event.type}`;
  };
  return { build, sink, events, lines: () => events.map(lineOf) };
}

test('output is joined up to 64 KiB and never reordered between the streams', () => {
  const reporter = new StepReporter(info('run'), [], clock);
  const me = watcher('me');
  reporter.subscribe(me);
  reporter.started('run');
  for (let n = 0; n < 1_000; n += 1) reporter.progress.log(1, Buffer.alloc(100, 'x'));
  reporter.progress.log(2, Buffer.from('err'));
  reporter.progress.log(1, Buffer.from('out'));
  reporter.finished('run');
  const logs = me.events.filter((event) => event.type === 'step-log');
  assert.deepEqual(
    logs.map(({ stream, data }) => [stream, data.byteLength]),
    [
      [1, 65_536],
      [1, 34_464],
      [2, 3],
      [1, 3],
    ],
  );
  assert.equal(me.lines().at(-1), 'run executed');
});

test('output that is held back goes out by itself after 20 ms', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const reporter = new StepReporter(info('run'), [], clock);
  const me = watcher('me');
  reporter.subscribe(me);
  reporter.progress.log(1, Buffer.from('a'));
  reporter.progress.log(1, Buffer.from('b'));
  assert.deepEqual(me.lines(), []);
  t.mock.timers.tick(20);
  assert.deepEqual(me.lines(), ['run log 1 ab']);
});

test('a late build is told the end of a long output, the last state of each line, and no output of a step that ended', () => {
  const reporter = new StepReporter(info('run'), [], clock);
  reporter.started('run');
  const line = reporter.progress.status('pulling', { total: 10 });
  for (let n = 0; n < 100; n += 1) reporter.progress.log(1, Buffer.alloc(10_000, n));
  reporter.progress.log(2, Buffer.from('last'));
  line.done();
  const late = watcher('late');
  reporter.subscribe(late);
  const bytes = late.events.reduce((sum, event) => (event.type === 'step-log' ? sum + event.data.byteLength : sum), 0);
  assert.ok(bytes > 128 * 1024 && bytes <= 256 * 1024, `${bytes} bytes`);
  assert.deepEqual(
    late.lines().filter((text) => text.includes('pulling')),
    ['run pulling 0/10 done'],
  );
  reporter.progress.log(1, Buffer.from('more'));
  reporter.finished('run');
  const later = watcher('later');
  reporter.subscribe(later);
  assert.deepEqual(later.lines(), ['run step-started', 'run pulling 0/10 done', 'run executed']);
});

test('a progress line that grows fast is told ten times a second, and its end always', () => {
  const reporter = new StepReporter(info('run'), [], clock);
  const me = watcher('me');
  reporter.subscribe(me);
  const line = reporter.progress.status('transferring');
  for (let n = 1; n <= 1_000; n += 1) line.update(n);
  now += 100_000_000n;
  line.update(1_001, 2_000);
  line.update(2_000);
  line.done();
  assert.deepEqual(me.lines(), ['run transferring 0/0', 'run transferring 1001/2000', 'run transferring 2000/2000 done']);
});

test('inputs that nobody touched are cached with what was found of them, once and before it', () => {
  const base = new StepReporter(info('base'), [], clock);
  const left = new StepReporter(info('left'), [base], clock);
  const right = new StepReporter(info('right'), [base], clock);
  const top = new StepReporter(info('top'), [left, right], clock);
  const me = watcher('me');
  for (const reporter of [base, left, right, top]) reporter.subscribe(me);
  left.hit('local', FACTS, undefined);
  top.hit('local', FACTS, undefined);
  const finished = me.lines().filter((line) => line.endsWith('cached'));
  assert.deepEqual(finished, ['base cached', 'left cached', 'right cached', 'top cached']);
});

test('a cached input ends before what was made of it, so that clients which sort by time show it first', () => {
  const chain: StepReporter[] = [];
  for (const name of ['a', 'b', 'c']) chain.push(new StepReporter(info(name), chain.slice(-1), clock));
  const me = watcher('me');
  for (const reporter of chain) reporter.subscribe(me);
  chain.at(-1)?.hit('local', FACTS, undefined);
  const times = me.events.flatMap((event) => (event.type === 'step-finished' ? [event.atNs] : []));
  assert.equal(times.length, 3);
  assert.ok(
    times.every((time, n) => n === 0 || time > (times[n - 1] ?? 0n)),
    times.join(),
  );
});

test('a step that fails before it runs says nothing of its inputs', () => {
  const base = new StepReporter(info('base'), [], clock);
  const top = new StepReporter(info('top'), [base], clock);
  const me = watcher('me');
  for (const reporter of [base, top]) reporter.subscribe(me);
  top.failed(new BuildError('not-found', '"/nosuch": not found'));
  assert.deepEqual(me.lines(), ['top step-started', 'top not-found: "/nosuch": not found']);
});

test('a build that ends is told that its open steps are cancelled; others are not', () => {
  const reporter = new StepReporter(info('run'), [], clock);
  const [one, two] = [watcher('one'), watcher('two')];
  reporter.subscribe(one);
  reporter.subscribe(two);
  reporter.started('run');
  reporter.unsubscribe(one);
  reporter.finished('run');
  reporter.unsubscribe(two);
  assert.deepEqual(one.lines(), ['run step-started', 'run cancelled: context canceled']);
  assert.deepEqual(two.lines(), ['run step-started', 'run executed']);
});

test('the text of an aborted step ends as clients expect it', () => {
  const reporter = new StepReporter(info('run'), [], clock);
  const me = watcher('me');
  reporter.subscribe(me);
  for (const text of ['exit code: 137', 'exit code: 137: context canceled']) {
    reporter.started('run');
    reporter.finished('run', new BuildError('cancelled', text));
  }
  assert.deepEqual(
    me.lines().filter((line) => line.includes(':')),
    Array(2).fill('run cancelled: exit code: 137: context canceled'),
  );
});

test('what a follower is told is what its leader goes through, from the beginning', () => {
  const [leader, follower] = ['mine', 'yours'].map((name) => new StepReporter(info(name), [], clock));
  assert.ok(leader !== undefined && follower !== undefined);
  const me = watcher('me');
  follower.subscribe(me);
  leader.started('run');
  follower.follow(leader);
  leader.progress.log(1, Buffer.from('hello'));
  leader.finished('run');
  follower.unfollow(leader);
  assert.deepEqual(me.lines(), ['yours step-started', 'yours log 1 hello', 'yours executed']);
});
