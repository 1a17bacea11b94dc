/** Bytes that are no message, messages that are no request, graphs that are no graph: each is answered, none hurts the daemon. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import http2 from 'node:http2';
import net from 'node:net';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { create, type DescMessage, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { Content } from '../../src/builder/proto/gen/containerd/services/content/v1/content_pb.ts';
import { Control } from '../../src/builder/proto/gen/moby/buildkit/v1/control_pb.ts';
import { LLBBridge } from '../../src/builder/proto/gen/moby/buildkit/v1/frontend/gateway_pb.ts';
import { TraceService } from '../../src/builder/proto/gen/opentelemetry/proto/collector/trace/v1/trace_service_pb.ts';
import { OpSchema } from '../../src/builder/proto/gen/pb/ops_pb.ts';
import { connect, type RpcClient } from '../../src/builder/rpc/client.ts';
import { randomId } from '../../src/builder/session/attachables/client-session.ts';
import { BuildError } from '../../src/core/errors.ts';
import { TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { assertNothingLeaked, type Holdings, holdingsOf } from '../fixtures/leaks.ts';
import { fc } from '../fixtures/property.ts';

const skip = unableTo('runc');
const ANSWER_MS = 10_000;
let daemon: TestDaemon;
let client: RpcClient;
let idle: Holdings;
const socketPath = (): string => daemon.address.slice('unix://'.length);

before(async () => {
  if (skip !== false) return;
  daemon = await TestDaemon.start();
  client = await connect({ type: 'unix', path: socketPath() });
  idle = await holdingsOf(daemon);
});
after(async () => {
  await client?.[Symbol.asyncDispose]();
  await daemon?.[Symbol.asyncDispose]();
});

/** The failure of a call that sends these bytes, or undefined when the daemon took them. */
async function failureOf(
  path: string,
  bytes: Uint8Array,
  headers: readonly (readonly [string, string])[] = [],
): Promise<BuildError | undefined> {
  const limit = AbortSignal.timeout(ANSWER_MS);
  using call = client.stream(path, { headers, signal: limit });
  call.send(bytes).catch(() => {});
  call.end();
  try {
    for await (const _ of call) limit.throwIfAborted();
    return undefined;
  } catch (error) {
    assert.ok(error instanceof BuildError, String(error));
    assert.ok(!limit.aborted, `${path} did not answer within ${ANSWER_MS} ms`);
    return error;
  }
}
const alive = async (): Promise<void> => {
  await client.unary(Control.method.info, {}, { timeoutMs: ANSWER_MS });
  assert.ok(daemon.running);
};

/** Traces are a courtesy: what cannot be read is dropped and counted, the client is not told. */
const LENIENT = `/${TraceService.typeName}/Export`;
const SERVICES = [Control, LLBBridge, Content, TraceService];
const METHODS = SERVICES.flatMap(({ typeName, methods }) =>
  methods.map(({ name, input }) => ({ path: `/${typeName}/${name}`, input })),
)
  // Takes no requests but the frames of a connection; its tests are those of the session.
  .filter(({ path }) => path !== '/moby.buildkit.v1.Control/Session');
const UNKNOWN_BUILD = [['buildkit-controlapi-buildid', 'never-registered']] as const;

/** Field 1 as a message in itself, `depth` times: what makes a recursive decoder run out of stack. */
function nested(depth: number): Buffer {
  let bytes = Buffer.alloc(0);
  for (let i = 0; i < depth && bytes.length < 60_000; i++) {
    const length: number[] = [];
    for (let rest = bytes.length; ; rest >>>= 7) {
      length.push(rest > 0x7f ? (rest & 0x7f) | 0x80 : rest);
      if (rest <= 0x7f) break;
    }
    bytes = Buffer.concat([Buffer.from([0x0a, ...length]), bytes]);
  }
  return bytes;
}

