/** Gauges of the daemon itself, looked up when somebody scrapes: process, event loop, slots, disk, sessions, configuration. */
import { readdirSync, readFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import * as catalog from './catalog.ts';
import * as cicd from './catalog-cicd.ts';
import * as service from './catalog-service.ts';
import type { Metrics } from './metrics.ts';

/** What the daemon lets be looked at. Every function answers at once, from memory; those a daemon cannot serve are left out. */
export interface DaemonSources {
  readonly version: string;
  readonly slots?: () => { readonly busy: number; readonly limit: number; readonly waiting: number };
  readonly cache?: () => {
    readonly bytesByKind: Readonly<Record<string, number>>;
    readonly limitBytes: number;
    readonly recordsInUse: number;
    readonly recordsIdle: number;
  };
  readonly disk?: () => {
    readonly freeBytes: number;
    readonly sizeBytes: number;
    readonly freeInodes?: number;
    readonly inodes?: number;
  };
  readonly sessions?: () => number;
  readonly configUnknownKeys?: () => number;
}

const DELAY_INTERVAL_MS = 10_000; // long enough for a p99 of a few hundred ticks, short enough that a block shows in the next scrape
const DELAY_RESOLUTION_MS = 20; // fifty wake-ups a second cost an idle daemon nothing that shows

/** Starts observing. Dispose it to stop the event-loop monitor; the timers never keep the process alive. */
export function observeDaemon(metrics: Metrics, sources: DaemonSources): Disposable {
  metrics.set(catalog.BUILD_INFO, { version: sources.version, node: process.versions.node }, 1);
  metrics.set(catalog.PROCESS_START, {}, Math.round(Date.now() / 1000 - process.uptime()));
  metrics.set(catalog.PROCESS_MAX_FDS, {}, maxOpenFiles());
  const cpu = { value: 0 };
  metrics.onCollect(() => {
    collectProcess(metrics, cpu);
    collectSources(metrics, sources);
  });
  return observeEventLoop(metrics);
}

function collectProcess(metrics: Metrics, cpu: { value: number }): void {
  const { user, system } = process.cpuUsage();
  metrics.follow(catalog.PROCESS_CPU, {}, (user + system) / 1e6, cpu);
  metrics.set(catalog.PROCESS_RSS, {}, process.memoryUsage.rss());
  metrics.set(catalog.HEAP_USED, {}, process.memoryUsage().heapUsed);
  metrics.set(catalog.PROCESS_OPEN_FDS, {}, countOpenFiles());
}

function collectSources(metrics: Metrics, sources: DaemonSources): void {
  const slots = sources.slots?.();
  if (slots !== undefined) {
    metrics.set(catalog.WORKER_SLOTS, { state: 'busy' }, slots.busy);
    metrics.set(catalog.WORKER_SLOTS, { state: 'free' }, slots.limit - slots.busy);
    metrics.set(catalog.WORKER_SLOTS, { state: 'waiting' }, slots.waiting);
    metrics.set(cicd.CICD_WORKERS, { cicd_worker_state: 'busy' }, slots.busy);
    metrics.set(cicd.CICD_WORKERS, { cicd_worker_state: 'available' }, slots.limit - slots.busy);
  }
  const cache = sources.cache?.();
  if (cache !== undefined) {
    for (const kind of catalog.CACHE_KINDS) metrics.set(catalog.CACHE_BYTES, { kind }, cache.bytesByKind[kind] ?? 0);
    metrics.set(catalog.CACHE_LIMIT_BYTES, {}, cache.limitBytes);
    metrics.set(catalog.CACHE_RECORDS, { in_use: 'true' }, cache.recordsInUse);
    metrics.set(catalog.CACHE_RECORDS, { in_use: 'false' }, cache.recordsIdle);
  }
  const disk = sources.disk?.();
  if (disk !== undefined) {
    metrics.set(catalog.DISK_FREE_BYTES, {}, disk.freeBytes);
    metrics.set(catalog.DISK_SIZE_BYTES, {}, disk.sizeBytes);
    metrics.set(service.DISK_FREE_INODES, {}, disk.freeInodes ?? 0);
    metrics.set(service.DISK_INODES, {}, disk.inodes ?? 0);
  }
  metrics.set(catalog.SESSIONS_ACTIVE, {}, sources.sessions?.() ?? 0);
  metrics.set(catalog.CONFIG_UNKNOWN_KEYS, {}, sources.configUnknownKeys?.() ?? 0);
}

/** The monitor records the time between ticks of its own timer, so a healthy loop reads as the timer's period: that is taken off. */
function observeEventLoop(metrics: Metrics): Disposable {
  const delay = monitorEventLoopDelay({ resolution: DELAY_RESOLUTION_MS });
  delay.enable();
  const lateS = (ns: number): number => Math.max(ns / 1e9 - DELAY_RESOLUTION_MS / 1e3, 0);
  const timer = setInterval(() => {
    metrics.set(catalog.EVENT_LOOP_DELAY, { stat: 'p50' }, lateS(delay.percentile(50)));
    metrics.set(catalog.EVENT_LOOP_DELAY, { stat: 'p99' }, lateS(delay.percentile(99)));
    metrics.set(catalog.EVENT_LOOP_DELAY, { stat: 'max' }, lateS(delay.max));
    delay.reset();
  }, DELAY_INTERVAL_MS);
  timer.unref();
  return {
    [Symbol.dispose]() {
      clearInterval(timer);
      delay.disable();
    },
  };
}

/** procfs is a memory read, so synchronous calls do not wait for a disk. 0 where there is no procfs. */
function countOpenFiles(): number {
  try {
    return readdirSync('/proc/self/fd').length - 1; // the listing holds one itself
  } catch {
    return 0;
  }
}

function maxOpenFiles(): number {
  try {
    return Number(/Max open files\s+(\d+)/.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
