/**
 * The documents of the ops API, as zod schemas: answers are described by them (docs/api.md), tests hold real answers against them, and
 * the page's types are inferred from them. Times are RFC 3339 text; times inside a build are milliseconds since its start.
 */
import * as z from 'zod';

export const time = z.string().describe('RFC 3339');
const ms = z.number().describe('milliseconds');
const count = z.int().min(0);

export const buildState = z.enum(['queued', 'running', 'success', 'failure', 'error', 'timeout', 'cancellation']);
export const stepCounts = z.object({ total: count, completed: count, cached: count });
export const buildSummary = z.object({
  ref: z.string(),
  name: z.string().describe('target, else the Dockerfile'),
  image: z.optional(z.string().describe('what the result is called')),
  repository: z.optional(z.string().describe('what the client says the source is')),
  startedAt: time,
  endedAt: z.optional(time.describe('RFC 3339; absent while the build runs')),
  durationMs: z.optional(ms),
  state: buildState,
  queuePosition: z.optional(z.int().min(1).describe('1 is next; only while queued')),
  error: z.optional(z.string()),
  steps: z.optional(stepCounts),
  warnings: z.optional(count),
  traceId: z.optional(z.string()),
  cache: z.optional(
    z
      .object({
        cacheable: count,
        hitsLocal: count,
        hitsRemote: count,
        implied: count.describe('not needed, because something made of them was found'),
        misses: count,
        lookupHitRatio: z.optional(z.number()),
        hitRatio: z.optional(z.number()),
        savedSeconds: z.number().describe('execution time of the steps that did not run'),
      })
      .describe('of a finished build: its cacheable steps by how they were served'),
  ),
  running: z.optional(
    z
      .object({ steps: count, memoryBytes: z.number(), processes: count })
      .describe('of a running build: RUN steps that have run for a second or more, and what they use together'),
  ),
});
export const attributes = z.record(z.string(), z.string());
export const stepResources = z.object({
  step: z.string().describe('vertex digest'),
  name: z.string(),
  running: z.boolean(),
  memoryLimitBytes: z.optional(z.number()),
  samples: z.array(
    z.object({
      timestamp: z.optional(time),
      cpuStat: z.optional(z.object({ usageNanos: z.optional(z.number()) })),
      memoryStat: z.optional(z.object({ current: z.optional(z.number()) })),
    }),
  ),
});
export const buildDetail = buildSummary.extend({
  frontend: z.string(),
  options: attributes.describe('what the client asked for; values of build arguments are not shown'),
  exporters: z.array(z.object({ type: z.string(), attributes })),
  response: attributes.describe('what the exporters answered: digests and names'),
  logBytes: z.optional(count.describe('size of the stored status log; absent while the build runs')),
  trigger: z.optional(z.looseObject({}).describe('when what led to the build happened, as its client says')),
  reproducibility: z.optional(z.looseObject({}).describe('what a rebuild from nothing gave')),
  resources: z.optional(z.array(stepResources).describe('samples of RUN steps that ran for a second or more')),
});

export const stepState = z.enum(['running', 'cached', 'done', 'failed', 'cancelled']);
export const phase = z.object({ name: z.string(), startMs: ms, endMs: ms });
export const step = z.object({
  id: z.string().describe('span id'),
  digest: z.string().describe('vertex digest'),
  name: z.string(),
  op: z.string(),
  state: stepState,
  startMs: ms,
  endMs: ms,
  inputs: z.array(z.string()).describe('ids of the steps it waited for'),
  critical: z.boolean().describe('on the chain of steps that decided how long the build took'),
  cacheable: z.boolean().describe('counts in the hit ratio: a step of the user that a cache could hold'),
  cache: z.optional(
    z.object({
      hit: z.boolean(),
      location: z.optional(z.string()),
      reason: z.optional(z.string().describe('why it was not cached')),
      detail: z.optional(z.string()),
    }),
  ),
  phases: z.array(phase),
  cpuSeconds: z.optional(z.number()),
  peakMemoryBytes: z.optional(z.number()),
  oomKilled: z.optional(z.boolean()),
  error: z.optional(z.string()),
  facts: attributes.describe('what else the trace says of the step, attribute by attribute'),
  events: z.array(z.object({ name: z.string(), atMs: ms, detail: z.string() })),
});
export const steps = z.object({
  startedAt: time,
  durationMs: ms,
  criticalMs: ms.describe('time spent in steps of the critical path'),
  accumulatedMs: ms.describe('sum over all steps; divided by the duration it is the parallelism'),
  complete: z.boolean().describe('false while the build runs'),
  steps: z.array(step),
});