for (const [what, bytes] of [
  ['a field that is longer than the message', Buffer.from([0x0a, 0x7f, 0x01])],
  ['a varint of eleven bytes', Buffer.from([0x08, ...Array<number>(11).fill(0xff)])],
  ['field number 0', Buffer.from([0x02, 0x00])],
  ['wire type 7', Buffer.from([0x0f])],
  ['a group that never ends', Buffer.from([0x0b])],
] as const) {
  test(`${what} is refused as malformed by every method`, { skip }, async () => {
    for (const { path } of METHODS) {
      const error = await failureOf(path, bytes, UNKNOWN_BUILD);
      if (path === LENIENT || error?.kind === 'unsupported') continue; // a method that this daemon does not serve
      assert.equal(error?.kind, 'invalid-input', `${path}: ${error?.kind} ${error?.message}`);
      assert.match(error.message, /malformed/, path);
    }
    await alive();
  });
}

test('messages in messages, thousands deep, are answered by every method', { skip }, async () => {
  const bytes = nested(20_000);
  const finite = METHODS.filter(({ path }) => !path.endsWith('/ListenBuildHistory')); // unknown fields to it, so it listens
  await Promise.all(
    finite.map(async ({ path }) => {
      const error = await failureOf(path, bytes, UNKNOWN_BUILD);
      assert.notEqual(error?.kind, 'internal', `${path}: ${error?.message}`);
    }),
  );
  await alive();
});

test('random bytes get an answer from every method, and never an internal error', { skip, timeout: 120_000 }, async () => {
  const quick = METHODS.filter(({ path }) => !path.includes('LLBBridge') && !/Status|ListenBuildHistory|Prune/.test(path));
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...quick), fc.uint8Array({ maxLength: 200 }), async ({ path }, bytes) => {
      const error = await failureOf(path, bytes);
      assert.notEqual(error?.kind, 'internal', `${path}: ${error?.message}`);
    }),
    { numRuns: 400 },
  );
  await alive();
});

test('a message of another type is answered, whatever it is taken for', { skip, timeout: 120_000 }, async () => {
  const vertex = opBytes({ op: { case: 'source', value: { identifier: 'docker-image://127.0.0.1:1/none:latest' } } });
  const solve = { Ref: randomId(), Definition: { def: [vertex, terminator(vertex)] }, FrontendAttrs: { a: 'b' } };
  const bytes = toBinary(Control.method.solve.input, create(Control.method.solve.input, solve));
  const wrong = METHODS.filter(({ path }) => !path.endsWith('Control/Solve') && !/Prune|ListenBuildHistory/.test(path));
  await Promise.all(
    wrong.map(async ({ path }) => {
      const error = await failureOf(path, bytes, UNKNOWN_BUILD);
      assert.notEqual(error?.kind, 'internal', `${path}: ${error?.message}`);
    }),
  );
  await alive();
});

test('a compressed message that inflates without end is cut at the message limit', { skip }, async () => {
  const bomb = gzipSync(Buffer.alloc(256 * 1024 * 1024), { level: 9 });
  const frame = Buffer.alloc(5);
  frame[0] = 1; // compressed
  frame.writeUInt32BE(bomb.length, 1);
  const session = http2.connect('http://localhost', { createConnection: () => net.connect(socketPath()) });
  try {
    const call = session.request({
      ':method': 'POST',
      ':path': '/moby.buildkit.v1.Control/Info',
      'content-type': 'application/grpc',
      'grpc-encoding': 'gzip',
      te: 'trailers',
    });
    call.on('data', () => {});
    call.on('error', () => {});
    const trailers = new Promise<http2.IncomingHttpHeaders>((resolve) => {
      call.on('trailers', resolve);
      call.on('response', (headers) => headers['grpc-status'] !== undefined && resolve(headers));
    });
    call.end(Buffer.concat([frame, bomb]));
    assert.equal((await trailers)['grpc-status'], '8'); // RESOURCE_EXHAUSTED
  } finally {
    session.destroy();
  }
  await alive();
});

// ── graphs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

