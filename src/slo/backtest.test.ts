import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backtest } from './backtest.ts';
import type { SlotCounts } from './count-history.ts';
import { gateOf } from './gate.ts';
import { OBJECTIVES } from './objectives.ts';
import { periodReport } from './period-report.ts';
import type { SloReport } from './report.ts';
import { reportHtml, reportMarkdown } from './report-text.ts';
import type { BudgetAdjustment, Objective } from './spec.ts';

const SUCCESS = OBJECTIVES.find(({ name }) => name === 'build-success') as Objective;
const HOUR = 3600;
const START = 1_800_000_000;
const END = START + 9 * 24 * HOUR;
const options = { fromS: START + 7 * 24 * HOUR, toS: END, stepS: 60, significantShare: 0.05 };

/** Two builds a minute for nine days, of which every `failing`th fails in a stretch. */
function history(stretches: readonly { readonly fromS: number; readonly toS: number; readonly failing: number }[]): SlotCounts[] {
  return Array.from({ length: (END - START) / 60 }, (_, minute) => {
    const slotS = START + minute * 60;
    const stretch = stretches.find(({ fromS, toS }) => slotS >= fromS && slotS < toS);
    const bad = stretch !== undefined && minute % stretch.failing === 0 ? 2 : 0;
    return { slotS, good: 2 - bad, total: 2 };
  });
}
const evidence = (slots: readonly SlotCounts[], adjustments: readonly BudgetAdjustment[] = []) => ({
  slots: new Map([[SUCCESS.name, slots]]),
  adjustments,
});
const outage = { fromS: END - 12 * HOUR, toS: END - 11 * HOUR, failing: 1 };

test('an outage of an hour is one incident, paged within minutes, and its alerts end', () => {
  const result = backtest(SUCCESS, [SUCCESS], evidence(history([outage])), options);
  assert.equal(result.incidents.length, 1);
  const [incident] = result.incidents;
  assert.deepEqual([incident?.fromS, incident?.good], [outage.fromS, 0]);
  const pagedAfter = (incident?.pagedS ?? Number.NaN) - outage.fromS;
  // 13.44 % of an hour's builds are a little over eight minutes; the Wilson bound asks for some more.
  assert.ok(pagedAfter >= 8 * 60 && pagedAfter <= 12 * 60, `paged after ${pagedAfter} s`);
  const fast = result.alerts.filter(({ long }) => long === '1h');
  assert.equal(fast.length, 1);
  assert.ok((fast[0]?.toS ?? Number.POSITIVE_INFINITY) <= outage.toS + 6 * 60, 'silent once the short window is clean');
  assert.ok(result.alerts.every((alert) => !alert.false));
  assert.ok(Math.abs((result.curve.at(-1)?.budgetLeft ?? 0) - (1 - 120 / (0.01 * 2 * 7 * 24 * 60))) < 0.01);
});

test('a page for what turns out not to be an incident is called false, and without bad events nothing fires', () => {
  const small = { fromS: END - 12 * HOUR, toS: END - 12 * HOUR + 15 * 60, failing: 1 };
  const strict = backtest(SUCCESS, [SUCCESS], evidence(history([small])), { ...options, significantShare: 0.5 });
  assert.equal(strict.incidents.length, 0);
  assert.ok(strict.alerts.length > 0 && strict.alerts.every((alert) => alert.false));
  const calm = backtest(SUCCESS, [SUCCESS], evidence(history([])), options);
  assert.deepEqual([calm.alerts, calm.incidents], [[], []]);
  assert.ok(calm.curve.every(({ budgetLeft }) => budgetLeft === 1));
});

test('a report has the budget in events and minutes, what spent it with its builds, and figures with and without adjustments', () => {
  const maintenance: BudgetAdjustment = {
    ...{ id: 'a1', slos: ['*'], fromS: outage.fromS, toS: outage.fromS + 30 * 60, kind: 'maintenance' },
    ...{ effect: { kind: 'exclude' }, author: 'ana', reason: '<b>moved | the disk</b>' },
  };
  const build = { ref: 'r1', name: 'app', state: 'error', endedS: outage.toS - 60, error: 'disk | full' };
  const { objectives } = periodReport([SUCCESS], evidence(history([outage]), [maintenance]), { toS: END }, [build]);
  const [slo] = objectives;
  assert.ok(slo !== undefined);
  assert.deepEqual([slo.total, slo.total - slo.good], [2 * (7 * 24 * 60 - 30), 60]);
  assert.deepEqual([slo.unadjusted?.total, (slo.unadjusted?.total ?? 0) - (slo.unadjusted?.good ?? 0)], [2 * 7 * 24 * 60, 120]);
  assert.ok(Math.abs(slo.allowedEvents - 201) < 1e-6 && Math.abs(slo.leftEvents - 141) < 1e-6);
  assert.ok(Math.abs(slo.allowedMinutes - 100.8) < 1e-6 && Math.abs(slo.leftMinutes - 100.8 * (141 / 201)) < 1e-6);
  assert.deepEqual(
    slo.worst.map(({ builds, classes }) => [builds.map(({ ref }) => ref), classes]),
    [[['r1'], { error: 1 }]],
  );
  assert.equal(slo.meanSecondsToRecover, 29 * 60 + 30);
  assert.equal(slo.policy, null);

  const report = { generatedS: END, objectives };
  const text = reportMarkdown(report);
  assert.match(
    text,
    /^\| Build success \| 99 % \| 99\.7 % \| 20040\/20100 builds \| 70\.15 % \| 141 of 201 \| 70\.7 of 100\.8 \| 1 \| 30 min \|$/m,
  );
  assert.match(text, /ana \| <b>moved \\\| the disk<\/b> \|$/m);
  const page = reportHtml(report);
  assert.ok(page.includes('&lt;b&gt;moved | the disk&lt;/b&gt;') && !page.includes('<b>moved'), 'words of people are no markup');
});

test('the gate refuses what the policy of any objective blocks, and what nobody could look at', () => {
  const status = { title: 'Builds', period: '7d', window: { from: '', to: '' }, budgetLeft: 0.2, state: 'ok', policy: null };
  const with_ = (change: object): SloReport =>
    ({ generatedAt: '', objectives: [{ ...status, ...change }] }) as unknown as SloReport;
  const policy = { budgetBelow: 0.25, consequence: 'Wait.', blocks: ['game-day'] };
  const verdict = gateOf(with_({ policy }), 'game-day', { allowUnknown: false });
  assert.deepEqual(verdict.reasons, ['Builds: 20 % of the error budget of 7d is left: Wait.']);
  assert.equal(verdict.allowed, false);
  assert.equal(gateOf(with_({ policy }), 'release', { allowUnknown: false }).allowed, true);
  assert.equal(gateOf(with_({ state: 'unknown' }), 'release', { allowUnknown: false }).allowed, false);
  assert.equal(gateOf(with_({ state: 'unknown' }), 'release', { allowUnknown: true }).allowed, true);
});
