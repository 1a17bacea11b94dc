/**
 * What the steps of one build use: the last look at each running step, and for the record a curve per step of at most MAX_SAMPLES
 * points (when it is full every second point goes, so a long step keeps its shape). Field names are those of BuildKit's ResourceUsage.
 */
import { rfc3339 } from '../../core/clock.ts';
import type { VertexDigest } from '../../core/digest.ts';
import type { BuildEvent, EventSink, OomKill, Pressure, ResourcePressure, ResourceSample, StepUsage } from '../events.ts';

export interface PressureJson {
  /** `avg10` is a share of 0 to 1, `total` microseconds, as the kernel counts it. */
  readonly some: { readonly avg10: number; readonly total: number };
  readonly full: { readonly avg10: number; readonly total: number };
}
export interface SampleJson {
  /** RFC 3339. */
  readonly timestamp?: string;
  readonly cpuStat?: { readonly usageNanos?: number; readonly throttledNanos?: number; readonly pressure?: PressureJson };
  readonly memoryStat?: { readonly current?: number; readonly peak?: number; readonly pressure?: PressureJson };
  readonly ioStat?: { readonly readBytes?: number; readonly writeBytes?: number; readonly pressure?: PressureJson };
  readonly pidsStat?: { readonly current?: number };
}
export interface StepResourcesJson {
  readonly step: VertexDigest;
  readonly name: string;
  readonly running: boolean;
  readonly memoryLimitBytes?: number;
  /** The whole step once it has ended, else the last sample. */
  readonly usage: SampleJson;
  readonly oom?: OomKill;
  readonly samples: readonly SampleJson[];
}

interface StepSeries {
  name: string;
  samples: ResourceSample[];
  /** One of so many samples is kept. */
  stride: number;
  seen: number;
  last: ResourceSample | undefined;
  usage: StepUsage | undefined;
}

const MAX_SAMPLES = 60;

export class ResourceLog implements EventSink {
  readonly #names = new Map<VertexDigest, string>();
  readonly #steps = new Map<VertexDigest, StepSeries>();

  emit(event: BuildEvent): void {
    if (event.type === 'steps-announced') for (const { step, name } of event.steps) this.#names.set(step, name);
    else if (event.type === 'step-resources') this.#sampled(event.step, event.sample);
    else if (event.type === 'step-finished') this.#finished(event.step, event.usage);
  }

  /** True once any step ran a process that was looked at or has ended. */
  get isEmpty(): boolean {
    return this.#steps.size === 0;
  }

  /** Steps that ran a process, in the order they were first seen. */
  toJson(): StepResourcesJson[] {
    return [...this.#steps].map(([step, series]) => stepJson(step, series));
  }

  /** What the steps that run now use together. */
  running(): { readonly steps: number; readonly memoryBytes: number; readonly processes: number } {
    const latest = [...this.#steps.values()].flatMap(({ last, usage }) =>
      usage === undefined && last !== undefined ? [last] : [],
    );
    return {
      steps: latest.length,
      memoryBytes: latest.reduce((sum, { memoryBytes = 0 }) => sum + memoryBytes, 0),
      processes: latest.reduce((sum, { processes = 0 }) => sum + processes, 0),
    };
  }

  #sampled(step: VertexDigest, sample: ResourceSample): void {
    const series = this.#series(step);
    series.last = sample;
    if (series.seen % series.stride === 0) series.samples.push(sample);
    series.seen += 1;
    if (series.samples.length < MAX_SAMPLES) return;
    series.samples = series.samples.filter((_, index) => index % 2 === 0);
    series.stride *= 2;
  }

  #finished(step: VertexDigest, usage: StepUsage | undefined): void {
    if (usage !== undefined) this.#series(step).usage = usage;
    else {
      const series = this.#steps.get(step);
      if (series !== undefined) series.last = undefined; // stopped: it runs no more, for this build
    }
  }

  #series(step: VertexDigest): StepSeries {
    let series = this.#steps.get(step);
    if (series === undefined) {
      series = { name: this.#names.get(step) ?? step, samples: [], stride: 1, seen: 0, last: undefined, usage: undefined };
      this.#steps.set(step, series);
    }
    return series;
  }
}

function stepJson(step: VertexDigest, { name, samples, last, usage }: StepSeries): StepResourcesJson {
  const limit = usage?.memoryLimitBytes ?? samples[0]?.memoryLimitBytes;
  return {
    step,
    name,
    running: usage === undefined && last !== undefined,
    ...(limit === undefined ? {} : { memoryLimitBytes: limit }),
    usage: usage === undefined ? (last === undefined ? {} : sampleJson(last)) : sampleJson(usage),
    ...(usage?.oom === undefined ? {} : { oom: usage.oom }),
    samples: samples.map(sampleJson),
  };
}

function sampleJson(sample: Partial<ResourceSample>): SampleJson {
  const { atNs, cpuNs, throttledNs, memoryBytes, peakMemoryBytes, readBytes, writeBytes, processes } = sample;
  const pressure: ResourcePressure = sample.pressure ?? {};
  return {
    ...(atNs === undefined ? {} : { timestamp: rfc3339(atNs) }),
    cpuStat: { ...nanos('usageNanos', cpuNs), ...nanos('throttledNanos', throttledNs), ...pressureJson(pressure.cpu) },
    memoryStat: {
      ...(memoryBytes === undefined ? {} : { current: memoryBytes }),
      ...(peakMemoryBytes === undefined || peakMemoryBytes === 0 ? {} : { peak: peakMemoryBytes }),
      ...pressureJson(pressure.memory),
    },
    ioStat: { ...nanos('readBytes', readBytes), ...nanos('writeBytes', writeBytes), ...pressureJson(pressure.io) },
    ...(processes === undefined ? {} : { pidsStat: { current: processes } }),
  };
}

const nanos = (name: string, value: bigint | undefined): Readonly<Record<string, number>> =>
  value === undefined ? {} : { [name]: Number(value) };

function pressureJson(pressure: Pressure | undefined): { readonly pressure?: PressureJson } {
  if (pressure === undefined) return {};
  const line = ({ avg10, totalNs }: Pressure['some']) => ({ avg10, total: Number(totalNs / 1000n) });
  return { pressure: { some: line(pressure.some), full: line(pressure.full) } };
}
