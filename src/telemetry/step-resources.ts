/**
 * What RUN steps use, as metrics: counters that grow while a step runs and not only when it ends, and gauges over the steps that run
 * now. A step shared by several builds is reported to each with the same objects; it is counted once.
 */
import type { ResourceSample, StepUsage } from '../builder/events.ts';
import { nsToSeconds } from '../core/clock.ts';
import * as catalog from './catalog.ts';
import type { Metrics } from './metrics.ts';

type Counts = Pick<ResourceSample, 'cpuNs' | 'throttledNs' | 'readBytes' | 'writeBytes'>;

/** Adds what was used since `before`; called once per sample, and once for the step's end. */
export function countResources(metrics: Metrics, before: Counts | undefined, now: Counts): void {
  const grown = (field: keyof Counts): number => {
    const by = (now[field] ?? 0n) - (before?.[field] ?? 0n);
    return by > 0n ? Number(by) : 0;
  };
  metrics.add(catalog.STEP_CPU, {}, grown('cpuNs') / 1e9);
  metrics.add(catalog.STEP_CPU_THROTTLED, {}, grown('throttledNs') / 1e9);
  metrics.add(catalog.STEP_IO_BYTES, { direction: 'read' }, grown('readBytes'));
  metrics.add(catalog.STEP_IO_BYTES, { direction: 'write' }, grown('writeBytes'));
}

/** Counters that only make sense once the process has ended. */
export function countEnd(metrics: Metrics, usage: StepUsage): void {
  metrics.observe(catalog.STEP_PEAK_MEMORY, {}, usage.peakMemoryBytes);
  if (usage.oomKilled) metrics.add(catalog.WORKER_OOM_KILLS, { scope: usage.oom?.scope ?? 'daemon' });
  for (const resource of catalog.PRESSURE_RESOURCES) {
    for (const kind of ['some', 'full'] as const) {
      const waited = usage.pressure?.[resource]?.[kind].totalNs;
      if (waited !== undefined) metrics.add(catalog.STEP_PRESSURE, { resource, kind }, nsToSeconds(waited));
    }
  }
}

/** Sets the gauges to what the steps that run now use; `latest` may name one sample several times. */
export function showRunning(metrics: Metrics, latest: Iterable<ResourceSample>): void {
  const running = [...new Set(latest)];
  const sum = (of: (sample: ResourceSample) => number): number => running.reduce((total, sample) => total + of(sample), 0);
  const most = (of: (sample: ResourceSample) => number): number => running.reduce((top, sample) => Math.max(top, of(sample)), 0);
  metrics.set(
    catalog.RUNNING_MEMORY,
    {},
    sum(({ memoryBytes = 0 }) => memoryBytes),
  );
  metrics.set(
    catalog.RUNNING_PROCESSES,
    {},
    sum(({ processes = 0 }) => processes),
  );
  metrics.set(
    catalog.RUNNING_MEMORY_OF_LIMIT,
    {},
    most(({ memoryBytes = 0, memoryLimitBytes = 0 }) => (memoryLimitBytes > 0 ? memoryBytes / memoryLimitBytes : 0)),
  );
  for (const resource of catalog.PRESSURE_RESOURCES)
    for (const kind of ['some', 'full'] as const)
      metrics.set(
        catalog.RUNNING_PRESSURE,
        { resource, kind },
        most(({ pressure }) => pressure?.[resource]?.[kind].avg10 ?? 0),
      );
}
