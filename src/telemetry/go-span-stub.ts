/**
 * Finished spans in the form that build clients read from a history record (media type `application/vnd.buildkit.otlp.json.v0`):
 * JSON objects one after the other, one per span, in the shape Go's tracetest.SpanStub marshals to. It is not OTLP JSON.
 */
import { rfc3339 } from '../core/clock.ts';
import type { Attributes, AttributeValue, FinishedSpan, SpanKind } from './span.ts';

export const TRACE_MEDIA_TYPE = 'application/vnd.buildkit.otlp.json.v0';

/** Go's trace.SpanKind. */
const KINDS: Readonly<Record<SpanKind, number>> = { internal: 1, server: 2, client: 3, producer: 4, consumer: 5 };
const STATUS = { unset: 'Unset', error: 'Error', ok: 'Ok' } as const;
const NO_TRACE = '0'.repeat(32);
const NO_SPAN = '0'.repeat(16);

export function goSpanStubs(spans: readonly FinishedSpan[]): Uint8Array {
  const children = new Map<string, number>();
  for (const { parentSpanId = '' } of spans) children.set(parentSpanId, (children.get(parentSpanId) ?? 0) + 1);
  const resources = new Map<Attributes, object[]>(); // one object for all spans of a process
  const lines = spans.map((span) => {
    const resource = resources.get(span.resource) ?? attributesOf(span.resource);
    resources.set(span.resource, resource);
    return `${JSON.stringify(stubOf(span, children.get(span.spanId) ?? 0, resource))}\n`;
  });
  return new TextEncoder().encode(lines.join(''));
}

function stubOf(span: FinishedSpan, childCount: number, resource: object[]): object {
  const scope = { Name: span.scope, Version: '', SchemaURL: '', Attributes: null };
  return {
    Name: span.name,
    SpanContext: contextOf(span.traceId, span.spanId, false),
    Parent:
      span.parentSpanId === undefined
        ? contextOf(NO_TRACE, NO_SPAN, false, '00')
        : contextOf(span.traceId, span.parentSpanId, span.parentIsRemote === true),
    SpanKind: KINDS[span.kind],
    StartTime: rfc3339(span.startNs),
    EndTime: rfc3339(span.endNs),
    Attributes: attributesOf(span.attributes),
    Events: span.events.map((event) => ({
      Name: event.name,
      Attributes: attributesOf(event.attributes),
      DroppedAttributeCount: 0,
      Time: rfc3339(event.atNs),
    })),
    Links: span.links.map((link) => ({
      SpanContext: contextOf(link.traceId, link.spanId, false),
      Attributes: attributesOf(link.attributes),
      DroppedAttributeCount: 0,
    })),
    Status: { Code: STATUS[span.status], Description: span.statusMessage ?? '' },
    DroppedAttributes: 0,
    DroppedEvents: 0,
    DroppedLinks: 0,
    ChildSpanCount: childCount,
    Resource: resource,
    InstrumentationScope: scope,
    InstrumentationLibrary: scope,
  };
}

const contextOf = (traceId: string, spanId: string, remote: boolean, flags = '01'): object => ({
  TraceID: traceId,
  SpanID: spanId,
  TraceFlags: flags,
  TraceState: '',
  Remote: remote,
});

const attributesOf = (attributes: Attributes): object[] =>
  Object.entries(attributes).map(([key, value]) => ({ Key: key, Value: typedValue(value) }));

/** Type names of Go's attribute package. Integers beyond 2^53 lose digits in JSON; durations and sizes stay below. */
function typedValue(value: AttributeValue): object {
  if (typeof value === 'string') return { Type: 'STRING', Value: value };
  if (typeof value === 'boolean') return { Type: 'BOOL', Value: value };
  if (typeof value === 'bigint') return { Type: 'INT64', Value: Number(value) };
  if (typeof value === 'number') return { Type: Number.isInteger(value) ? 'INT64' : 'FLOAT64', Value: value };
  return { Type: 'STRINGSLICE', Value: value };
}
