/**
 * What the ops API remembers since the daemon started: collection runs, the size of the cache over time, breakers, the last canary,
 * and since when an alert fires. Bounded rings; metrics keep the long story.
 */

import type { ServiceEvent, ServiceEventSink } from '../../builder/events.ts';
import type { Recorders } from '../../telemetry/recorders.ts';
import type { Alert, Breaker, Canary, GcRun as RunRecord } from '../../web/api/model.ts';

const MAX_RUNS = 50;
const SAMPLE_MS = 300_000;
const MAX_SAMPLES = 288; // a day
const MAX_BREAKERS = 64;

const isoOf = (ns: bigint): string => new Date(Number(ns / 1_000_000n)).toISOString();

export class OpsMemory implements ServiceEventSink, Disposable {
  readonly startedAt = new Date().toISOString();
  readonly #runs: RunRecord[] = [];
  readonly #growth: { readonly at: string; readonly bytes: number }[] = [];
  readonly #breakers = new Map<string, Breaker>();
  #firing = new Map<string, string>();
  #timer: NodeJS.Timeout | undefined;
  canary: Canary | undefined;

  /** Newest first. */
  get runs(): readonly RunRecord[] {
    return this.#runs;
  }
  /** Oldest first. */
  get growth(): readonly { readonly at: string; readonly bytes: number }[] {
    return this.#growth;
  }
  /** Open ones first. */
  get breakers(): readonly Breaker[] {
    return [...this.#breakers.values()].sort((a, b) => Number(a.state === 'closed') - Number(b.state === 'closed'));
  }

  /** The same recorders, with collections and canaries remembered here too. */
  besideRecorders(recorders: Recorders): Recorders {
    return {
      ...recorders,
      gcRun: (run) => {
        recorders.gcRun(run);
        this.#gcRan(run);
      },
      canaryBuild: (result, seconds, ...rest) => {
        recorders.canaryBuild(result, seconds, ...rest);
        this.canary = { state: result, lastAt: new Date().toISOString(), durationMs: Math.round(seconds * 1000) };
      },
    };
  }

  /** A sink that feeds another one first. */
  besideSink(sink: ServiceEventSink): ServiceEventSink {
    return {
      report: (event) => {
        sink.report(event);
        this.report(event);
      },
    };
  }

  report(event: ServiceEvent): void {
    if (event.type !== 'breaker-changed') return;
    const name = `${event.backend} ${event.target}`.trim();
    this.#breakers.delete(name);
    this.#breakers.set(name, {
      name,
      state: event.state,
      since: isoOf(event.sinceNs),
      ...(event.error === undefined ? {} : { detail: event.error }),
    });
    const oldest = this.#breakers.keys().next().value;
    if (this.#breakers.size > MAX_BREAKERS && oldest !== undefined) this.#breakers.delete(oldest);
  }

  /** Samples the size of the cache every five minutes, the first time soon. */
  watchGrowth(bytes: () => number): void {
    const sample = (): void => {
      this.#growth.push({ at: new Date().toISOString(), bytes: bytes() });
      if (this.#growth.length > MAX_SAMPLES) this.#growth.shift();
    };
    setTimeout(sample, 1_000).unref(); // the first look at the disk has come back by then
    this.#timer = setInterval(sample, SAMPLE_MS).unref();
  }

  /** The same alerts with the time at which each was first seen firing. */
  withSince(alerts: readonly Alert[]): Alert[] {
    const now = new Date().toISOString();
    const keyOf = (alert: Alert): string => `${alert.name} ${alert.severity} ${alert.slo ?? ''}`;
    const firing = new Map(alerts.map((alert) => [keyOf(alert), this.#firing.get(keyOf(alert)) ?? now]));
    this.#firing = firing;
    return alerts.map((alert) => ({ ...alert, since: firing.get(keyOf(alert)) ?? now }));
  }

  #gcRan(run: Parameters<Recorders['gcRun']>[0] & { readonly error?: Error }): void {
    this.#runs.unshift({
      at: new Date().toISOString(),
      trigger: run.trigger,
      ok: run.ok,
      seconds: run.seconds,
      freedBytes: run.freedBytes,
      removedRecords: run.removedRecords,
      ...(run.error === undefined || run.ok ? {} : { error: run.error.message }),
    });
    this.#runs.splice(MAX_RUNS);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
