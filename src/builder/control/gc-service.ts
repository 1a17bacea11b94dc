/** `cooper.gc.v1.Gc`: garbage collection for operators. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { BuildError } from '../../core/errors.ts';
import type { CheckReport } from '../gc/check.ts';
import type { Plan } from '../gc/plan.ts';
import type { Selection } from '../gc/prune.ts';
import type { Removal } from '../gc/victims.ts';
import {
  type Gc,
  PlanResponseSchema,
  type RemovalSchema,
  type Selection as SelectionMessage,
} from '../proto/gen/cooper/gc/v1/gc_pb.ts';
import type { Handlers } from '../rpc/handlers.ts';

/** What the service needs of garbage collection. */
export interface GcParts {
  /** @throws BuildError `invalid-input` for a bad filter or a policy that is not there. */
  plan(selection: Selection): Promise<Plan>;
  run(selection: Selection, signal: AbortSignal): AsyncIterable<Removal>;
  /** Undefined while the disk does not fill. */
  secondsToFull(): number | undefined;
  check(options: { readonly repair: boolean }, signal: AbortSignal): Promise<CheckReport>;
  warmed(report: { readonly built: number; readonly failed: number; readonly seconds: number }): void;
}

export function gcHandlers(gc: GcParts): Handlers<typeof Gc> {
  return {
    async plan(request) {
      const plan = await gc.plan(selectionOf(request));
      const secondsToFull = gc.secondsToFull();
      return create(PlanResponseSchema, {
        removals: plan.removals.map(removalMessage),
        freesBytes: BigInt(plan.freesBytes),
        usedBytes: BigInt(plan.usedBytes),
        records: BigInt(plan.records),
        kept: plan.kept.map(({ reason, records, sizeBytes }) => ({
          reason,
          records: BigInt(records),
          sizeBytes: BigInt(sizeBytes),
        })),
        diskFreeBytes: BigInt(plan.space.freeBytes),
        diskSizeBytes: BigInt(plan.space.totalBytes),
        ...(secondsToFull === undefined ? {} : { daysToFull: secondsToFull / 86_400 }),
      });
    },
    async *run(request, context) {
      for await (const removal of gc.run(selectionOf(request), context.signal)) yield removalMessage(removal);
    },
    async check({ repair }, context) {
      const { findings, blobs, blobBytes, snapshots, keys } = await gc.check({ repair }, context.signal);
      return {
        findings: [...findings],
        blobs: BigInt(blobs),
        blobBytes: BigInt(blobBytes),
        snapshots: BigInt(snapshots),
        keys: BigInt(keys),
      };
    },
    reportWarm({ built, failed, seconds }) {
      gc.warmed({ built, failed, seconds });
      return {};
    },
  };
}

function selectionOf({ policy, rules }: SelectionMessage): Selection {
  if (rules !== undefined && policy !== 0) throw new BuildError('invalid-input', 'give a policy or rules, not both');
  if (rules === undefined) return policy === 0 ? 'policies' : { policy };
  return {
    rules: {
      filters: rules.filter,
      all: rules.all,
      keepDurationNs: rules.keepDurationNs,
      reservedBytes: Number(rules.reservedBytes),
      maxUsedBytes: Number(rules.maxUsedBytes),
      minFreeBytes: Number(rules.minFreeBytes),
    },
  };
}

function removalMessage({ record, policy, rule }: Removal): MessageInitShape<typeof RemovalSchema> {
  return {
    id: record.id,
    sizeBytes: BigInt(record.sizeBytes),
    recordType: record.recordType,
    description: record.description,
    policy,
    rule,
    createdAtNs: record.createdAtNs,
    lastUsedAtNs: record.lastUsedAtNs ?? 0n,
    usageCount: BigInt(record.usageCount),
  };
}