const change = z.object({ what: z.string(), name: z.string(), old: z.optional(z.string()), new: z.optional(z.string()) });
const namedStep = z.object({ step: z.string(), name: z.string() });
export const explanation = z.object({
  ref: z.string(),
  startedAt: time,
  against: z.optional(z.string().describe('the earlier build it was compared with')),
  totals: z.object({ cacheable: count, misses: count, hitRatio: z.optional(z.number()), savedSeconds: z.number() }),
  causes: z.array(
    z.object({
      reason: z.string(),
      summary: z.string(),
      changes: z.array(change),
      more: count.describe('changes that are not listed'),
      steps: z.array(namedStep).describe('where it was first felt'),
      follows: z.array(namedStep).describe('steps that ran because of those'),
    }),
  ),
  steps: z.array(z.object({ step: z.string(), name: z.string(), outcome: z.string() })),
});

export const comparedStep = z.object({
  name: z.string(),
  op: z.string(),
  match: z.enum(['both', 'only-a', 'only-b']),
  a: z.optional(z.object({ state: stepState, durationMs: ms, reason: z.optional(z.string()) })),
  b: z.optional(z.object({ state: stepState, durationMs: ms, reason: z.optional(z.string()) })),
  deltaMs: ms.describe('b less a; a side without the step counts 0'),
});
export const comparison = z.object({
  a: buildSummary,
  b: buildSummary,
  verdict: z.string().describe('one sentence'),
  steps: z.array(comparedStep).describe('largest difference first'),
  options: z.array(z.object({ key: z.string(), a: z.optional(z.string()), b: z.optional(z.string()) })),
});

export const stepSummary = z.object({
  name: z.string(),
  op: z.string(),
  builds: count,
  executed: count,
  cached: count,
  failed: count,
  medianMs: ms.describe('of executions'),
  slowestMs: ms,
  totalMs: ms,
  recentMs: z.array(ms).describe('executions, oldest first, 20 at most'),
});
export const stepRun = z.object({
  ref: z.string(),
  build: z.string(),
  startedAt: time,
  state: stepState,
  durationMs: ms,
  digest: z.string(),
  reason: z.optional(z.string()),
  detail: z.optional(z.string()),
});

export const readiness = z.array(z.object({ name: z.string(), ok: z.boolean(), detail: z.optional(z.string()) }));
export const breaker = z.object({
  name: z.string(),
  state: z.string().describe('closed, half-open or open'),
  since: z.optional(time),
  detail: z.optional(z.string()),
});
export const canary = z.object({
  state: z.string(),
  lastAt: z.optional(time),
  durationMs: z.optional(ms),
  detail: z.optional(z.string()),
});
export const status = z.object({
  version: z.string(),
  startedAt: time,
  now: time,
  ready: z.boolean(),
  checks: readiness,
  addresses: z.array(z.string()),
  builds: z.object({ running: count, queued: count, limit: count, oldestQueuedSeconds: z.number() }),
  slots: z.object({ busy: count, limit: count, waiting: count }),
  sessions: count,
  cache: z.object({
    bytes: z.number(),
    limitBytes: z.number().describe('0: no limit'),
    diskFreeBytes: z.number(),
    diskBytes: z.number(),
  }),
  breakers: z.array(breaker).describe('remote caches in use since start'),
  canary: z.optional(canary),
  writable: z.boolean().describe('a token file is configured, so that the write calls can be used'),
});

export const alert = z.object({
  name: z.string(),
  severity: z.string(),
  summary: z.string(),
  detail: z.string(),
  since: z.optional(time),
  slo: z.optional(z.string()),
  runbook: z.boolean().describe('there is a runbook of that name'),
});
export const slo = z.looseObject({
  name: z.string(),
  title: z.string(),
  description: z.string(),
  target: z.number(),
  period: z.string(),
  events: z.string(),
  good: z.number(),
  total: z.number(),
  achieved: z.nullable(z.number()),
  budgetLeft: z.number().describe('1 untouched, 0 spent, negative overspent'),
  state: z.string(),
  note: z.optional(z.string()),
  exhaustsInSeconds: z.optional(z.nullable(z.number()).describe('at the burn rate of the last hour; null: not being spent')),
  coverage: z.optional(z.number().describe('share of the period in which the counters were looked at')),
  window: z.optional(z.looseObject({ from: time, to: time, calendar: z.optional(z.string()) })),
  policy: z.optional(
    z
      .nullable(z.looseObject({ budgetBelow: z.number(), consequence: z.string() }))
      .describe('what the budget policy asks for now'),
  ),
  adjustments: z.optional(
    z.array(
      z.looseObject({
        id: z.string(),
        kind: z.string(),
        author: z.string(),
        reason: z.string(),
        from: time,
        to: time,
        active: z.boolean(),
      }),
    ),
  ),
  burn: z.array(z.looseObject({ window: z.string(), good: z.number(), total: z.number(), burnRate: z.nullable(z.number()) })),
  pairs: z.array(
    z.looseObject({ severity: z.string(), long: z.string(), short: z.string(), factor: z.number(), firing: z.boolean() }),
  ),
});
export const sloReport = z.looseObject({ generatedAt: time, objectives: z.array(slo) });
export const sloSeries = z.object({
  periodSeconds: z.number(),
  endsAt: time,
  good: z.array(z.number()).describe('oldest first'),
  total: z.array(z.number()),
});

