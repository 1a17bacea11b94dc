/**
 * The way out to an OpenTelemetry collector. A finished build is queued in microseconds; a loop, started after the daemon listens,
 * sends it on. Every queue has a bound, every send a deadline, and what is given up is counted: a collector that is down, slow,
 * refusing or a black hole costs spans, never builds.
 */
import { delay } from '../core/abort.ts';
import { BoundedQueue } from '../core/bounded-queue.ts';
import type { BuildTrace } from './build-trace.ts';
import { TELEMETRY_DROPPED, TELEMETRY_EXPORTS } from './catalog.ts';
import type { Metrics } from './metrics.ts';
import { type OtelSdk, startOtelSdk } from './otel-sdk.ts';
import type { Attributes } from './span.ts';

export interface TracingOptions {
  /** Whole address of the collector's trace intake, see collectorUrlOf. */
  readonly url: string;
  readonly resource: Attributes;
  readonly metrics: Metrics;
  /** First failure of a streak, and the recovery after one (undefined). */
  readonly onCollectorState: (error: unknown | undefined) => void;
  readonly timeoutMs?: number;
}

const QUEUED_BUILDS = 256;
const QUEUED_CLIENT_MESSAGES = 256;
const MAX_CLIENT_MESSAGE_BYTES = 1024 * 1024;
const BATCH_SPANS = 256; // a batch is replayed and encoded in one turn of the event loop: about 5 ms
const SEND_TIMEOUT_MS = 5_000;
const FLUSH_MS = 2_000; // what a stop may wait for a collector
/** Waits before a batch is sent again; each is stretched by up to a half, so that daemons do not come back in step. */
const RETRY_AFTER_MS = [500, 2_000];
/** No attempt begins later than this after the first: what waits behind a batch may not wait for minutes. */
const GIVE_UP_MS = 6_000;

export class Tracing implements AsyncDisposable {
  readonly #options: TracingOptions;
  readonly #builds = new BoundedQueue<BuildTrace>(QUEUED_BUILDS);
  readonly #clients = new BoundedQueue<Uint8Array>(QUEUED_CLIENT_MESSAGES);
  readonly #stop = new AbortController();
  #loops: readonly Promise<void>[] = [];
  #sdk: Promise<OtelSdk> | undefined;
  #failing = false;

  constructor(options: TracingOptions) {
    this.#options = options;
  }

