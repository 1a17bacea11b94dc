/**
 * Reads the spans out of an OTLP ExportTraceServiceRequest (opentelemetry-proto, trace/v1/trace.proto): just the fields that joining
 * and drawing need. Input comes from clients, so lengths are checked, depth is bounded, and anything malformed is an error.
 */
import { BuildError } from '../core/errors.ts';
import type { Attributes, AttributeValue, FinishedSpan, SpanEvent, SpanKind, SpanLink } from './span.ts';

/** @throws BuildError `invalid-input` when the bytes are not such a message. */
export function decodeTraceExport(bytes: Uint8Array): FinishedSpan[] {
  const spans: FinishedSpan[] = [];
  for (const request of fieldsOf(bytes)) if (request.field === 1) readResourceSpans(request.bytes, spans);
  return spans;
}

function readResourceSpans(bytes: Uint8Array, spans: FinishedSpan[]): void {
  const fields = [...fieldsOf(bytes)];
  const resource: Record<string, AttributeValue> = {};
  for (const { field, bytes: value } of fields) {
    if (field === 1) for (const inner of fieldsOf(value)) if (inner.field === 1) addAttribute(resource, inner.bytes);
  }
  for (const { field, bytes: value } of fields) if (field === 2) readScopeSpans(value, resource, spans);
}

function readScopeSpans(bytes: Uint8Array, resource: Attributes, spans: FinishedSpan[]): void {
  const fields = [...fieldsOf(bytes)];
  let scope = '';
  for (const { field, bytes: value } of fields) {
    if (field === 1) for (const inner of fieldsOf(value)) if (inner.field === 1) scope = textOf(inner.bytes);
  }
  for (const { field, bytes: value } of fields) if (field === 2) spans.push(readSpan(value, resource, scope));
}

const KINDS: readonly SpanKind[] = ['internal', 'internal', 'server', 'client', 'producer', 'consumer'];
const NO_ID = /^0*$/;

function readSpan(bytes: Uint8Array, resource: Attributes, scope: string): FinishedSpan {
  const attributes: Record<string, AttributeValue> = {};
  const events: SpanEvent[] = [];
  const links: SpanLink[] = [];
  const text = { traceId: '', spanId: '', parentSpanId: '', name: '', statusMessage: '' };
  const number = { kind: 0n, startNs: 0n, endNs: 0n, status: 0n };
  for (const { field, bytes: value, number: varint } of fieldsOf(bytes)) {
    if (field === 1) text.traceId = hexOf(value);
    else if (field === 2) text.spanId = hexOf(value);
    else if (field === 4) text.parentSpanId = hexOf(value);
    else if (field === 5) text.name = textOf(value);
    else if (field === 6) number.kind = varint;
    else if (field === 7) number.startNs = varint;
    else if (field === 8) number.endNs = varint;
    else if (field === 9) addAttribute(attributes, value);
    else if (field === 11) events.push(readEvent(value));
    else if (field === 13) links.push(readLink(value));
    else if (field === 15)
      for (const status of fieldsOf(value)) {
        if (status.field === 2) text.statusMessage = textOf(status.bytes);
        if (status.field === 3) number.status = status.number;
      }
  }
  if (text.traceId.length !== 32 || text.spanId.length !== 16) throw malformed('a span without ids');
  return {
    name: text.name,
    traceId: text.traceId,
    spanId: text.spanId,
    ...(NO_ID.test(text.parentSpanId) ? {} : { parentSpanId: text.parentSpanId }),
    kind: KINDS[Number(number.kind)] ?? 'internal',
    startNs: number.startNs,
    endNs: number.endNs,
    attributes,
    events,
    links,
    status: number.status === 2n ? 'error' : number.status === 1n ? 'ok' : 'unset',
    ...(text.statusMessage !== '' && { statusMessage: text.statusMessage }),
    resource,
    scope,
  };
}

