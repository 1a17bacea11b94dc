/** Functions the wiring hands to rooms that have no build to report to: the RPC server, registries, sessions, garbage collection. */
import { GRPC, type GrpcCode } from '../core/errors.ts';
import * as catalog from './catalog.ts';
import * as service from './catalog-service.ts';
import { OTHER } from './metric-spec.ts';
import type { ExemplarLabels, Metrics } from './metrics.ts';
import { parseTraceparent } from './span.ts';

const CODE_NAMES = new Map<number, string>(Object.entries(GRPC).map(([name, code]) => [code, name]));

/** What is known of a request to a registry. */
export interface RegistryFacts {
  readonly host: string;
  readonly durationMs: number;
  readonly rateLimit?: { readonly limit?: number; readonly remaining: number };
}

export interface Recorders {
  /** One finished call. `path` as on the wire: `/moby.buildkit.v1.Control/Solve`. */
  rpc(path: string, code: GrpcCode | number, seconds: number, traceparent?: string): void;
  /** One registry request; `status` undefined when no answer came. */
  registryRequest(op: (typeof service.REGISTRY_OPS)[number], status: number | undefined, facts?: RegistryFacts): void;
  sessionEnded(end: 'closed' | 'lost'): void;
  gcRun(run: {
    readonly trigger: 'schedule' | 'prune' | 'pressure';
    readonly ok: boolean;
    readonly seconds: number;
    readonly freedBytes: number;
    readonly removedRecords: number;
    /** The same by rule, as `gc plan` writes it: `over limit`. */
    readonly removedByRule: Readonly<Record<string, number | undefined>>;
  }): void;
  /** A look-up missed what garbage collection had removed a short while before. */
  cacheRegret(): void;
  /** One run of `cooper cache warm`. */
  warmed(built: number, failed: number): void;
  /** A record that garbage collection removed, and how long it had not been used. */
  gcEvicted(idleSeconds: number): void;
  /** When the disk will be full; undefined while it does not fill. */
  timeToFull(seconds: number | undefined): void;
  reproducibilityCheck(result: (typeof service.REPRODUCIBILITY_RESULTS)[number]): void;
  /** A synthetic build ended. `atS`: now, seconds since the Unix epoch. */
  canaryBuild(result: (typeof service.CANARY_RESULTS)[number], seconds: number, atS: number, exemplar?: ExemplarLabels): void;
  certificate(name: 'grpc-server' | 'grpc-client-ca' | 'ops-server', notAfterS: number): void;
  /** A record of the daemon's own log. */
  logged(level: 'debug' | 'info' | 'warn' | 'error'): void;
  /** Alerts were sent to a receiver, or could not be. */
  alertsPosted(result: 'ok' | 'error'): void;
  /** Telemetry that was given up. */
  dropped(
    signal: (typeof catalog.TELEMETRY_SIGNALS)[number],
    reason: (typeof catalog.DROP_REASONS)[number],
    count?: number,
  ): void;
}

export function recorders(metrics: Metrics): Recorders {
  const rateLimit = (host: string, { limit, remaining }: { readonly limit?: number; readonly remaining: number }): void => {
    const name = host === 'registry-1.docker.io' ? 'docker.io' : host;
    const registry = (service.KNOWN_REGISTRIES as readonly string[]).includes(name) ? name : OTHER;
    metrics.set(service.RATE_LIMIT_REMAINING, { registry }, remaining);
    if (limit !== undefined) metrics.set(service.RATE_LIMIT, { registry }, limit);
  };
  return {
    rpc: (path, code, seconds, traceparent) => {
      const labels = { method: methodOf(path), code: CODE_NAMES.get(code) ?? 'UNKNOWN' };
      const span = parseTraceparent(traceparent);
      const exemplar = span?.sampled === true ? { trace_id: span.traceId, span_id: span.spanId } : undefined;
      metrics.observe(catalog.RPC_DURATION, labels, seconds, exemplar);
    },
    registryRequest: (op, status, facts) => {
      metrics.add(catalog.REGISTRY_REQUESTS, { op, code_class: codeClassOf(status) });
      if (facts === undefined) return;
      metrics.observe(service.REGISTRY_DURATION, { op }, facts.durationMs / 1e3);
      if (facts.rateLimit !== undefined) rateLimit(facts.host, facts.rateLimit);
    },
    sessionEnded: (end) => metrics.add(catalog.SESSIONS, { end }),
    gcRun: ({ trigger, ok, seconds, freedBytes, removedByRule }) => {
      metrics.add(catalog.GC_RUNS, { trigger, result: ok ? 'ok' : 'error' });
      metrics.add(catalog.GC_FREED_BYTES, {}, freedBytes);
      metrics.observe(catalog.GC_DURATION, {}, seconds);
      for (const rule of service.GC_RULES)
        metrics.add(service.GC_REMOVED_RECORDS, { trigger, rule }, removedByRule[rule.replace('_', ' ')] ?? 0);
      metrics.set(service.GC_LAST_RUN, {}, Date.now() / 1000);
    },
    cacheRegret: () => metrics.add(catalog.GC_REGRET, {}),
    warmed: (built, failed) => {
      metrics.add(service.WARM_TARGETS, { result: 'built' }, built);
      metrics.add(service.WARM_TARGETS, { result: 'failed' }, failed);
      metrics.set(service.WARM_LAST_RUN, {}, Date.now() / 1000);
    },
    gcEvicted: (idleSeconds) => metrics.set(service.GC_LAST_EVICTED_AGE, {}, idleSeconds),
    timeToFull: (seconds) =>
      seconds === undefined ? metrics.clear(service.TIME_TO_FULL) : metrics.set(service.TIME_TO_FULL, {}, seconds),
    reproducibilityCheck: (result) => metrics.add(service.REPRODUCIBILITY_CHECKS, { result }),
    canaryBuild: (result, seconds, atS, exemplar) => {
      metrics.add(service.CANARY_BUILDS, { result });
      metrics.observe(service.CANARY_DURATION, {}, seconds, exemplar);
      if (result === 'success') metrics.set(service.CANARY_LAST_SUCCESS, {}, atS);
    },
    certificate: (certificate, notAfterS) => metrics.set(service.CERTIFICATE_NOT_AFTER, { certificate }, notAfterS),
    logged: (level) => metrics.add(service.LOG_RECORDS, { level }),
    alertsPosted: (result) => metrics.add(catalog.TELEMETRY_EXPORTS, { signal: 'alerts', result }),
    dropped: (signal, reason, count = 1) => metrics.add(catalog.TELEMETRY_DROPPED, { signal, reason }, count),
  };
}

/** `/moby.buildkit.v1.Control/Solve` is `Control/Solve`. */
const methodOf = (path: string): string => path.slice(path.slice(0, path.lastIndexOf('/')).lastIndexOf('.') + 1);

function codeClassOf(status: number | undefined): (typeof catalog.CODE_CLASSES)[number] {
  if (status === undefined) return 'network';
  if (status === 429) return '429';
  if (status >= 500) return '5xx';
  if (status >= 400) return '4xx';
  return status >= 300 ? '3xx' : '2xx';
}
