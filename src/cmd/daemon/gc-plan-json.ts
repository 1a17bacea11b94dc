/** A plan of garbage collection as the ops API answers it. */
import type { Plan } from '../../builder/gc/plan.ts';
import { rfc3339 } from '../../core/clock.ts';
import type { GcPlan } from '../../web/api/model.ts';

export const planJson = (plan: Plan, secondsToFull: number | undefined): GcPlan => ({
  bytes: plan.freesBytes,
  usedBytes: plan.usedBytes,
  records: plan.records,
  removals: plan.removals.map(({ record, policy, rule }) => ({
    id: record.id,
    kind: record.recordType,
    description: record.description,
    bytes: record.sizeBytes,
    createdAt: rfc3339(record.createdAtNs),
    ...(record.lastUsedAtNs === undefined ? {} : { lastUsedAt: rfc3339(record.lastUsedAtNs) }),
    uses: record.usageCount,
    policy,
    rule,
  })),
  kept: plan.kept.map(({ reason, records, sizeBytes }) => ({ reason, records, bytes: sizeBytes })),
  disk: { freeBytes: plan.space.freeBytes, totalBytes: plan.space.totalBytes },
  ...(secondsToFull === undefined ? {} : { daysToFull: secondsToFull / 86_400 }),
});
