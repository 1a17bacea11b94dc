/**
 * The OpenTelemetry SDK, loaded when the first span is to be sent (41 MB of modules, half a second). Spans are made by the builder's
 * events, with ids that were handed out before, so they are replayed through the SDK's tracer with those ids and their own times.
 */
import type { Context, HrTime, Link, Attributes as OtelAttributes, Tracer } from '@opentelemetry/api';
import { delay } from '../core/abort.ts';
import type { Attributes, AttributeValue, FinishedSpan } from './span.ts';

type Sdk = typeof import('@opentelemetry/sdk-node');
type SdkConfig = NonNullable<ConstructorParameters<Sdk['NodeSDK']>[0]>;
type SpanProcessor = NonNullable<SdkConfig['spanProcessors']>[number];
type Exporter = import('@opentelemetry/exporter-trace-otlp-http').OTLPTraceExporter;
type ReadableSpan = Parameters<Exporter['export']>[0][number];

const SHUTDOWN_MS = 500;

export interface OtelSdk {
  /** Sends spans of this process in one request. Rejects when the collector did not take them in time. */
  send(spans: readonly FinishedSpan[]): Promise<void>;
  shutdown(): Promise<void>;
}

export interface OtelSdkOptions {
  /** Whole address of the collector's trace intake. */
  readonly url: string;
  readonly timeoutMs: number;
  readonly resource: Attributes;
}

/** Starts the SDK with nothing in it but our spans: no instrumentation, no metrics, no logs, no look at the process's arguments. */
export async function startOtelSdk(options: OtelSdkOptions): Promise<OtelSdk> {
  const [{ NodeSDK }, { OTLPTraceExporter }, api] = await Promise.all([
    import('@opentelemetry/sdk-node'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/api'),
  ]);
  const exporter = new OTLPTraceExporter({ url: options.url, timeoutMillis: options.timeoutMs });
  const ended: ReadableSpan[] = [];
  const next = { traceId: '', spanId: '' };
  const sdk = new NodeSDK({
    serviceName: String(options.resource['service.name'] ?? 'cooper'),
    resourceDetectors: [{ detect: () => ({ attributes: otelAttributes(options.resource) }) }],
    idGenerator: { generateTraceId: () => next.traceId, generateSpanId: () => next.spanId },
    spanProcessors: [collectInto(ended)],
    metricReaders: [],
    logRecordProcessors: [],
    instrumentations: [],
    textMapPropagator: null,
  });
  sdk.start();
  const tracer = api.trace.getTracer('cooper');
  return {
    async send(spans) {
      for (const span of spans) {
        next.traceId = span.traceId;
        next.spanId = span.spanId;
        replay(api, tracer, span);
      }
      const batch = ended.splice(0);
      if (batch.length > 0) await exportBatch(exporter, batch, options.timeoutMs);
    },
    async shutdown() {
      const ended = Promise.allSettled([exporter.shutdown(), sdk.shutdown()]);
      await Promise.race([ended, delay(SHUTDOWN_MS)]); // a request that hangs must not hold the daemon
      api.trace.disable();
      api.context.disable();
    },
  };
}

const collectInto = (ended: ReadableSpan[]): SpanProcessor => ({
  onStart: () => {},
  onEnd: (span) => void ended.push(span),
  forceFlush: () => Promise.resolve(),
  shutdown: () => Promise.resolve(),
});

/** The exporter answers through a callback, retries inside its deadline, and is not trusted to keep it. */
function exportBatch(exporter: Exporter, batch: ReadableSpan[], timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs + 500);
    exporter.export(batch, (result) => {
      clearTimeout(timer);
      if (result.code === 0) resolve();
      else reject(result.error ?? new Error('the collector refused the spans'));
    });
  });
}

type Api = typeof import('@opentelemetry/api');

function replay(api: Api, tracer: Tracer, span: FinishedSpan): void {
  const made = tracer.startSpan(
    span.name,
    {
      kind: api.SpanKind[KIND_NAMES[span.kind]],
      startTime: hrTime(span.startNs),
      attributes: otelAttributes(span.attributes),
      links: span.links.map(
        (link): Link => ({
          context: { traceId: link.traceId, spanId: link.spanId, traceFlags: api.TraceFlags.SAMPLED },
          attributes: otelAttributes(link.attributes),
        }),
      ),
    },
    parentOf(api, span),
  );
  for (const event of span.events) made.addEvent(event.name, otelAttributes(event.attributes), hrTime(event.atNs));
  if (span.status === 'error') {
    made.setStatus({ code: api.SpanStatusCode.ERROR, ...(span.statusMessage !== undefined && { message: span.statusMessage }) });
  }
  made.end(hrTime(span.endNs));
}

const KIND_NAMES = {
  internal: 'INTERNAL',
  server: 'SERVER',
  client: 'CLIENT',
  producer: 'PRODUCER',
  consumer: 'CONSUMER',
} as const;

function parentOf(api: Api, span: FinishedSpan): Context {
  if (span.parentSpanId === undefined) return api.ROOT_CONTEXT;
  return api.trace.setSpanContext(api.ROOT_CONTEXT, {
    traceId: span.traceId,
    spanId: span.parentSpanId,
    traceFlags: api.TraceFlags.SAMPLED,
    isRemote: span.parentIsRemote === true,
  });
}

const hrTime = (ns: bigint): HrTime => [Number(ns / 1_000_000_000n), Number(ns % 1_000_000_000n)];
const otelAttributes = (attributes: Attributes): OtelAttributes =>
  Object.fromEntries(Object.entries(attributes).map(([key, value]) => [key, otelValue(value)]));
const otelValue = (value: AttributeValue): string | number | boolean | string[] =>
  typeof value === 'bigint' ? Number(value) : typeof value === 'object' ? [...value] : value;
