/** Functions the wiring hands to rooms that have no build to report to: the RPC server, registries, sessions, garbage collection. */
import { GRPC, type GrpcCode } from '../core/errors.ts';
import * as catalog from './catalog.ts';
import * as service from './catalog-service.ts';
import { OTHER } from './metric-spec.ts';
import type { ExemplarLabels, Metrics } from './metrics.ts';

const CODE_NAMES = new Map<number, string>(Object.entries(GRPC).map(([name, code]) => [code, name]));

export interface Recorders {
  /** One finished call. `path` as on the wire: `/moby.buildkit.v1.Control/Solve`. */
  rpc(path: string, code: GrpcCode | number, seconds: number): void;
  /** One registry request; `status` undefined when no answer came. */
  registryRequest(op: (typeof catalog.REGISTRY_OPS)[number], status: number | undefined): void;
  sessionEnded(end: 'closed' | 'lost'): void;
  gcRun(run: {
    readonly trigger: 'schedule' | 'prune' | 'pressure';
    readonly ok: boolean;
    readonly seconds: number;
    readonly freedBytes: number;
    readonly removedRecords: number;
  }): void;
  /** A look-up missed what garbage collection had removed a short while before. */
  cacheRegret(): void;
  /** A record that garbage collection removed, and how long it had not been used. */
  gcEvicted(idleSeconds: number): void;
  /** When the disk will be full; undefined while it does not fill. */
  timeToFull(seconds: number | undefined): void;
  reproducibilityCheck(result: (typeof service.REPRODUCIBILITY_RESULTS)[number]): void;
  /** A synthetic build ended. `atS`: now, seconds since the Unix epoch. */
  canaryBuild(result: (typeof service.CANARY_RESULTS)[number], seconds: number, atS: number, exemplar?: ExemplarLabels): void;
  /** What a registry said of its rate limit. */
  rateLimit(host: string, limit: number | undefined, remaining: number): void;
  certificate(name: 'grpc-server' | 'grpc-client-ca' | 'ops-server', notAfterS: number): void;
  /** Telemetry that was given up. */
  dropped(
    signal: (typeof catalog.TELEMETRY_SIGNALS)[number],
    reason: (typeof catalog.DROP_REASONS)[number],
    count?: number,
  ): void;
}

export function recorders(metrics: Metrics): Recorders {
  return {
    rpc: (path, code, seconds) =>
      metrics.observe(catalog.RPC_DURATION, { method: methodOf(path), code: CODE_NAMES.get(code) ?? 'UNKNOWN' }, seconds),
    registryRequest: (op, status) => metrics.add(catalog.REGISTRY_REQUESTS, { op, code_class: codeClassOf(status) }),
    sessionEnded: (end) => metrics.add(catalog.SESSIONS, { end }),
    gcRun: ({ trigger, ok, seconds, freedBytes, removedRecords }) => {
      metrics.add(catalog.GC_RUNS, { trigger, result: ok ? 'ok' : 'error' });
      metrics.add(catalog.GC_FREED_BYTES, {}, freedBytes);
      metrics.observe(catalog.GC_DURATION, {}, seconds);
      metrics.add(service.GC_REMOVED_RECORDS, { trigger }, removedRecords);
      metrics.set(service.GC_LAST_RUN, {}, Date.now() / 1000);
    },
    cacheRegret: () => metrics.add(catalog.GC_REGRET, {}),
    gcEvicted: (idleSeconds) => metrics.set(service.GC_LAST_EVICTED_AGE, {}, idleSeconds),
    timeToFull: (seconds) =>
      seconds === undefined ? metrics.clear(service.TIME_TO_FULL) : metrics.set(service.TIME_TO_FULL, {}, seconds),
    reproducibilityCheck: (result) => metrics.add(service.REPRODUCIBILITY_CHECKS, { result }),
    canaryBuild: (result, seconds, atS, exemplar) => {
      metrics.add(service.CANARY_BUILDS, { result });
      metrics.observe(service.CANARY_DURATION, {}, seconds, exemplar);
      if (result === 'success') metrics.set(service.CANARY_LAST_SUCCESS, {}, atS);
    },
    rateLimit: (host, limit, remaining) => {
      const registry = (service.KNOWN_REGISTRIES as readonly string[]).includes(host) ? host : OTHER;
      metrics.set(service.RATE_LIMIT_REMAINING, { registry }, remaining);
      if (limit !== undefined) metrics.set(service.RATE_LIMIT, { registry }, limit);
    },
    certificate: (certificate, notAfterS) => metrics.set(service.CERTIFICATE_NOT_AFTER, { certificate }, notAfterS),
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
