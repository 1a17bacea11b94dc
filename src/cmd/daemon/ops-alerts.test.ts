import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { SLO } from '../../web/ops-providers.test-rig.ts';
import { firingOf, type Seen } from './ops-alerts.ts';

const [OBJECTIVE] = SLO.objectives;
assert.ok(OBJECTIVE);
const PAIR = { long: '1h', short: '5m', budgetPercent: 8, factor: 13.44, threshold: 0.1344, firing: true } as const;
const QUIET: Seen = {
  report: SLO,
  alertNames: new Map([['build-success', 'CooperBuildSuccessBurn']]),
  status: {
    builds: { running: 1, queued: 1, limit: 4, oldestQueuedSeconds: 600 },
    cache: { bytes: 1, limitBytes: 0, diskFreeBytes: 3, diskBytes: 100 },
    breakers: [{ name: 'registry r', state: 'closed' }],
  },
  runs: [{ at: '2026-01-01T00:00:00Z', trigger: 'schedule', ok: false, seconds: 1, freedBytes: 0, removedRecords: 0 }],
  unknownKeys: 0,
  nowMs: Date.parse('2026-01-01T01:00:00Z'),
};
const CASES: readonly (readonly [alert: string, change: Partial<Seen>])[] = [
  ['CooperDiskFull', { status: { ...QUIET.status, cache: { ...QUIET.status.cache, diskFreeBytes: 2 } } }],
  ['CooperBuildsStuck', { status: { ...QUIET.status, builds: { ...QUIET.status.builds, oldestQueuedSeconds: 601 } } }],
  ['CooperRemoteCacheOutage', { status: { ...QUIET.status, breakers: [{ name: 'registry r', state: 'open' }] } }],
  ['CooperGcFailing', { nowMs: QUIET.nowMs - 1 }],
  ['CooperConfigUnknownKeys', { unknownKeys: 1 }],
  ['CooperBuildSuccessBurn', { report: { ...SLO, objectives: [{ ...OBJECTIVE, pairs: [{ ...PAIR, severity: 'page' }] }] } }],
];

test('at its bounds nothing fires', () => {
  assert.deepEqual(firingOf(QUIET), []);
});

for (const [alert, change] of CASES) {
  test(`${alert} fires past its bound, alone, and has a runbook`, () => {
    assert.deepEqual(
      firingOf({ ...QUIET, ...change }).map(({ name }) => name),
      [alert],
    );
    assert.ok(existsSync(join(import.meta.dirname, '..', '..', '..', 'runbooks', `${alert}.md`)));
  });
}

test('of an objective the worst firing pair speaks, and the worst alert stands first', () => {
  const pairs = [
    { ...PAIR, severity: 'ticket' as const },
    { ...PAIR, severity: 'page' as const },
  ];
  const firing = firingOf({ ...QUIET, unknownKeys: 2, report: { ...SLO, objectives: [{ ...OBJECTIVE, pairs }] } });
  assert.deepEqual(
    firing.map(({ severity }) => severity),
    ['critical', 'info'],
  );
});
