/** The one worker, as clients see it in ListWorkers, Info and Ping. */
import { create } from '@bufbuild/protobuf';
import {
  type BuildkitVersion,
  BuildkitVersionSchema,
  GCPolicySchema,
  type WorkerRecord,
  WorkerRecordSchema,
} from '../proto/gen/moby/buildkit/v1/types/worker_pb.ts';
import type { Platform } from '../proto/gen/pb/ops_pb.ts';

/** The release of the wire contract that is spoken: clients enable features by this number, so it is BuildKit's, not ours. */
const BUILDKIT_VERSION = 'v0.32.0';
const DOCKERFILE_VERSION = '1.26.0';

export interface WorkerInfo {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly platforms: readonly Platform[];
  readonly gcPolicies: readonly GcPolicyInfo[];
  /** The product's own version and commit. */
  readonly version: string;
  readonly revision: string;
}
export interface GcPolicyInfo {
  readonly all: boolean;
  readonly keepDurationNs: bigint;
  readonly filters: readonly string[];
  readonly reservedBytes: number;
  readonly maxUsedBytes: number;
  readonly minFreeBytes: number;
}

export function buildkitVersionOf(worker: WorkerInfo): BuildkitVersion {
  const revision = `cooper-${worker.version}${worker.revision === '' ? '' : `-${worker.revision}`}`;
  return create(BuildkitVersionSchema, {
    package: 'cooper',
    version: BUILDKIT_VERSION,
    revision,
    dockerfileVersion: DOCKERFILE_VERSION,
  });
}

export function workerRecordOf(worker: WorkerInfo): WorkerRecord {
  return create(WorkerRecordSchema, {
    ID: worker.id,
    Labels: { ...worker.labels },
    platforms: [...worker.platforms],
    GCPolicy: worker.gcPolicies.map((policy) =>
      create(GCPolicySchema, {
        all: policy.all,
        keepDuration: policy.keepDurationNs,
        filters: [...policy.filters],
        reservedSpace: BigInt(policy.reservedBytes),
        maxUsedSpace: BigInt(policy.maxUsedBytes),
        minFreeSpace: BigInt(policy.minFreeBytes),
      }),
    ),
    BuildkitVersion: buildkitVersionOf(worker),
  });
}
