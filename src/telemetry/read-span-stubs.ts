/** The reverse of go-span-stub.ts: spans of a finished build read back from its history record. */
import type { Attributes, AttributeValue, FinishedSpan, SpanKind } from './span.ts';

interface StubContext {
  readonly TraceID: string;
  readonly SpanID: string;
  readonly Remote: boolean;
}
interface StubAttribute {
  readonly Key: string;
  readonly Value: { readonly Type: string; readonly Value: AttributeValue };
}
interface Stub {
  readonly Name: string;
  readonly SpanContext: StubContext;
  readonly Parent: StubContext;
  readonly SpanKind: number;
  readonly StartTime: string;
  readonly EndTime: string;
  readonly Attributes: readonly StubAttribute[] | null;
  readonly Events:
    | readonly { readonly Name: string; readonly Time: string; readonly Attributes: readonly StubAttribute[] | null }[]
    | null;
  readonly Links: readonly { readonly SpanContext: StubContext; readonly Attributes: readonly StubAttribute[] | null }[] | null;
  readonly Status: { readonly Code: string; readonly Description: string };
  readonly Resource: readonly StubAttribute[] | null;
  readonly InstrumentationScope: { readonly Name: string };
}

const KINDS: readonly SpanKind[] = ['internal', 'internal', 'server', 'client', 'producer', 'consumer'];
const NO_SPAN = '0'.repeat(16);

/** @throws SyntaxError when the bytes are not what goSpanStubs writes: one JSON object a line. */
export function readGoSpanStubs(bytes: Uint8Array): FinishedSpan[] {
  const lines = new TextDecoder()
    .decode(bytes)
    .split('\n')
    .filter((line) => line !== '');
  return lines.map((line) => spanOf(JSON.parse(line) as Stub));
}

function spanOf(stub: Stub): FinishedSpan {
  const { Code, Description } = stub.Status;
  return {
    name: stub.Name,
    traceId: stub.SpanContext.TraceID,
    spanId: stub.SpanContext.SpanID,
    ...(stub.Parent.SpanID === NO_SPAN ? {} : { parentSpanId: stub.Parent.SpanID, parentIsRemote: stub.Parent.Remote }),
    kind: KINDS[stub.SpanKind] ?? 'internal',
    startNs: nsOf(stub.StartTime),
    endNs: nsOf(stub.EndTime),
    attributes: attributesOf(stub.Attributes),
    events: (stub.Events ?? []).map((event) => ({
      name: event.Name,
      atNs: nsOf(event.Time),
      attributes: attributesOf(event.Attributes),
    })),
    links: (stub.Links ?? []).map((link) => ({
      traceId: link.SpanContext.TraceID,
      spanId: link.SpanContext.SpanID,
      attributes: attributesOf(link.Attributes),
    })),
    status: Code === 'Error' ? 'error' : Code === 'Ok' ? 'ok' : 'unset',
    ...(Description === '' ? {} : { statusMessage: Description }),
    resource: attributesOf(stub.Resource),
    scope: stub.InstrumentationScope.Name,
  };
}

const attributesOf = (attributes: readonly StubAttribute[] | null): Attributes =>
  Object.fromEntries((attributes ?? []).map(({ Key, Value }) => [Key, Value.Value]));

/** RFC 3339 with up to nine decimals. */
function nsOf(text: string): bigint {
  const fraction = /\.(\d{1,9})/.exec(text)?.[1] ?? '';
  return BigInt(Date.parse(text.replace(/\.\d+/, ''))) * 1_000_000n + BigInt(fraction.padEnd(9, '0'));
}
