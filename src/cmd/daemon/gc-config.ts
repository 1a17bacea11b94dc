/** What the configuration says of garbage collection. Precedence of the many names for one thing: docs/gc.md. */
import { defaultBounds, defaultPolicies, type GcPolicy, type SpaceBounds } from '../../builder/gc/policy.ts';
import type { Values } from '../config/load.ts';
import type { DiskSpace } from '../config/units.ts';

export interface GcConfig {
  readonly enabled: boolean;
  /** Empty when collection is off. */
  readonly policies: readonly GcPolicy[];
  /** Goes before the policies in the first run after the start (`gc.default.all`). */
  readonly once: GcPolicy | undefined;
  /** 0: after builds only. */
  readonly periodMs: number;
  readonly guard: { readonly minFreeBytes: number; readonly minFreeInodesPercent: number };
}

const GUARD_BYTES = 5e9;
const GUARD_PERCENT = 3;
const NO_BOUNDS: SpaceBounds = { reservedBytes: 0, maxUsedBytes: 0, minFreeBytes: 0 };

export function gcConfig(values: Values, diskBytes: number): GcConfig {
  const enabled = (values.get('worker.oci.gc') as boolean | undefined) ?? true;
  const ttlNs = (values.get('gc.default.ttl') as bigint | undefined) ?? 0n;
  const all = values.get('gc.default.all') === true;
  const guardBytes = bytesOf(values.get('cooper.gc.guard.min-free-space') as DiskSpace | undefined, diskBytes);
  return {
    enabled,
    policies: enabled ? policiesOf(values, ttlNs, diskBytes) : [],
    once: enabled && all ? { filters: [], all: true, keepDurationNs: ttlNs, ...NO_BOUNDS } : undefined,
    periodMs: enabled ? Number((values.get('gc.default.period') as bigint | undefined) ?? 0n) / 1e6 : 0,
    guard: {
      minFreeBytes: enabled ? (guardBytes ?? Math.min((diskBytes * GUARD_PERCENT) / 100, GUARD_BYTES)) : 0,
      minFreeInodesPercent: enabled ? ((values.get('cooper.gc.guard.min-free-inodes') as number | undefined) ?? 5) : 0,
    },
  };
}

/** The configured policies, or BuildKit's four with the configured bounds. A time to live takes the place of the sixty days. */
function policiesOf(values: Values, ttlNs: bigint, diskBytes: number): readonly GcPolicy[] {
  const entries = values.entries('worker.oci.gcpolicy');
  if (entries.length > 0) {
    return entries.map(({ values: own }) => ({
      filters: (own.get('filters') as readonly string[] | undefined) ?? [],
      all: (own.get('all') as boolean | undefined) ?? false,
      keepDurationNs: (own.get('keepDuration') as bigint | undefined) ?? 0n,
      ...boundsOf((key) => own.get(key), ['keepBytes'], [], diskBytes, NO_BOUNDS),
    }));
  }
  const bounds = boundsOf(
    (key) => values.get(key.includes('.') ? key : `worker.oci.${key}`),
    ['gckeepstorage', 'gc.default.keep_storage'],
    ['cache-size'],
    diskBytes,
    defaultBounds(diskBytes),
  );
  const defaults = defaultPolicies(bounds);
  if (ttlNs === 0n) return defaults;
  const expired: GcPolicy = {
    filters: [],
    all: false,
    keepDurationNs: ttlNs,
    ...NO_BOUNDS,
    reservedBytes: bounds.reservedBytes,
  };
  return defaults.map((policy, at) => (at === 1 ? expired : policy));
}

/** The names a bound has had, the first that is set counts. */
function boundsOf(
  get: (key: string) => unknown,
  reservedNames: readonly string[],
  maxUsedNames: readonly string[],
  diskBytes: number,
  otherwise: SpaceBounds,
): SpaceBounds {
  const first = (...keys: readonly string[]): number | undefined =>
    bytesOf(keys.map(get).find((value) => value !== undefined) as DiskSpace | undefined, diskBytes);
  return {
    reservedBytes: first('reservedSpace', ...reservedNames) ?? otherwise.reservedBytes,
    maxUsedBytes: first('maxUsedSpace', ...maxUsedNames) ?? otherwise.maxUsedBytes,
    minFreeBytes: first('minFreeSpace') ?? otherwise.minFreeBytes,
  };
}

export function bytesOf(space: DiskSpace | undefined, diskBytes: number): number | undefined {
  if (space === undefined) return undefined;
  return space.kind === 'bytes' ? space.bytes : Math.floor((space.percent / 100) * diskBytes);
}
