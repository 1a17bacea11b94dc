/**
 * Build events in, traces out. The traces of running builds and of the last finished ones are kept here, whether or not a collector
 * is configured, so that `cooper trace` and the history work without one. Memory is bounded; what falls out is in the history.
 */
import type { BuildEvent, BuildId, EventSink } from '../builder/events.ts';
import type { VertexDigest } from '../core/digest.ts';
import type { SpanLookup } from './build-metrics.ts';
import { BuildTrace } from './build-trace.ts';
import type { ExemplarLabels } from './metrics.ts';
import { type Attributes, type FinishedSpan, formatTraceparent } from './span.ts';

export interface BuildTracesOptions {
  /** Attributes of this process: service.name and the like. */
  readonly resource: Attributes;
  /** Called once per finished build that is to be exported; must return at once. */
  readonly onFinished: (trace: BuildTrace) => void;
  readonly onDropped: (signal: 'spans' | 'client_spans', reason: 'over_limit', count: number) => void;
}

const MAX_KEPT_SPANS = 5_000; // about 5 MB
const MAX_CLIENT_SPANS = 2_000; // of all clients together; one buildx build sends tens
const MAX_RUNNING = 10_000;

export class BuildTraces implements EventSink, SpanLookup {
  readonly #options: BuildTracesOptions;
  readonly #running = new Map<BuildId, BuildTrace>();
  /** Finished, oldest first. */
  readonly #kept = new Map<BuildId, BuildTrace>();
  #keptSpans = 0;
  /** Spans that clients sent, by trace id, oldest trace first. */
  readonly #client = new Map<string, FinishedSpan[]>();
  #clientSpans = 0;

  constructor(options: BuildTracesOptions) {
    this.#options = options;
  }

  emit(event: BuildEvent): void {
    if (event.type === 'build-queued') {
      if (!event.internal && this.#running.size < MAX_RUNNING) {
        this.#running.set(event.build, new BuildTrace(event, this.#options.resource));
      }
      return;
    }
    const trace = this.#running.get(event.build);
    trace?.record(event);
    if (trace?.isFinished === true) this.#finish(trace);
  }

  rootOf(build: BuildId): ExemplarLabels | undefined {
    const trace = this.#find(build);
    return trace && { trace_id: trace.traceId, span_id: trace.rootSpanId };
  }

  stepOf(build: BuildId, step: VertexDigest): ExemplarLabels | undefined {
    const trace = this.#find(build);
    return trace && { trace_id: trace.traceId, span_id: trace.stepSpanId(step) };
  }

  /** TRACEPARENT for the process of a step; the span it names is reported when the build ends. */
  traceparentFor(build: BuildId, step: VertexDigest): string | undefined {
    const trace = this.#find(build);
    return trace && formatTraceparent(trace.contextOf(step));
  }

  /** All spans of a build: ours, then those its client sent. A running build shows what it has so far. Undefined when not kept. */
  traceOf(build: BuildId): FinishedSpan[] | undefined {
    const trace = this.#find(build);
    return trace && [...trace.spans(), ...(this.#client.get(trace.traceId) ?? [])];
  }

  /** Takes spans that clients sent; those of traces we know nothing of are not kept. Repeated spans are kept once. */
  addClientSpans(spans: readonly FinishedSpan[]): void {
    const known = new Set([...this.#running.values(), ...this.#kept.values()].map(({ traceId }) => traceId));
    for (const span of spans) {
      if (!known.has(span.traceId)) continue;
      const list = this.#client.get(span.traceId) ?? [];
      if (list.some(({ spanId }) => spanId === span.spanId)) continue;
      this.#client.set(span.traceId, [...list, span]);
      this.#clientSpans += 1;
    }
    while (this.#clientSpans > MAX_CLIENT_SPANS) this.#forgetOldestClient();
  }

  #find(build: BuildId): BuildTrace | undefined {
    return this.#running.get(build) ?? this.#kept.get(build);
  }

  #finish(trace: BuildTrace): void {
    this.#running.delete(trace.build);
    this.#kept.delete(trace.build); // the same ref again: the newer build wins, and moves to the end
    this.#kept.set(trace.build, trace);
    this.#keptSpans = [...this.#kept.values()].reduce((sum, { size }) => sum + size, 0);
    for (const [build, oldest] of this.#kept) {
      if (this.#keptSpans <= MAX_KEPT_SPANS || build === trace.build) break;
      this.#kept.delete(build);
      this.#keptSpans -= oldest.size;
      this.#forgetClient(oldest.traceId);
    }
    if (trace.sampled) this.#options.onFinished(trace);
  }

  #forgetOldestClient(): void {
    const oldest = this.#client.keys().next().value;
    if (oldest === undefined) return;
    this.#options.onDropped('client_spans', 'over_limit', this.#client.get(oldest)?.length ?? 0);
    this.#forgetClient(oldest);
  }

  #forgetClient(traceId: string): void {
    this.#clientSpans -= this.#client.get(traceId)?.length ?? 0;
    this.#client.delete(traceId);
  }
}
