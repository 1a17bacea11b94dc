/** Garbage collection, put together: collector, schedule, disk guard, forecast, checks, and the service operators reach them by. */
import { statfs } from 'node:fs/promises';
import type { KeyIndex } from '../../builder/cache/key-index.ts';
import type { DiskContentStore } from '../../builder/content/content-store.ts';
import type { GcParts } from '../../builder/control/gc-service.ts';
import type { EventSink } from '../../builder/events.ts';
import { checkStores, dropDanglingKeys } from '../../builder/gc/check.ts';
import type { Evictions } from '../../builder/gc/evictions.ts';
import { openForecast } from '../../builder/gc/forecast.ts';
import { DiskGuard } from '../../builder/gc/guard.ts';
import type { DiskSpace } from '../../builder/gc/policy.ts';
import { Collector } from '../../builder/gc/prune.ts';
import type { Metadata } from '../../builder/metadata/ports.ts';
import type { OpenedSnapshots } from '../../builder/snapshot/snapshots.ts';
import type { Clock } from '../../core/clock.ts';
import type { Logger } from '../../telemetry/logs.ts';
import type { Recorders } from '../../telemetry/recorders.ts';
import type { GcConfig } from './gc-config.ts';

export interface GarbageParts {
  readonly root: string;
  readonly config: GcConfig;
  readonly snapshots: OpenedSnapshots;
  readonly content: DiskContentStore;
  readonly metadata: Metadata;
  readonly index: KeyIndex;
  readonly evictions: Evictions;
  readonly clock: Clock;
  readonly recorders: Recorders;
  readonly log: Logger;
  /** True while no build runs and no record of one is being written. */
  readonly quiet: () => boolean;
}
export interface Garbage extends AsyncDisposable {
  readonly collector: Collector;
  /** Starts collections after builds, and at once after one that ran out of space. */
  readonly sink: EventSink;
  readonly service: GcParts;
}

const SAMPLE_MS = 60_000;
const FULL = /ENOSPC|no space left on|disk is full/i;

export async function openGarbage(parts: GarbageParts): Promise<Garbage> {
  const { config, clock, log, recorders, snapshots, content, metadata, index, evictions } = parts;
  await using stack = new AsyncDisposableStack();
  const space = (): Promise<DiskSpace> => spaceOf(parts.root);
  snapshots.onExpired((id) => void index.removed(id));
  const dangling = dropDanglingKeys(index, snapshots);
  if (dangling > 0) log.info('cache keys without a result were dropped', { dangling });
  const forecast = await openForecast(metadata, clock);
  const collector = stack.use(
    new Collector({
      snapshots,
      content,
      clock,
      space,
      policies: config.policies,
      once: config.once,
      quiet: parts.quiet,
      settled: async () => {
        await snapshots.settled();
        await metadata.flush().catch(() => {}); // a full disk takes no rows; they wait, and collecting is what makes room
      },
      onRemoved: (record, by) => evictions.add(record, index.removed(record.id), by),
      onRun: (run) => {
        recorders.gcRun(run);
        if (run.lastRemovedUnusedSeconds !== undefined) recorders.gcEvicted(run.lastRemovedUnusedSeconds);
        if (run.error !== undefined && !run.ok) log.error('garbage collection failed', { error: run.error });
      },
    }),
  );
  collector.every(config.periodMs);
  if (config.once !== undefined) collector.afterBuild();
  const onError = (error: unknown): void => log.warn('disk guard', { error });
  const guard = stack.use(
    new DiskGuard({
      space,
      ...config.guard,
      relieve: (isShort) => collector.relieve(isShort),
      onPressure: (what, { freeBytes, freeInodes }) => log.warn('collecting: the disk is short', { what, freeBytes, freeInodes }),
      onError,
    }),
  );
  const sample = async (): Promise<void> => {
    forecast.sample((await space()).freeBytes);
    recorders.timeToFull(forecast.secondsToFull());
  };
  void sample().catch(onError);
  const timer = setInterval(() => void sample().catch(onError), SAMPLE_MS);
  timer.unref();
  stack.defer(() => clearInterval(timer));
  const opened = stack.move();
  return {
    collector,
    sink: {
      emit(event) {
        if (event.type !== 'build-finished') return;
        collector.afterBuild();
        if (config.enabled && event.result !== 'success' && FULL.test(event.error ?? '')) void guard.outOfSpace();
      },
    },
    service: {
      plan: (selection) => collector.plan(selection),
      run: (selection, signal) => collector.run(selection, signal),
      secondsToFull: () => forecast.secondsToFull(),
      check: async (options, signal) => await checkStores({ content, snapshots, index, metadata }, options, signal),
      warmed({ built, failed, seconds }) {
        recorders.warmed(built, failed);
        log.info('cache warmed', { built, failed, seconds });
      },
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

/** Of the file system that holds the state folder; inodes are 0 where it has no limit of them. */
export async function spaceOf(root: string): Promise<DiskSpace & { readonly totalInodes: number; readonly freeInodes: number }> {
  const { bavail, blocks, bsize, files, ffree } = await statfs(root);
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize, totalInodes: files, freeInodes: ffree };
}
