/** Wires remote caches: which types there are, what the configuration names by default, and who hears of what happens to them. */
import { findStoreBackend } from '../../builder/cache/remote/backends.ts';
import { folderBackend } from '../../builder/cache/remote/folder-store.ts';
import { localBackend } from '../../builder/cache/remote/local-store.ts';
import { DEFAULT_POLICY } from '../../builder/cache/remote/policy.ts';
import type { CacheObserver, CacheOp, CallResult, StoreBackend } from '../../builder/cache/remote/ports.ts';
import { registryBackend } from '../../builder/cache/remote/registry-store.ts';
import { RemoteCaches } from '../../builder/cache/remote/remote-caches.ts';
import type { ContentStore } from '../../builder/content/ports.ts';
import type { RemoteCacheOp, RemoteCacheResult, ServiceEventSink } from '../../builder/events.ts';
import { isLoopback, type RegistryHosts } from '../../builder/registry/endpoints.ts';
import type { Registry } from '../../builder/registry/ports.ts';
import type { Sessions } from '../../builder/session/ports.ts';
import type { Snapshots } from '../../builder/snapshot/ports.ts';
import type { SessionAuths } from '../../builder/source/session-auth.ts';
import type { Clock } from '../../core/clock.ts';
import { msToNs } from '../../core/clock.ts';
import type { Logger } from '../../telemetry/logs.ts';
import { VERSION } from '../version.ts';
import type { DaemonConfig } from './daemon-config.ts';

export interface RemoteCacheParts {
  readonly clock: Clock;
  readonly content: ContentStore;
  readonly snapshots: Snapshots;
  readonly registry: Registry;
  readonly auths: SessionAuths;
  readonly sessions: Sessions;
  readonly events: ServiceEventSink;
  readonly log: Logger;
}

export function openRemoteCaches(config: Pick<DaemonConfig, 'registries' | 'caches'>, parts: RemoteCacheParts): RemoteCaches {
  const { clock, content, snapshots, registry, auths, sessions, events, log } = parts;
  const own: readonly StoreBackend[] = [
    registryBackend({
      registry,
      content,
      authOf: (ids) => auths.of(ids),
      addressOf: (host) => addressOf(host, config.registries),
    }),
    localBackend(sessions),
  ];
  const backends = (type: string): StoreBackend | undefined => own.find(({ name }) => name === type) ?? findStoreBackend(type);
  const { entries, lookupMs, patienceMs, retryExportMs, answerMs, transferMs } = config.caches;
  const policy = { ...DEFAULT_POLICY, answerMs, silenceMs: transferMs, slowAfterMs: transferMs };
  return new RemoteCaches({
    clock,
    content,
    snapshots,
    observer: cacheObserver(clock, events, log),
    backends,
    defaults: { entries, backends: (type) => (type === folderBackend.name ? folderBackend : undefined) },
    store: { nowMs: Date.now, userAgent: `cooper/${VERSION}`, env: process.env },
    limits: { policy, lookupMs, patienceMs, retryExportMs },
  });
}

/** Where a registry answers TCP; undefined when a mirror may answer for it. */
function addressOf(host: string, hosts: RegistryHosts): { readonly host: string; readonly port: number } | undefined {
  const { mirrors = [], http } = hosts[host] ?? {};
  if (mirrors.length > 0) return undefined;
  const [, name = host, port] = /^(.*?)(?::(\d+))?$/.exec(host) ?? [];
  const plain = http ?? isLoopback(host);
  const address = name === 'docker.io' ? 'registry-1.docker.io' : name.replace(/^\[|\]$/g, '');
  return { host: address, port: port === undefined ? (plain ? 80 : 443) : Number(port) };
}

const OPS: Readonly<Partial<Record<CacheOp, RemoteCacheOp>>> = {
  'manifest-read': 'import',
  'blob-read': 'load',
  'blob-write': 'upload',
};
const RESULTS: Readonly<Partial<Record<CallResult, RemoteCacheResult>>> = {
  ok: 'ok',
  miss: 'miss',
  skipped: 'skipped',
  'not-found': 'miss',
  'timed-out': 'timeout',
  denied: 'denied',
  corrupt: 'corrupt',
};

/** What happens to remote caches, for metrics and the log. An outage runs while any place is down. */
export function cacheObserver(clock: Clock, events: ServiceEventSink, log: Logger): CacheObserver {
  const down = new Map<string, bigint>();
  return {
    operation(backend, op, result, seconds, bytes) {
      const named = OPS[op];
      if (named === undefined || result === 'cancelled') return;
      const durationNs = msToNs(seconds * 1000);
      const type = 'remote-cache-operation';
      events.report({ type, atNs: clock.nowNs(), backend, op: named, result: RESULTS[result] ?? 'error', durationNs, bytes });
    },
    breaker(backend, target, state) {
      const atNs = clock.nowNs();
      events.report({ type: 'breaker-changed', atNs, backend, target, state, sinceNs: atNs });
    },
    outageStarted(backend, endpoint, error) {
      log.warn('remote cache is down; builds go on without it', { backend, endpoint, error });
      const atNs = clock.nowNs();
      if (down.size === 0) events.report({ type: 'outage-began', atNs, component: 'remote-cache' });
      down.set(`${backend} ${endpoint}`, atNs);
    },
    outageEnded(backend, endpoint, seconds) {
      log.info('remote cache is back', { backend, endpoint, downSeconds: Math.round(seconds) });
      const startedAtNs = [...down.values()][0];
      down.delete(`${backend} ${endpoint}`);
      if (down.size > 0 || startedAtNs === undefined) return;
      events.report({ type: 'outage-ended', atNs: clock.nowNs(), component: 'remote-cache', startedAtNs });
    },
    quarantined(backend, endpoint, digest, error) {
      log.error('a blob of a remote cache is not what its digest says; it is not used', { backend, endpoint, digest, error });
      events.report({ type: 'quarantined', atNs: clock.nowNs(), digest, origin: 'remote-cache' });
    },
    imported(backend, outcome, seconds) {
      log.debug('cache imported', { backend, outcome, seconds });
    },
    exported(backend, outcome, seconds, inBackground) {
      if (outcome === 'retrying' || outcome === 'cancelled') return;
      const result = outcome === 'empty' ? 'ok' : (RESULTS[outcome] ?? 'error');
      const durationNs = msToNs(seconds * 1000);
      events.report({ type: 'remote-cache-operation', atNs: clock.nowNs(), backend, op: 'export', result, durationNs, bytes: 0 });
      if (!inBackground) return;
      if (result === 'ok') log.info('cache export in the background ended', { backend, seconds });
      else log.warn('cache export in the background failed; it is not tried again', { backend, outcome, seconds });
    },
  };
}