function readEvent(bytes: Uint8Array): SpanEvent {
  const attributes: Record<string, AttributeValue> = {};
  let name = '';
  let atNs = 0n;
  for (const { field, bytes: value, number } of fieldsOf(bytes)) {
    if (field === 1) atNs = number;
    else if (field === 2) name = textOf(value);
    else if (field === 3) addAttribute(attributes, value);
  }
  return { name, atNs, attributes };
}

function readLink(bytes: Uint8Array): SpanLink {
  const attributes: Record<string, AttributeValue> = {};
  let traceId = '';
  let spanId = '';
  for (const { field, bytes: value } of fieldsOf(bytes)) {
    if (field === 1) traceId = hexOf(value);
    else if (field === 2) spanId = hexOf(value);
    else if (field === 4) addAttribute(attributes, value);
  }
  return { traceId, spanId, attributes };
}

function addAttribute(attributes: Record<string, AttributeValue>, bytes: Uint8Array): void {
  let key = '';
  let value: AttributeValue | undefined;
  for (const { field, bytes: inner } of fieldsOf(bytes)) {
    if (field === 1) key = textOf(inner);
    if (field === 2) value = readAny(inner);
  }
  if (key !== '' && value !== undefined) attributes[key] = value;
}

/** AnyValue. Arrays become lists of text; nested maps and raw bytes are left out, because nothing shows them. */
function readAny(bytes: Uint8Array): AttributeValue | undefined {
  for (const { field, bytes: inner, number } of fieldsOf(bytes)) {
    if (field === 1) return textOf(inner);
    if (field === 2) return number !== 0n;
    if (field === 3) return smallest(BigInt.asIntN(64, number));
    if (field === 4) return doubleOf(number);
    if (field === 5) return [...fieldsOf(inner)].filter((item) => item.field === 1).map((item) => scalarText(item.bytes));
  }
  return undefined;
}

function scalarText(bytes: Uint8Array): string {
  for (const { field, bytes: inner, number } of fieldsOf(bytes)) {
    if (field === 1) return textOf(inner);
    if (field === 2) return String(number !== 0n);
    if (field === 3) return String(BigInt.asIntN(64, number));
    if (field === 4) return String(doubleOf(number));
  }
  return '';
}

const smallest = (value: bigint): number | bigint => (Number.isSafeInteger(Number(value)) ? Number(value) : value);
const decoder = new TextDecoder();
const textOf = (bytes: Uint8Array): string => decoder.decode(bytes);
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
const malformed = (what: string): BuildError => new BuildError('invalid-input', `malformed trace export: ${what}`);

function doubleOf(bits: bigint): number {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, bits);
  return view.getFloat64(0);
}

interface Field {
  readonly field: number;
  /** Of a length-delimited field; else empty. */
  readonly bytes: Uint8Array;
  /** Of a varint or fixed field; else 0. */
  readonly number: bigint;
}
const NO_BYTES = new Uint8Array();

/** The fields of one protobuf message (https://protobuf.dev/programming-guides/encoding/). Groups are refused. */
function* fieldsOf(bytes: Uint8Array): Generator<Field> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) throw malformed('it ends inside a number');
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw malformed('a number of more than ten bytes');
  };
  const skip = (length: number): number => {
    if (length > bytes.length - at) throw malformed('a field is longer than the message');
    const from = at;
    at += length;
    return from;
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    const field = tag >>> 3;
    const type = tag & 7;
    if (type === 0) yield { field, bytes: NO_BYTES, number: varint() };
    else if (type === 1) yield { field, bytes: NO_BYTES, number: view.getBigUint64(skip(8), true) };
    else if (type === 5) yield { field, bytes: NO_BYTES, number: BigInt(view.getUint32(skip(4), true)) };
    else if (type === 2) {
      const length = Number(varint());
      const from = skip(length);
      yield { field, bytes: bytes.subarray(from, from + length), number: 0n };
    } else throw malformed(`wire type ${type}`);
  }
}
