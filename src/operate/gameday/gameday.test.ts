import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ALERT_NAMES } from '../../../alerts/rules.ts';
import { compressExpression } from './compress.ts';
import type { Surroundings } from './judge.ts';
import { judgesOf } from './judges.ts';
import type { Observation } from './observe.ts';
import { parseGame, readGame } from './read-game.ts';
import { type GameReport, outcomeOf, scoreOf, toJunit } from './report.ts';
import { tabletop } from './tabletop.ts';

const GAMES = join(import.meta.dirname, '..', '..', '..', 'gamedays');
const AROUND: Surroundings = {
  realMs: (ms) => ms,
  query: async () => [],
  ruleLabels: () => undefined,
  postProbe: undefined,
  verifyQueries: () => [],
  scan: async () => undefined,
  ownsWebhooks: true,
};
const SEEN: Observation = {
  atMs: 2_000,
  phase: 'fault',
  injectMs: 1_000,
  healMs: undefined,
  alerts: [],
  routed: [],
  notifications: [],
  builds: [],
};
const alert = (activeAtMs: number): NonNullable<Observation['alerts']>[number] => ({
  labels: { alertname: 'CooperX', severity: 'warning' },
  state: 'firing',
  activeAtMs,
  value: 1,
});
const EXPECTED = [
  { kind: 'alert', alert: 'CooperX', withinMs: 5_000, severity: 'warning', routedTo: 'ticket', inhibits: [] },
] as const;

test('every shipped game can be read, names alerts that exist, and each of its mutations fails something the game expects', () => {
  for (const file of readdirSync(GAMES)) {
    const game = readGame(join(GAMES, file));
    const ids = judgesOf(game.expect, AROUND).map(({ id }) => id);
    for (const { name, mustFail } of game.mutations)
      assert.ok(ids.includes(mustFail), `${file}: ${name}: nothing is called "${mustFail}"`);
    assert.ok(game.mutations.length > 0, `${file} is never played on a broken system`);
    for (const expectation of game.expect) {
      if (expectation.kind === 'alert')
        assert.ok(
          [expectation.alert, ...expectation.inhibits].every((name) => ALERT_NAMES.includes(name)),
          file,
        );
      if (expectation.kind === 'no-alert') assert.ok(ALERT_NAMES.includes(expectation.alert), `${file}: ${expectation.alert}`);
    }
    assert.match(tabletop(game), /Not evaluated/);
  }
});

test('mistakes in a game are told with file and line, all at once', () => {
  const text =
    'gameday: x\ntitle: t\nhypothesis: h\ninject:\n  fault: dwon\n  target: cache\n  for: soon\nexpect:\n  - alret: X\n  - alert: X\n    within: 5m\n    sevrity: page\n';
  assert.throws(
    () => parseGame(text, '<test>'),
    (error: Error) => {
      for (const part of [
        /<test>:5: there is no fault "dwon"/,
        /<test>:7: .*"soon" is no length of time/,
        /<test>:9: an expectation is one of/,
        /<test>:12: .*no key "sevrity"/,
      ])
        assert.match(error.message, part);
      return true;
    },
  );
  assert.throws(
    () => parseGame('gameday: x\ntitle: t\nhypothesis: h\ninject: {fault: down, target: cache, for: 1m}\nexpect: []\n', '<test>'),
    /proves nothing/,
  );
});

test('an alert that was active before the injection satisfies nothing', async () => {
  for (const [activeAtMs, verdict] of [
    [999, 'pending'],
    [1_000, 'pass'],
  ] as const) {
    const [fires] = judgesOf(EXPECTED, AROUND);
    await fires?.look({ ...SEEN, alerts: [alert(activeAtMs)] });
    assert.equal(fires?.verdict, verdict);
  }
});

test('what could not be evaluated is no pass: not in the score, not in the outcome, and an error in JUnit', async () => {
  const judges = judgesOf([...EXPECTED, { kind: 'builds-failed', atMost: 0 }, { kind: 'no-alert', alert: 'CooperY' }], AROUND);
  for (const judge of judges) await judge.look({ ...SEEN, alerts: undefined });
  for (const judge of judges) await judge.finish({ ...SEEN, alerts: undefined });
  const judgements = judges.map(({ judgement }) => judgement);
  assert.ok(judgements.every(({ verdict }) => verdict === 'unevaluated'));
  assert.equal(outcomeOf(judgements), 'incomplete');
  assert.deepEqual(scoreOf(judgements), { passed: 0, evaluated: 0, total: judgements.length });
  const report = { game: 'g', preconditions: [], expectations: judgements } as unknown as GameReport;
  assert.match(toJunit(report), new RegExp(`failures="0" errors="${judgements.length}"`));
});

test('an alert that does not fire fails, and what is said of it is not evaluated', async () => {
  const judges = judgesOf(EXPECTED, AROUND);
  for (const judge of judges) await judge.look({ ...SEEN, atMs: 60_000 });
  assert.deepEqual(
    judges.map(({ verdict }) => verdict),
    ['fail', 'unevaluated', 'unevaluated'],
  );
});

test('ranges, offsets, horizons and ages run faster by the same factor; labels, names and counts stay', () => {
  const cases = [
    ['increase(a[10m]) > 9.5', 'increase(a[30000ms]) > 9.5'],
    ['a{long="[5m]"}[1h:5m]', 'a{long="[5m]"}[180000ms:15000ms]'],
    ['cooper:slo_bad:increase1h{slo="x"} offset 20m', 'cooper:slo_bad:increase1h{slo="x"} offset 60000ms'],
    ['predict_linear(a[1h], 4 * 3600) < 0', 'predict_linear(a[180000ms], 4 * 3600 / 20) < 0'],
    ['max(cooper_outage_active_seconds{job="cooper"}) > 900', 'max(cooper_outage_active_seconds{job="cooper"}) > 900 / 20'],
  ] as const;
  for (const [shipped, compressed] of cases) assert.equal(compressExpression(shipped, 20), compressed);
});