type OpInit = MessageInitShape<typeof OpSchema>;
function opBytes(op: OpInit): Uint8Array<ArrayBuffer> {
  return new Uint8Array(toBinary(OpSchema, create(OpSchema, op)));
}
const digestOf = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
const terminator = (...inputs: Uint8Array[]): Uint8Array =>
  opBytes({ inputs: inputs.map((bytes) => ({ digest: digestOf(bytes) })) });
const scratchDir = (path: string, inputs: { digest: string; index?: bigint }[] = []): Uint8Array =>
  opBytes({
    inputs,
    op: {
      case: 'file',
      value: {
        actions: [
          {
            input: inputs.length === 0 ? -1n : 0n,
            secondaryInput: -1n,
            output: 0n,
            action: { case: 'mkdir', value: { path, mode: 0o755, makeParents: true } },
          },
        ],
      },
    },
  });

async function solve(
  def: Uint8Array[],
  metadata: Record<string, MessageInitShape<DescMessage>> = {},
): Promise<BuildError | undefined> {
  try {
    await client.unary(Control.method.solve, { Ref: randomId(), Definition: { def, metadata } }, { timeoutMs: ANSWER_MS * 3 });
    return undefined;
  } catch (error) {
    assert.ok(error instanceof BuildError, String(error));
    return error;
  }
}

const UNKNOWN = `sha256:${'ab'.repeat(32)}`;
const NOTHING: Uint8Array = new Uint8Array();
for (const [what, def, message] of [
  ['an op alone, without the entry that names the result', [scratchDir('/a')], /invalid LLB with 1 vertexes/],
  ['a last entry without inputs', [scratchDir('/a'), NOTHING], /no inputs on last vertex/],
  [
    'a result that nobody defines',
    [scratchDir('/a'), opBytes({ inputs: [{ digest: UNKNOWN }] })],
    /missing input digest sha256:abab/,
  ],
  [
    'an input that nobody defines',
    [scratchDir('/a', [{ digest: UNKNOWN }]), terminator(scratchDir('/a', [{ digest: UNKNOWN }]))],
    /missing input digest/,
  ],
  [
    'an input whose digest is no digest',
    [opBytes({ inputs: [{ digest: '../../etc/passwd' }] }), terminator(NOTHING)],
    /is not a digest/,
  ],
  [
    'an input with a negative output index',
    [scratchDir('/a', [{ digest: UNKNOWN, index: -5n }]), terminator(NOTHING)],
    /invalid input 0 output index/,
  ],
  [
    'an op of no kind',
    [opBytes({ platform: { OS: 'linux' } }), terminator(opBytes({ platform: { OS: 'linux' } }))],
    /invalid nil op/,
  ],
  ['bytes that are no op', [Buffer.from([0xff, 0xff, 0xff]), terminator(NOTHING)], /failed to parse llb proto op/],
  [
    'an exec without anything',
    [opBytes({ op: { case: 'exec', value: {} } }), terminator(opBytes({ op: { case: 'exec', value: {} } }))],
    /no meta/,
  ],
] as const) {
  test(`a graph with ${what} is invalid input`, { skip }, async () => {
    const error = await solve([...def]);
    assert.equal(error?.kind, 'invalid-input', `${error?.kind} ${error?.message}`);
    assert.match(error.message, message);
  });
}

test('an output that the input does not have is an error, not a wait', { skip }, async () => {
  const lower = scratchDir('/a');
  const upper = scratchDir('/b', [{ digest: digestOf(lower), index: 7n }]);
  const error = await solve([lower, upper, terminator(upper)]);
  assert.equal(error?.kind, 'invalid-input', error?.message);
  assert.match(error.message, /output 7 of vertex sha256:[0-9a-f]{64} is wanted, it has 1/);
});