  /** Starts sending; until then builds wait in the queue. Nothing is loaded before there is something to send. */
  start(): void {
    if (this.#loops.length === 0) this.#loops = [this.#sendBuilds(), this.#sendClientSpans()];
  }

  /** Queues a finished build. */
  enqueue(trace: BuildTrace): void {
    if (!this.#builds.push(trace)) this.#drop('spans', 'queue_full', trace.size);
  }

  /** Passes on what a client sent to TraceService/Export, as it came. */
  forward(message: Uint8Array): void {
    if (message.byteLength > MAX_CLIENT_MESSAGE_BYTES) this.#drop('client_spans', 'over_limit', 1);
    else if (!this.#clients.push(message)) this.#drop('client_spans', 'queue_full', 1);
  }

  /** Sends what is queued, for two seconds at most; the rest is counted as dropped. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#builds.close();
    this.#clients.close();
    const timer = setTimeout(() => this.#stop.abort(), FLUSH_MS);
    const stopped = new Promise<void>((resolve) => this.#stop.signal.addEventListener('abort', () => resolve(), { once: true }));
    await Promise.race([Promise.all(this.#loops), stopped]);
    clearTimeout(timer);
    this.#stop.abort();
    for (const trace of this.#builds.drain()) this.#drop('spans', 'export_failed', trace.size);
    this.#drop('client_spans', 'export_failed', this.#clients.drain().length);
    const sdk = await this.#sdk?.catch(() => undefined);
    await sdk?.shutdown();
  }

  async #sendBuilds(): Promise<void> {
    for await (const trace of this.#builds) {
      const spans = trace.spans();
      if (trace.dropped > 0) this.#drop('spans', 'over_limit', trace.dropped);
      for (let from = 0; from < spans.length; from += BATCH_SPANS) {
        const batch = spans.slice(from, from + BATCH_SPANS);
        await this.#attempt('spans', batch.length, async () => (await this.#loadSdk()).send(batch));
      }
    }
  }

  /** The message is an ExportTraceServiceRequest already, which is what the collector's HTTP intake takes. */
  async #sendClientSpans(): Promise<void> {
    const timeoutMs = this.#options.timeoutMs ?? SEND_TIMEOUT_MS;
    for await (const message of this.#clients) {
      await this.#attempt('client_spans', 1, async () => {
        const response = await fetch(this.#options.url, {
          method: 'POST',
          headers: { 'content-type': 'application/x-protobuf' },
          body: new Uint8Array(message),
          signal: AbortSignal.any([AbortSignal.timeout(timeoutMs), this.#stop.signal]),
        });
        await response.arrayBuffer();
        if (!response.ok) throw Object.assign(new Error(`the collector answered ${response.status}`), { code: response.status });
      });
    }
  }

  async #attempt(signal: 'spans' | 'client_spans', count: number, send: () => Promise<void>): Promise<void> {
    try {
      await this.#sendWithRetry(send);
      this.#options.metrics.add(TELEMETRY_EXPORTS, { signal, result: 'ok' });
      if (this.#failing) this.#options.onCollectorState(undefined);
      this.#failing = false;
    } catch (error) {
      this.#options.metrics.add(TELEMETRY_EXPORTS, { signal, result: 'error' });
      this.#drop(signal, 'export_failed', count);
      if (!this.#failing) this.#options.onCollectorState(error);
      this.#failing = true;
    }
  }

  /** A collector that works gets a second and a third chance with each batch; one that has failed before gets one, until it works. */
  async #sendWithRetry(send: () => Promise<void>): Promise<void> {
    const { signal } = this.#stop;
    const startedMs = performance.now();
    for (let attempt = 0; ; attempt++) {
      if (signal.aborted) throw new Error('the daemon is stopping');
      try {
        return await send();
      } catch (error) {
        const waitMs = this.#failing ? undefined : RETRY_AFTER_MS[attempt];
        if (waitMs === undefined || !isTransient(error)) throw error;
        await delay(waitMs * (1 + Math.random() / 2), signal);
        if (performance.now() - startedMs > GIVE_UP_MS) throw error;
      }
    }
  }

  #loadSdk(): Promise<OtelSdk> {
    const { url, resource, timeoutMs = SEND_TIMEOUT_MS } = this.#options;
    this.#sdk ??= startOtelSdk({ url, resource, timeoutMs });
    return this.#sdk;
  }

  #drop(signal: 'spans' | 'client_spans', reason: 'queue_full' | 'over_limit' | 'export_failed', count: number): void {
    if (count > 0) this.#options.metrics.add(TELEMETRY_DROPPED, { signal, reason }, count);
  }
}

/** No answer at all, or one of those the OTLP specification says to send again after: 429, 502, 503, 504. */
function isTransient(error: unknown): boolean {
  const code = (error as { readonly code?: unknown }).code;
  return typeof code !== 'number' || [429, 502, 503, 504].includes(code);
}

/**
 * Where traces go, by the standard variables: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT as it is, else OTEL_EXPORTER_OTLP_ENDPOINT with
 * `/v1/traces` added. Undefined when none is set or tracing is switched off.
 */
export function collectorUrlOf(
  environment: Readonly<Record<string, string | undefined>>,
  configured?: string,
): string | undefined {
  const off = environment.OTEL_SDK_DISABLED === 'true' || environment.OTEL_TRACES_EXPORTER === 'none';
  if (off) return undefined;
  const own = environment.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT;
  if (own) return own;
  const base = environment.OTEL_EXPORTER_OTLP_ENDPOINT || configured;
  return base ? `${base.replace(/\/+$/, '')}/v1/traces` : undefined;
}
