/** Accounts by hand, for what a real build reaches only with luck; the real ones are in test/e2e/explain.test.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fc } from '../../../test/fixtures/property.ts';
import type { MissCause } from '../events.ts';
import { Comparison, causeAlone } from './compare.ts';
import { explanationOf } from './explanation.ts';
import { matchSteps, splitName } from './match.ts';
import { keeper } from './parts.ts';
import { ACCOUNT_VERSION, type AccountRecord, KEY_FORMAT, type MissRecord, type StepRecord } from './record.ts';

const SEEN: MissRecord = { reason: 'never-seen' };

function step(name: string, inputs: readonly number[], change: Partial<StepRecord> = {}): StepRecord {
  const id = `v:${name}`;
  const parts = { command: name, 'env:A': '1' };
  return {
    step: id,
    vertex: id,
    name,
    op: 'exec',
    cacheable: true,
    inputs,
    parts,
    reads: [],
    outcome: 'miss',
    miss: SEEN,
    end: 'executed',
    ...change,
  };
}
const account = (steps: StepRecord[], change: Partial<AccountRecord> = {}): AccountRecord => ({
  version: ACCOUNT_VERSION,
  ref: 'before',
  line: '',
  startedAtMs: 0,
  keyFormat: KEY_FORMAT,
  args: {},
  steps,
  dropped: 0,
  ...change,
});

/** Explains every step as a running build does, inputs first. */
function explain(steps: StepRecord[], before: AccountRecord, args = {}): AccountRecord {
  const comparison = new Comparison({ steps, args, keyFormat: KEY_FORMAT }, before, matchSteps(steps, before));
  for (const [at, one] of steps.entries()) if (one.miss !== undefined) one.cause = comparison.causeOf(at, one.miss);
  return account(steps, { ref: 'now', against: before.ref });
}
const chain = (names: readonly string[]): StepRecord[] => names.map((name, at) => step(name, at === 0 ? [] : [at - 1]));
const reasons = (of: AccountRecord): string[] => of.steps.map(({ cause }) => cause?.reason ?? 'cached');

for (const [what, change, summary] of [
  ['an eviction', { reason: 'evicted', policy: 'policy 2', evictedAtMs: 0 }, /evicted by policy 2 at 1970-01-01T00:00:00Z/],
  ['no cache asked', { reason: 'no-cache-asked' }, /asked to ignore/],
] as const) {
  test(`${what} is the cause whatever else differs`, () => {
    const before = account(chain(['[1/2] RUN a', '[2/2] RUN b']));
    const now = chain(['[1/2] RUN x', '[2/2] RUN y']);
    Object.assign(now[1] ?? {}, { miss: change });
    const { cause } = explain(now, before).steps[1] ?? {};
    assert.deepEqual([cause?.reason, causeAlone(change).reason], [change.reason, change.reason]);
    assert.match(cause?.summary ?? '', summary);
  });
}

test('a remote cache that is down is the cause only of steps that are as they were', () => {
  const miss: MissRecord = { reason: 'backend-down', detail: 's3 b: breaker open' };
  const down = (names: readonly string[]) => chain(names).map((one) => ({ ...one, miss }));
  const before = account(chain(['[1/3] RUN a', '[2/3] RUN b', '[3/3] RUN c']));
  assert.deepEqual(reasons(explain(down(['[1/3] RUN a', '[2/3] RUN b']), before)), ['backend-down', 'backend-down']);
  const edited = explain(down(['[1/3] RUN a', '[2/3] RUN x', '[3/3] RUN c']), before);
  assert.deepEqual(reasons(edited), ['backend-down', 'instruction-changed', 'parent-changed']);
  assert.match(edited.steps[1]?.cause?.summary ?? '', /a remote cache did not answer either$/);
  assert.equal(causeAlone(miss).summary, 's3 b: breaker open');
});

test('a change that a step only inherits is the cause of the step that had it first', () => {
  const before = account(chain(['[1/3] RUN a', '[2/3] RUN b', '[3/3] RUN c']));
  const now = chain(['[1/3] RUN a', '[2/3] RUN b', '[3/3] RUN c']).map((one) => ({
    ...one,
    vertex: `${one.vertex}'`,
    step: `${one.step}'`,
    parts: { ...one.parts, 'env:A': '2' },
  }));
  const explained = explain(now, before);
  assert.deepEqual(reasons(explained), ['environment-changed', 'parent-changed', 'parent-changed']);
  const { causes } = explanationOf(explained);
  assert.deepEqual(
    causes.map(({ steps, follows }) => [steps.length, follows.length]),
    [[1, 2]],
  );
});

test('two steps that were edited are two causes', () => {
  const before = account(chain(['[1/3] RUN a', '[2/3] RUN b', '[3/3] RUN c']));
  const explained = explain(chain(['[1/3] RUN x', '[2/3] RUN b', '[3/3] RUN z']), before);
  assert.deepEqual(reasons(explained), ['instruction-changed', 'parent-changed', 'instruction-changed']);
});

test('a step that was found is never the cause: the step below it that missed is', () => {
  const of = (word: string, found: StepRecord['outcome']): StepRecord[] => [
    step(`[tools 1/1] RUN ${word}`, []),
    step('[stage-1 1/2] COPY --from=tools /a /a', [0], { op: 'file', outcome: found, vertex: `copy ${word}` }),
    step('[stage-1 2/2] RUN b', [1], { vertex: `b ${word}` }),
  ];
  for (const found of ['hit', 'implied'] as const) {
    const now = of('y', found);
    delete now[1]?.miss;
    const { steps } = explain(now, account(of('x', 'miss')));
    assert.deepEqual([steps[2]?.cause?.reason, steps[2]?.cause?.because?.name], ['parent-changed', '[tools 1/1] RUN y']);
  }
});

