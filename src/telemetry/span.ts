/** A finished span, independent of any SDK: what is kept, drawn, exported and written into the history. */
import { hash } from 'node:crypto';
import { rfc3339 } from '../core/clock.ts';

export type AttributeValue = string | number | bigint | boolean | readonly string[];
export type Attributes = Readonly<Record<string, AttributeValue>>;
export type SpanKind = 'internal' | 'server' | 'client' | 'producer' | 'consumer';

export interface SpanEvent {
  readonly name: string;
  readonly atNs: bigint;
  readonly attributes: Attributes;
}
export interface SpanLink {
  readonly traceId: string;
  readonly spanId: string;
  readonly attributes: Attributes;
}
export interface FinishedSpan {
  readonly name: string;
  /** 32 hex digits. */
  readonly traceId: string;
  /** 16 hex digits. */
  readonly spanId: string;
  readonly parentSpanId?: string;
  /** True when the parent is a span of another process. */
  readonly parentIsRemote?: boolean;
  readonly kind: SpanKind;
  readonly startNs: bigint;
  readonly endNs: bigint;
  readonly attributes: Attributes;
  readonly events: readonly SpanEvent[];
  readonly links: readonly SpanLink[];
  readonly status: 'unset' | 'ok' | 'error';
  readonly statusMessage?: string;
  /** Attributes of the process the span comes from (`service.name`). */
  readonly resource: Attributes;
  /** Instrumentation scope. */
  readonly scope: string;
}

/** Who caused us: the fields of a `traceparent` header. */
export interface TraceContext {
  readonly traceId: string;
  readonly spanId: string;
  readonly sampled: boolean;
}

/** Parses a W3C traceparent (https://www.w3.org/TR/trace-context/#traceparent-header). Undefined when it is not one. */
export function parseTraceparent(text: string | undefined): TraceContext | undefined {
  const match = /^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-|$)/.exec(text ?? '');
  const [, traceId = '', spanId = '', flags = ''] = match ?? [];
  if (match === null || /^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 };
}

export const formatTraceparent = ({ traceId, spanId, sampled }: TraceContext): string =>
  `00-${traceId}-${spanId}-${sampled ? '01' : '00'}`;

/** Ids made of what they name, so that an id can be handed out before its span exists. Never all zeros in practice (2^-64). */
export const traceIdOf = (...names: readonly string[]): string => hash('sha256', names.join('\0'), 'hex').slice(0, 32);
export const spanIdOf = (...names: readonly string[]): string => hash('sha256', names.join('\0'), 'hex').slice(0, 16);

/** The span as JSON values: times in RFC 3339 and nanoseconds as text, big integers as text. */
export function spanJson(span: FinishedSpan): object {
  return {
    ...span,
    startNs: undefined,
    endNs: undefined,
    startTime: rfc3339(span.startNs),
    endTime: rfc3339(span.endNs),
    startTimeUnixNano: String(span.startNs),
    endTimeUnixNano: String(span.endNs),
    attributes: attributesJson(span.attributes),
    resource: attributesJson(span.resource),
    events: span.events.map((event) => ({
      name: event.name,
      time: rfc3339(event.atNs),
      attributes: attributesJson(event.attributes),
    })),
    links: span.links.map((link) => ({ ...link, attributes: attributesJson(link.attributes) })),
  };
}
const attributesJson = (attributes: Attributes): object =>
  Object.fromEntries(Object.entries(attributes).map(([key, value]) => [key, typeof value === 'bigint' ? String(value) : value]));