test('more vertices than the limit are refused, a long chain is built', { skip, timeout: 120_000 }, async () => {
  const chain: Uint8Array[] = [];
  for (let i = 0; i < 300; i++)
    chain.push(scratchDir(`/d${i}`, chain.length === 0 ? [] : [{ digest: digestOf(chain[i - 1] ?? NOTHING) }]));
  assert.equal(await solve([...chain, terminator(chain.at(-1) ?? NOTHING)]), undefined);
  const small = scratchDir('/a');
  const error = await solve([...Array.from({ length: 150_000 }, () => small), terminator(small)]);
  assert.equal(error?.kind, 'invalid-input', error?.message);
  assert.match(error.message, /150001 vertexes, at most/);
});

const text = fc.oneof(
  fc.constantFrom(
    '',
    '/',
    '..',
    '../../../../etc/passwd',
    '/../../x',
    'a\0b',
    '/proc/self/root',
    '/a/./../b',
    '*',
    '[',
    '\\',
    'a'.repeat(300),
    'b/'.repeat(2100),
  ),
  fc.string({ maxLength: 12 }),
);
const path = text.map((value) => `/${value}`);
const index = fc.oneof(fc.constantFrom(-1n, 0n, 1n), fc.bigInt({ min: -9n, max: 9n }), fc.constantFrom(2n ** 62n, -(2n ** 63n)));
const owner = fc.option(
  fc.record({
    user: fc.record({
      user: fc.oneof(
        fc.record({ case: fc.constant('byID' as const), value: fc.nat() }),
        fc.record({ case: fc.constant('byName' as const), value: fc.record({ name: text, input: index }) }),
      ),
    }),
  }),
  { nil: undefined },
);
const fileAction = fc.record({
  input: index,
  secondaryInput: index,
  output: index,
  action: fc.oneof(
    fc.record({ case: fc.constant('mkdir' as const), value: fc.record({ path, mode: fc.integer(), makeParents: fc.boolean() }) }),
    fc.record({
      case: fc.constant('mkfile' as const),
      value: fc.record({ path, mode: fc.integer(), data: fc.uint8Array({ maxLength: 20 }) }),
    }),
    fc.record({
      case: fc.constant('rm' as const),
      value: fc.record({ path, allowNotFound: fc.boolean(), allowWildcard: fc.boolean() }),
    }),
    fc.record({ case: fc.constant('symlink' as const), value: fc.record({ oldpath: text, newpath: path }) }),
    fc.record({
      case: fc.constant('copy' as const),
      value: fc.record({
        src: path,
        dest: path,
        owner: owner as fc.Arbitrary<undefined>,
        mode: fc.integer(),
        followSymlink: fc.boolean(),
        dirCopyContents: fc.boolean(),
        attemptUnpackDockerCompatibility: fc.boolean(),
        createDestPath: fc.boolean(),
        allowWildcard: fc.boolean(),
        allowEmptyWildcard: fc.boolean(),
        modeStr: text,
        includePatterns: fc.array(text, { maxLength: 2 }),
      }),
    }),
    fc.constant({ case: undefined }),
  ),
});
const mount = fc.record({
  input: index,
  output: index,
  selector: text,
  dest: fc.oneof(fc.constant('/'), path),
  readonly: fc.boolean(),
  mountType: fc.integer({ min: 0, max: 9 }),
  CacheOpt: fc.option(fc.record({ ID: text, sharing: fc.integer({ min: 0, max: 4 }) }), { nil: undefined }),
  SecretOpt: fc.option(fc.record({ ID: text, uid: fc.nat(), optional: fc.boolean() }), { nil: undefined }),
  TmpfsOpt: fc.option(fc.record({ size: index }), { nil: undefined }),
});
const op: fc.Arbitrary<OpInit['op']> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      case: fc.constant('file' as const),
      value: fc.record({ actions: fc.array(fileAction, { maxLength: 4 }) }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      case: fc.constant('exec' as const),
      value: fc.record({
        meta: fc.option(
          fc.record({ args: fc.array(text, { maxLength: 3 }), env: fc.array(text, { maxLength: 2 }), cwd: text, user: text }),
          { nil: undefined },
        ),
        mounts: fc.array(mount, { maxLength: 3 }),
        network: fc.integer({ min: 0, max: 4 }),
        security: fc.integer({ min: 0, max: 3 }),
      }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      case: fc.constant('source' as const),
      value: fc.record({
        identifier: fc.oneof(
          text,
          text.map((rest) => `local://${rest}`),
          text.map((rest) => `docker-image://127.0.0.1:1/${rest}`),
          text.map((rest) => `oci-layout://${rest}`),
          text.map((rest) => `http://127.0.0.1:1/${rest}`),
          text.map((rest) => `git://127.0.0.1:1/${rest}`),
          text.map((rest) => `docker-image+blob://127.0.0.1:1/${rest}`),
        ),
        attrs: fc.dictionary(
          fc.constantFrom('local.session', 'local.includepattern', 'http.checksum', 'git.keepgitdir', 'image.resolvemode'),
          text,
          { maxKeys: 2 },
        ),
      }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      case: fc.constant('merge' as const),
      value: fc.record({ inputs: fc.array(fc.record({ input: index }), { maxLength: 3 }) }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      case: fc.constant('diff' as const),
      value: fc.record({ lower: fc.record({ input: index }), upper: fc.record({ input: index }) }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      case: fc.constant('build' as const),
      value: fc.record({ builder: index, def: fc.constant(undefined) }),
    }),
  },
) as fc.Arbitrary<OpInit['op']>;

/** The same file op with indexes that fit: the first action works on the first input or scratch, each on the one before it. */
function indexed(body: OpInit['op'], inputs: number): OpInit['op'] {
  if (body?.case !== 'file') return body;
  const actions = body.value.actions ?? [];
  const mended = actions.map((action, i) => ({
    ...action,
    input: i > 0 ? BigInt(inputs + i - 1) : inputs > 0 ? 0n : -1n,
    secondaryInput: inputs > 0 ? BigInt(inputs - 1) : -1n,
    output: i === actions.length - 1 ? 0n : -1n,
  }));
  return { case: 'file', value: { ...body.value, actions: mended } } as OpInit['op'];
}

/** Ops whose inputs are mostly earlier ops, now and then unknown ones or outputs that do not exist. */
const graph = fc
  .array(
    fc.record({
      op,
      sane: fc.boolean(),
      inputs: fc.array(
        fc.record({
          from: fc.nat(6),
          index: fc.oneof({ weight: 4, arbitrary: fc.constant(0n) }, { weight: 1, arbitrary: index }),
        }),
        { maxLength: 3 },
      ),
    }),
    { minLength: 1, maxLength: 5 },
  )
  .map((steps) => {
    const def: Uint8Array[] = [];
    for (const { op: body, inputs, sane } of steps) {
      const linked = inputs.map(({ from, index: output }) => ({
        digest: from < def.length ? digestOf(def[from] ?? NOTHING) : from === 6 && !sane ? UNKNOWN : '',
        index: sane ? 0n : output,
      }));
      const known = linked.filter(({ digest }) => digest !== '');
      def.push(opBytes({ op: sane ? indexed(body, known.length) : body, inputs: known } as OpInit));
    }
    return [...def, terminator(def.at(-1) ?? NOTHING)];
  });

test('random graphs are built or refused, never an internal error, and leave nothing behind', {
  skip,
  timeout: 300_000,
}, async () => {
  const kinds = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(graph, async (def) => {
      const error = await solve(def);
      kinds.set(error?.kind ?? 'built', (kinds.get(error?.kind ?? 'built') ?? 0) + 1);
      const shown = () =>
        `${error?.kind}: ${error?.message}\n${def.map((bytes) => JSON.stringify(fromBinary(OpSchema, bytes).op, (_, value) => (typeof value === 'bigint' ? String(value) : value))).join('\n')}`;
      assert.ok(error?.kind !== 'internal' && error?.kind !== 'timed-out', shown());
    }),
    { numRuns: 300 },
  );
  assert.ok((kinds.get('invalid-input') ?? 0) > 0 && (kinds.get('built') ?? 0) > 0, JSON.stringify([...kinds]));
  await alive();
  await assertNothingLeaked(daemon, idle);
});