test('where everything below was in the cache, a step stands on another one and nothing else is blamed', () => {
  const of = (word: string): StepRecord[] =>
    chain([`[1/2] RUN ${word}`, '[2/2] RUN b']).map((one) => ({ ...one, vertex: `${one.name} ${word}` }));
  const now = of('y');
  Object.assign(now[0] ?? {}, { outcome: 'hit', miss: undefined });
  const explained = explain(now, account(of('x')));
  const { cause } = explained.steps[1] ?? {};
  assert.deepEqual([cause?.reason, cause?.because], ['parent-changed', undefined]);
  assert.match(cause?.summary ?? '', /^it stands on "\[1\/2\] RUN y", which was in the cache/);
  assert.deepEqual(
    explanationOf(explained).causes.map(({ steps }) => steps.map(({ name }) => name)),
    [['[2/2] RUN b']],
  );
});

test('the key of a source says nothing of how keys are made: a local directory has another one in each session', () => {
  const context = (key: string): StepRecord =>
    step('[internal] load build context', [], {
      op: 'source',
      cacheable: false,
      key,
      parts: {},
      miss: { reason: 'unpinned-source' },
    });
  const [told] = explain([context('sha256:2')], account([context('sha256:1')])).steps;
  assert.deepEqual(
    [told?.cause?.reason, told?.cause?.summary],
    ['unpinned-source', 'a local directory is looked at anew in each build'],
  );
  const [web] = explain([{ ...context('sha256:2'), miss: SEEN }], account([context('sha256:1')])).steps;
  assert.equal(web?.cause?.reason, 'never-seen');
  const [other] = explain(
    [step('[1/1] RUN a', [], { key: 'sha256:2' })],
    account([step('[1/1] RUN a', [], { key: 'sha256:1' })]),
  ).steps;
  assert.equal(other?.cause?.reason, 'key-format-changed', 'the key of a step does');
});

test('a step that the earlier build did not finish says so', () => {
  const before = account([step('[1/1] RUN a', [], { end: 'step-failed' })]);
  const [first] = explain(chain(['[1/1] RUN a']), before).steps;
  assert.deepEqual(
    [first?.cause?.reason, first?.cause?.summary],
    ['never-seen', 'the earlier build before did not finish this step'],
  );
});

test('changes are listed up to a bound and counted above it', () => {
  const many = (value: string) => Object.fromEntries(Array.from({ length: 50 }, (_, n) => [`env:V${n}`, value]));
  const before = account([step('[1/1] RUN a', [], { parts: many('1') })]);
  const { cause } = explain([step('[1/1] RUN a', [], { parts: many('2') })], before).steps[0] ?? {};
  assert.deepEqual([cause?.changes.length, cause?.more], [20, 30]);
});

test('values of secret-like names become digests that differ by daemon, equal values stay equal, and addresses lose credentials', () => {
  const [one, two] = [keeper(Buffer.from('1')), keeper(Buffer.from('2'))];
  assert.match(one('NPM_TOKEN', 'hunter2'), /^hidden:[0-9a-f]{12}$/);
  assert.equal(one('db_password', 'hunter2'), one('NPM_TOKEN', 'hunter2'));
  assert.notEqual(one('NPM_TOKEN', 'hunter2'), two('NPM_TOKEN', 'hunter2'));
  assert.equal(one('PROXY', 'http://u:p@host/x'), 'http://***@host/x');
  assert.ok(one('LONG', 'x'.repeat(1e6)).length < 2_100);
});

test('names are split into stage, place and instruction', () => {
  assert.deepEqual(splitName('[linux/arm64 build 3/7] RUN a\nb'), { stage: 'linux/arm64 build', place: '3', text: 'RUN a\nb' });
  assert.deepEqual(splitName('[2/4] COPY a /'), { stage: '', place: '2', text: 'COPY a /' });
  assert.deepEqual(splitName('[internal] load build context'), { stage: '', place: '', text: '[internal] load build context' });
});

test('whatever was edited, put in or taken out: every miss has a cause, and what follows leads to a step that missed', () => {
  const names = fc.array(fc.constantFrom('a', 'b', 'c', 'd', 'e'), { maxLength: 12 });
  fc.assert(
    fc.property(names, names, fc.array(fc.boolean(), { minLength: 12, maxLength: 12 }), (old, now, found) => {
      const place = (of: readonly string[]) => of.map((text, at) => `[${at + 1}/${of.length}] RUN ${text}`);
      const steps = chain(place(now));
      for (const [at, one] of steps.entries()) if (found[at]) Object.assign(one, { outcome: 'hit', miss: undefined });
      const explained = explain(steps, account(chain(place(old))));
      const misses = explained.steps.filter(({ outcome }) => outcome === 'miss');
      const missed = new Set(misses.map((one) => one.step));
      for (const { cause } of misses) {
        const because: MissCause['because'] = cause?.because;
        assert.ok(cause !== undefined && cause.summary !== '');
        assert.ok(because === undefined || missed.has(because.step));
      }
      const { causes } = explanationOf(explained);
      assert.equal(
        causes.reduce((sum, { steps, follows }) => sum + steps.length + follows.length, 0),
        misses.length,
      );
    }),
  );
});
