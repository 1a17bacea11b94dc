/** Providers with one build and one objective, for tests of the ops server without a daemon; whoever tests a part replaces it. */
import type { SloReport } from '../slo/report.ts';
import type { BuildDetail, Cache, LogLine } from './api/model.ts';
import type { OpsProviders, TraceSpan, WriteRecord } from './ops-providers.ts';

export const SLO: SloReport = {
  generatedAt: '2026-01-01T00:00:00Z',
  objectives: [
    {
      name: 'build-success',
      title: 'Build success',
      description: 'Builds end as their input deserves.',
      target: 0.99,
      period: '7d',
      events: 'builds',
      good: 99,
      total: 100,
      achieved: 0.99,
      budgetLeft: 0,
      state: 'ok',
      window: { from: '2025-12-25T00:00:00Z', to: '2026-01-01T00:00:00Z' },
      exhaustsInSeconds: null,
      coverage: 1,
      inconsistentSamples: 0,
      policy: null,
      adjustments: [],
      burn: [],
      pairs: [],
    },
  ],
};
export const DETAIL: BuildDetail = {
  ref: 'r/1?<b>',
  name: '<script>alert(1)</script>',
  startedAt: '2026-01-01T00:00:00Z',
  endedAt: '2026-01-01T00:00:01.234Z',
  durationMs: 1234,
  state: 'failure',
  error: 'RUN "x" & y',
  steps: { total: 5, completed: 5, cached: 2 },
  warnings: 0,
  frontend: 'dockerfile.v0',
  options: { target: 'app', 'build-arg:TOKEN': '(not shown)' },
  exporters: [],
  response: {},
  logBytes: 10,
};
export const CACHE: Cache = {
  bytes: 10,
  limitBytes: 100,
  disk: { freeBytes: 50, totalBytes: 100 },
  kinds: [{ kind: 'regular', bytes: 10, records: 1, inUse: 0 }],
  growth: [],
  policies: [],
  runs: [],
};

const S = 1_000_000_000n;
export const digestOf = (name: string): string => `sha256:${Buffer.from(name).toString('hex').padEnd(64, '0').slice(0, 64)}`;
/** A span of a step as the daemon's traces have it; times in seconds after the start of the build. */
export function stepSpan(
  name: string,
  from: number,
  to: number,
  rest: { readonly inputs?: readonly string[]; readonly attributes?: TraceSpan['attributes']; readonly status?: string } = {},
): TraceSpan {
  return {
    name,
    traceId: 't',
    spanId: name,
    parentSpanId: 'root',
    startNs: BigInt(Math.round(from * 1e9)) + 1000n * S,
    endNs: BigInt(Math.round(to * 1e9)) + 1000n * S,
    attributes: { 'cicd.pipeline.task.run.id': digestOf(name), 'cooper.step.op': 'exec', ...rest.attributes },
    events: [],
    links: (rest.inputs ?? []).map((spanId) => ({ spanId })),
    status: rest.status ?? 'unset',
  };
}
export const rootSpan = (seconds: number, attributes: TraceSpan['attributes'] = {}): TraceSpan => ({
  name: 'BUILD app',
  traceId: 't',
  spanId: 'root',
  startNs: 1000n * S,
  endNs: 1000n * S + BigInt(Math.round(seconds * 1e9)),
  attributes: { 'cicd.pipeline.run.id': 'r', ...attributes },
  events: [],
  links: [],
  status: 'unset',
});

export async function* linesOf(...texts: readonly string[]): AsyncGenerator<LogLine> {
  for (const text of texts) yield { kind: 'log', step: digestOf('a'), atMs: 1, text, stream: 1 };
}

export function providers(change: Partial<OpsProviders> = {}, audited: WriteRecord[] = []): OpsProviders {
  const { frontend: _f, options: _o, exporters: _e, response: _r, logBytes: _l, ...summary } = DETAIL;
  const spans = [rootSpan(3), stepSpan('a', 0, 1), stepSpan('b', 1, 3, { inputs: ['a'] })];
  return {
    version: '1.2.3',
    scrape: async (accept) => ({
      contentType: accept.includes('openmetrics') ? 'application/openmetrics-text' : 'text/plain',
      body: 'm 1\n',
    }),
    ready: () => [{ name: 'worker', ok: true }],
    status: () => ({
      startedAt: '2026-01-01T00:00:00Z',
      addresses: ['unix:///run/cooper/cooperd.sock'],
      builds: { running: 0, queued: 0, limit: 4, oldestQueuedSeconds: 0 },
      slots: { busy: 0, limit: 2, waiting: 0 },
      sessions: 0,
      cache: { bytes: 10, limitBytes: 100, diskFreeBytes: 50, diskBytes: 100 },
      breakers: [],
    }),
    slo: async () => SLO,
    sloSeries: (name, parts) =>
      name === 'build-success'
        ? { periodSeconds: 604_800, endsAt: '2026-01-01T00:00:00Z', good: Array(parts).fill(1), total: Array(parts).fill(1) }
        : undefined,
    sloRecords: () => ({ objectives: [], slots: {}, adjustments: [] }),
    sloAdjustments: () => [],
    alerts: async () => [],
    runbook: async (name) => (name === 'CooperTest' ? '---\nalert: CooperTest\n---\n# CooperTest\n' : undefined),
    builds: ({ limit, after }) => (after === undefined ? [summary].slice(0, limit) : []),
    build: async (ref) => (ref === DETAIL.ref ? DETAIL : undefined),
    explain: async (ref) =>
      ref === DETAIL.ref
        ? { ref, startedAt: DETAIL.startedAt, totals: { cacheable: 0, misses: 0, savedSeconds: 0 }, causes: [], steps: [] }
        : undefined,
    rawOptions: () => DETAIL.options,
    trace: async (ref) => (ref === DETAIL.ref ? spans : undefined),
    traceJson: async (ref) => (ref === DETAIL.ref ? [{ name: 'BUILD app', traceId: 't', spanId: 'root' }] : undefined),
    logs: (ref) => (ref === DETAIL.ref ? linesOf('hello\n', 'world\n') : undefined),
    cache: async () => CACHE,
    cacheRecords: async () => [],
    gcPlan: async () => ({
      bytes: 0,
      usedBytes: 0,
      records: 0,
      removals: [],
      kept: [],
      disk: { freeBytes: 50, totalBytes: 100 },
    }),
    writes: {},
    audit: (record) => audited.push(record),
    used: () => {},
    onError: () => {},
    ...change,
  };
}
