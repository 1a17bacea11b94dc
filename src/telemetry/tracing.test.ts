import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Server } from 'node:net';
import { test } from 'node:test';
import { play } from '../../test/synthetic-builds.ts';
import { systemClock } from '../core/clock.ts';
import { decodeTraceExport } from './otlp-decode.ts';
import { openTelemetry, type Telemetry } from './telemetry.ts';
import { collectorUrlOf } from './tracing.ts';

interface OtlpSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: number;
}
interface Collector extends AsyncDisposable {
  readonly url: string;
  readonly spans: OtlpSpan[];
  readonly protobuf: Buffer[];
  /** Resolves once a request has been taken whole. */
  readonly received: Promise<void>;
}

async function listening(server: Server): Promise<{ readonly url: string; readonly close: () => Promise<void> }> {
  const sockets = new Set<{ destroy(): void }>();
  server.on('connection', (socket) => void sockets.add(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/traces`,
    close: () => {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

/** A real OTLP/HTTP intake on localhost. */
async function openCollector(
  answer: (response: ServerResponse) => void = (response) => response.writeHead(200).end('{}'),
): Promise<Collector> {
  const spans: OtlpSpan[] = [];
  const protobuf: Buffer[] = [];
  const received = Promise.withResolvers<void>();
  const server = createServer(async (request: IncomingMessage, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    if (request.headers['content-type'] === 'application/x-protobuf') protobuf.push(body);
    else {
      const { resourceSpans } = JSON.parse(body.toString()) as { resourceSpans: { scopeSpans: { spans: OtlpSpan[] }[] }[] };
      spans.push(...resourceSpans.flatMap((resource) => resource.scopeSpans.flatMap((scope) => scope.spans)));
    }
    answer(response);
    received.resolve();
  });
  const { url, close } = await listening(server);
  return { url, spans, protobuf, received: received.promise, [Symbol.asyncDispose]: close };
}

function openSending(collectorUrl: string, troubles: string[] = []): Telemetry {
  const telemetry = openTelemetry({
    clock: systemClock(),
    version: '1.2.3',
    instance: 'test',
    collectorUrl,
    onTrouble: (what) => void troubles.push(what),
  });
  telemetry.start();
  return telemetry;
}
const sample = async (telemetry: Telemetry, line: RegExp): Promise<number> =>
  Number(new RegExp(`^${line.source} (\\S+)`, 'm').exec((await telemetry.metrics.scrape()).body)?.[1]);
const DROPPED = /cooper_telemetry_dropped_total\{signal="spans",reason="export_failed"\}/;

test('a collector receives the whole trace: one root, every parent known, ids as handed out', async () => {
  await using collector = await openCollector();
  const telemetry = openSending(collector.url);
  play(telemetry.sink, { ref: 'b1', startedAtNs: systemClock().nowNs() });
  const kept = telemetry.traceOf('b1') ?? [];
  await telemetry[Symbol.asyncDispose]();
  assert.deepEqual(collector.spans.map(({ spanId }) => spanId).sort(), kept.map(({ spanId }) => spanId).sort());
  const ids = new Set(collector.spans.map(({ spanId }) => spanId));
  const roots = collector.spans.filter(({ parentSpanId }) => !parentSpanId);
  assert.deepEqual(
    roots.map(({ name, kind }) => [name, kind]),
    [['BUILD app', 2]],
  );
  assert.ok(collector.spans.every(({ parentSpanId }) => !parentSpanId || ids.has(parentSpanId)));
  assert.equal(await sample(telemetry, DROPPED), 0);
  assert.equal(await sample(telemetry, /cooper_telemetry_exports_total\{signal="spans",result="ok"\}/), 1);
});

test('a trace the client did not sample stays here', async () => {
  await using collector = await openCollector();
  const telemetry = openSending(collector.url);
  play(telemetry.sink, { ref: 'b1', startedAtNs: 1n, traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-00` });
  play(telemetry.sink, { ref: 'b2', startedAtNs: 1n });
  await telemetry[Symbol.asyncDispose]();
  assert.ok((telemetry.traceOf('b1')?.length ?? 0) > 5);
  assert.ok(collector.spans.length > 0 && collector.spans.every(({ traceId }) => traceId !== 'a'.repeat(32)));
});