export const gcRun = z.object({
  at: time,
  trigger: z.string(),
  ok: z.boolean(),
  seconds: z.number(),
  freedBytes: z.number(),
  removedRecords: count,
  error: z.optional(z.string()),
});
export const cache = z.object({
  bytes: z.number(),
  limitBytes: z.number().describe('0: no limit'),
  disk: z.object({ freeBytes: z.number(), totalBytes: z.number() }),
  kinds: z.array(z.object({ kind: z.string(), bytes: z.number(), records: count, inUse: count })),
  growth: z.array(z.object({ at: time, bytes: z.number() })).describe('since the daemon started, one a few minutes'),
  policies: z.array(
    z.object({
      filters: z.array(z.string()),
      all: z.boolean(),
      keepSeconds: z.number(),
      reservedBytes: z.number(),
      maxUsedBytes: z.number(),
      minFreeBytes: z.number(),
    }),
  ),
  runs: z.array(gcRun).describe('newest first, since the daemon started'),
});
export const cacheRecord = z.object({
  id: z.string(),
  kind: z.string(),
  description: z.string(),
  bytes: z.number(),
  createdAt: time,
  lastUsedAt: z.optional(time),
  uses: count,
  inUse: z.boolean(),
  shared: z.boolean(),
});
export const gcPlan = z.object({
  bytes: z.number().describe('of all removals'),
  usedBytes: z.number(),
  records: count.describe('records there are'),
  removals: z.array(
    z.object({
      id: z.string(),
      kind: z.string(),
      description: z.string(),
      bytes: z.number(),
      createdAt: time,
      lastUsedAt: z.optional(time),
      uses: count,
      policy: z.union([z.string(), z.number()]),
      rule: z.string().describe('what of the policy says so'),
    }),
  ),
  kept: z.array(z.object({ reason: z.string(), records: count, bytes: z.number() })).describe('what stays, and why'),
  disk: z.object({ freeBytes: z.number(), totalBytes: z.number() }),
  daysToFull: z.optional(z.number().describe('absent while the disk does not fill')),
});

export const logLine = z.object({
  kind: z.enum(['log', 'warning']),
  step: z.string().describe('vertex digest'),
  atMs: z.number().describe('milliseconds since the Unix epoch'),
  text: z.string(),
  stream: z.optional(z.int().describe('1 standard output, 2 standard error')),
  url: z.optional(z.string()),
  place: z.optional(z.string().describe('file and line')),
});
export const runbook = z.object({
  name: z.string(),
  facts: attributes.describe('the front matter'),
  html: z.string().describe('rendered without any HTML of its own'),
});

export type BuildState = z.infer<typeof buildState>;
export type BuildSummary = z.infer<typeof buildSummary>;
export type BuildDetail = z.infer<typeof buildDetail>;
export type StepState = z.infer<typeof stepState>;
export type Step = z.infer<typeof step>;
export type Steps = z.infer<typeof steps>;
export type ComparedStep = z.infer<typeof comparedStep>;
export type Explanation = z.infer<typeof explanation>;
export type StepResources = z.infer<typeof stepResources>;
export type Comparison = z.infer<typeof comparison>;
export type StepSummary = z.infer<typeof stepSummary>;
export type StepRun = z.infer<typeof stepRun>;
export type Breaker = z.infer<typeof breaker>;
export type Canary = z.infer<typeof canary>;
export type Status = z.infer<typeof status>;
export type Alert = z.infer<typeof alert>;
export type Slo = z.infer<typeof slo>;
export type SloSeries = z.infer<typeof sloSeries>;
export type GcRun = z.infer<typeof gcRun>;
export type Cache = z.infer<typeof cache>;
export type CacheRecord = z.infer<typeof cacheRecord>;
export type GcPlan = z.infer<typeof gcPlan>;
export type LogLine = z.infer<typeof logLine>;
export type Runbook = z.infer<typeof runbook>;