const blackHole = (): Promise<{ url: string; close: () => Promise<void> }> => listening(createTcpServer(() => {}));
const refusing = async (): Promise<{ url: string; close: () => Promise<void> }> => {
  const { url, close } = await listening(createTcpServer());
  await close();
  return { url, close: async () => {} };
};
const failing = (status: number) => async (): Promise<{ url: string; close: () => Promise<void> }> => {
  const collector = await openCollector((response) => response.writeHead(status).end());
  return { url: collector.url, close: async () => collector[Symbol.asyncDispose]() };
};
const dripping = async (): Promise<{ url: string; close: () => Promise<void> }> => {
  const collector = await openCollector((response) => void response.writeHead(200).write('{'));
  return { url: collector.url, close: async () => collector[Symbol.asyncDispose]() };
};

for (const [state, open] of [
  ['a black hole', blackHole],
  ['refusing connections', refusing],
  ['answering 503', failing(503)],
  ['answering 400', failing(400)],
  ['never finishing its answer', dripping],
] as const) {
  test(`a collector that is ${state} delays no build and no stop, and the loss is counted`, async (t) => {
    const collector = await open();
    t.after(collector.close);
    const telemetry = openSending(collector.url);
    const builds = 400; // more than the queue takes
    const start = performance.now();
    for (let index = 0; index < builds; index++) play(telemetry.sink, { ref: `b${index}`, startedAtNs: 1n });
    const perBuildMs = (performance.now() - start) / builds;
    assert.ok(perBuildMs < 5, `${perBuildMs} ms per build`);
    const stopping = performance.now();
    await telemetry[Symbol.asyncDispose]();
    const stopMs = performance.now() - stopping;
    assert.ok(stopMs < 4000, `stopping took ${stopMs} ms`);
    assert.ok((await sample(telemetry, DROPPED)) > 0);
    assert.ok((await sample(telemetry, /cooper_telemetry_dropped_total\{signal="spans",reason="queue_full"\}/)) > 0);
    assert.equal(await sample(telemetry, /cooper_builds_total\{result="success",error_class="none"\}/), builds);
    assert.ok((telemetry.traceOf(`b${builds - 1}`)?.length ?? 0) > 5, 'the trace is still here');
  });
}

// An ExportTraceServiceRequest as a Go client marshals it, with one span, an attribute, an event and an error status.
const varint = (value: number): number[] => (value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(value >>> 7)]);
const field = (number: number, bytes: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from([(number << 3) | 2, ...varint(bytes.length)]), bytes]);
const fixed64 = (number: number, value: bigint): Buffer => {
  const bytes = Buffer.alloc(9);
  bytes[0] = (number << 3) | 1;
  bytes.writeBigUInt64LE(value, 1);
  return bytes;
};
const attribute = (key: string, value: string): Buffer =>
  Buffer.concat([field(1, Buffer.from(key)), field(2, field(1, Buffer.from(value)))]);
function clientExport(traceId: string, spanId: string): Buffer {
  const span = Buffer.concat([
    field(1, Buffer.from(traceId, 'hex')),
    field(2, Buffer.from(spanId, 'hex')),
    field(5, Buffer.from('bake')),
    Buffer.from([0x30, 3]),
    fixed64(7, 1_700_000_000_000_000_000n),
    fixed64(8, 1_700_000_001_000_000_000n),
    field(9, attribute('command', 'bake')),
    field(11, Buffer.concat([fixed64(1, 1_700_000_000_500_000_000n), field(2, Buffer.from('sent'))])),
    field(15, Buffer.concat([field(2, Buffer.from('no')), Buffer.from([0x18, 2])])),
  ]);
  const resource = field(1, field(1, attribute('service.name', 'buildx')));
  return field(
    1,
    Buffer.concat([resource, field(2, Buffer.concat([field(1, field(1, Buffer.from('client'))), field(2, span)]))]),
  );
}

test('spans a client sends join the trace of its build and are passed on byte for byte', async () => {
  await using collector = await openCollector();
  const telemetry = openSending(collector.url);
  const [traceId, spanId] = ['c'.repeat(32), 'd'.repeat(16)];
  play(telemetry.sink, { ref: 'b1', startedAtNs: 1n, traceparent: `00-${traceId}-${spanId}-01` });
  const message = clientExport(traceId, spanId);
  telemetry.takeClientSpans(message);
  telemetry.takeClientSpans(message); // clients repeat what they are unsure of
  const spans = telemetry.traceOf('b1') ?? [];
  const ids = new Set(spans.map((span) => span.spanId));
  const [client] = spans.filter(({ name }) => name === 'bake');
  assert.deepEqual(
    spans.filter(({ parentSpanId }) => parentSpanId === undefined || !ids.has(parentSpanId)),
    [client],
    "the client's span is the only root",
  );
  assert.deepEqual(
    [client?.kind, client?.attributes, client?.resource, client?.status, client?.statusMessage, client?.events[0]?.name],
    ['client', { command: 'bake' }, { 'service.name': 'buildx' }, 'error', 'no', 'sent'],
  );
  await telemetry[Symbol.asyncDispose]();
  assert.deepEqual(collector.protobuf, [message, message]);
});

test('malformed client spans are counted and change nothing', async () => {
  const telemetry = openSending('http://127.0.0.1:9/v1/traces');
  const whole = clientExport('c'.repeat(32), 'd'.repeat(16));
  for (const bad of [
    whole.subarray(0, whole.length - 3),
    Buffer.from([0x0b]),
    Buffer.alloc(64, 0xff),
    field(1, field(2, field(2, Buffer.alloc(0)))),
  ]) {
    assert.throws(() => decodeTraceExport(bad), /malformed trace export/);
    telemetry.takeClientSpans(bad);
  }
  assert.equal(await sample(telemetry, /cooper_telemetry_dropped_total\{signal="client_spans",reason="malformed"\}/), 4);
  await telemetry[Symbol.asyncDispose]();
});

test("the collector's address comes from the standard variables", () => {
  const base = 'http://collector:4318';
  assert.equal(collectorUrlOf({}), undefined);
  assert.equal(collectorUrlOf({}, base), `${base}/v1/traces`);
  assert.equal(collectorUrlOf({ OTEL_EXPORTER_OTLP_ENDPOINT: `${base}/` }), `${base}/v1/traces`);
  assert.equal(
    collectorUrlOf({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${base}/x`, OTEL_EXPORTER_OTLP_ENDPOINT: 'http://no' }),
    `${base}/x`,
  );
  assert.equal(collectorUrlOf({ OTEL_EXPORTER_OTLP_ENDPOINT: base, OTEL_TRACES_EXPORTER: 'none' }), undefined);
  assert.equal(collectorUrlOf({ OTEL_EXPORTER_OTLP_ENDPOINT: base, OTEL_SDK_DISABLED: 'true' }), undefined);
});

for (const [statuses, kept] of [
  [[503, 429, 200], true],
  [[400, 200], false],
] as const) {
  test(`a collector that answers ${statuses.join(', then ')} ${kept ? 'loses nothing' : 'is not asked again'}`, async () => {
    const answers: number[] = [...statuses];
    await using collector = await openCollector((response) => response.writeHead(answers.shift() ?? 200).end('{}'));
    const telemetry = openSending(collector.url);
    telemetry.takeClientSpans(clientExport('c'.repeat(32), 'd'.repeat(16)));
    const ended = async (): Promise<number> =>
      (await sample(telemetry, /cooper_telemetry_exports_total\{signal="client_spans",result="ok"\}/)) +
      (await sample(telemetry, /cooper_telemetry_exports_total\{signal="client_spans",result="error"\}/));
    while ((await ended()) === 0) await new Promise((resolve) => setTimeout(resolve, 300));
    assert.equal(collector.protobuf.length, kept ? 3 : 1);
    const lost = await sample(telemetry, /cooper_telemetry_dropped_total\{signal="client_spans",reason="export_failed"\}/);
    assert.equal(lost, kept ? 0 : 1);
    await telemetry[Symbol.asyncDispose]();
  });
}

test('a collector that fails and works again was one outage, told at both ends', async () => {
  const answers = [400, 400, 200];
  await using collector = await openCollector((response) => response.writeHead(answers.shift() ?? 200).end('{}'));
  const troubles: string[] = [];
  const telemetry = openSending(collector.url, troubles);
  for (let index = 0; index < 3; index++) telemetry.takeClientSpans(clientExport('c'.repeat(32), 'd'.repeat(16)));
  while (troubles.length < 2) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.deepEqual(troubles, ['the trace collector takes no spans', 'the trace collector takes spans again']);
  assert.equal(await sample(telemetry, /cooper_outage_seconds_count\{component="collector"\}/), 1);
  assert.equal(await sample(telemetry, /cooper_outage_active_seconds\{component="collector"\}/), 0);
  await telemetry[Symbol.asyncDispose]();
});
