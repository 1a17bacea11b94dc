/** Clients whose file sender lies: names that climb, links that lead out, a tree that changes under way. Nothing of the host is touched. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Control } from '../../src/builder/proto/gen/moby/buildkit/v1/control_pb.ts';
import { FileSync } from '../../src/builder/proto/gen/moby/filesync/v1/filesync_pb.ts';
import { connect } from '../../src/builder/rpc/client.ts';
import { type RawStream, raw, type Service, service } from '../../src/builder/rpc/handlers.ts';
import { openClientSession, randomId } from '../../src/builder/session/attachables/client-session.ts';
import {
  decodePacket,
  END_OF_STATS,
  encodeDataPacket,
  encodeErrorPacket,
  encodeStatPacket,
  FIN_PACKET,
  messageOf,
  PACKET,
  type Stat,
} from '../../src/builder/session/fsutil/packet.ts';
import { systemClock } from '../../src/core/clock.ts';
import { BuildError } from '../../src/core/errors.ts';
import { Canary } from '../fixtures/canary.ts';
import { TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { assertNothingLeaked, type Holdings, holdingsOf } from '../fixtures/leaks.ts';

const skip = unableTo('runc');
const DIRECTORY = 2 ** 31;
const SYMLINK = 2 ** 27;
const DEVICE = 2 ** 26;
let daemon: TestDaemon;
let canary: Canary;
let idle: Holdings;

before(async () => {
  if (skip !== false) return;
  canary = await Canary.open();
  daemon = await TestDaemon.start();
  assert.equal(await build('FROM scratch\nCOPY . /\n', sends([entry('ok')])), undefined);
  idle = await holdingsOf(daemon);
});
after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await canary?.[Symbol.asyncDispose]();
});

const entry = (path: string, more: Partial<Stat> = {}): Stat => ({
  path,
  mode: 0o644,
  uid: 0,
  gid: 0,
  size: 3,
  modTime: 0n,
  linkname: '',
  devMajor: 0,
  devMinor: 0,
  xattrs: [],
  ...more,
});
const directory = (path: string): Stat => entry(path, { mode: DIRECTORY + 0o755, size: 0 });
const symlink = (path: string, linkname: string): Stat => entry(path, { mode: SYMLINK + 0o777, size: 0, linkname });
const hardLink = (path: string, linkname: string): Stat => entry(path, { linkname, size: 0 });

type Sender = (stream: RawStream) => Promise<void>;

/** Lists these entries, whatever they are, and answers every request for a file with `data`. */
const sends =
  (listing: readonly Stat[], data: Uint8Array = Buffer.from('hi\n')): Sender =>
  async (stream) => {
    for (const stat of listing) await stream.send(encodeStatPacket(stat));
    await stream.send(END_OF_STATS);
    await serve(stream, data);
  };

async function serve(stream: RawStream, data: Uint8Array): Promise<void> {
  for await (const message of stream) {
    const packet = decodePacket(message);
    if (packet.type === PACKET.ERR) throw new BuildError('invalid-input', messageOf(packet));
    if (packet.type === PACKET.FIN) return await stream.send(FIN_PACKET);
    if (packet.type !== PACKET.REQ) continue;
    await stream.send(encodeDataPacket(packet.id, data));
    await stream.send(encodeDataPacket(packet.id, new Uint8Array()));
  }
}

/** Honest about the Dockerfile, whatever `context` is about the context. `sharedKey` ties the contexts of several builds together. */
const fileSync = (dockerfile: string, context: Sender): Service =>
  service(FileSync, {
    diffCopy: raw(async (stream, { headers }) => {
      const name = headers.get('dir-name');
      const isContext =
        name === 'context' && !headers.getAll('include-patterns').some((pattern) => pattern.includes('.dockerignore'));
      if (isContext) return await context(stream);
      if (name === 'context') return await sends([])(stream);
      await sends([entry('Dockerfile', { size: Buffer.byteLength(dockerfile) })], Buffer.from(dockerfile))(stream);
    }),
  });

/** Why the build failed, or undefined when it did not. */
async function build(dockerfile: string, context: Sender, sharedKey = ''): Promise<BuildError | undefined> {
  await using client = await connect({ type: 'unix', path: daemon.address.slice('unix://'.length) });
  await using session = openClientSession(client, { services: [fileSync(dockerfile, context)], sharedKey, clock: systemClock() });
  const ref = randomId();
  try {
    await client.unary(
      Control.method.solve,
      { Ref: ref, Session: session.id, Frontend: 'dockerfile.v0', FrontendAttrs: {} },
      { timeoutMs: 30_000 },
    );
    return undefined;
  } catch (error) {
    assert.ok(error instanceof BuildError, String(error));
    return error;
  }
}

const COPY_ALL = 'FROM scratch\nCOPY . /\n';

for (const [what, listing] of [
  ['a name that climbs out', () => [entry('../cooper-escape')]],
  ['a name that climbs out on its way', () => [directory('a'), entry('a/../../cooper-escape')]],
  ['an absolute name', () => [entry('/tmp/cooper-escape')]],
  ['the parent itself', () => [directory('..')]],
  ['no name', () => [entry('')]],
  ['a name with an empty part', () => [directory('a'), entry('a//b')]],
  ['a name with a dot as a part', () => [directory('a'), entry('a/./b')]],
  ['a NUL in a name', () => [entry('a\0b')]],
  ['a file below a symlink that leads out', () => [symlink('d', canary.dir), entry('d/victim')]],
  ['a directory below a symlink that leads out', () => [symlink('d', canary.dir), directory('d/dir')]],
  ['a file below a file', () => [entry('f'), entry('f/x')]],
  ['a file in a directory that was not listed', () => [entry('unknown/x')]],
  ['names out of order', () => [entry('b'), entry('a')]],
  ['the same name twice, first a directory and then a link', () => [directory('d'), symlink('d', canary.dir)]],
  ['a directory that becomes a link after its files', () => [directory('d'), entry('d/victim'), symlink('d', canary.dir)]],
  ['a hard link to a file of the host', () => [hardLink('h', `${canary.dir}/victim`)]],
  ['a hard link that climbs out', () => [hardLink('h', `${'../'.repeat(20)}${canary.dir.slice(1)}/victim`)]],
  ['a hard link through a symlink', () => [symlink('d', canary.dir), hardLink('h', 'd/victim')]],
  ['a hard link to itself', () => [hardLink('h', 'h')]],
  ['a hard link to what comes later', () => [hardLink('a', 'b'), entry('b')]],
  ['a name of 5000 bytes', () => [entry('n'.repeat(5000))]],
] as const) {
  test(`a context with ${what} is refused`, { skip }, async () => {
    const error = await build(COPY_ALL, sends(listing()));
    assert.ok(error !== undefined, 'the build must fail');
    assert.equal(error.kind, 'invalid-input', `${error.kind}: ${error.message}`);
    assert.ok(!error.message.includes(canary.word));
    canary.check();
    await assertNothingLeaked(daemon, idle);
  });
}

test('links of the context that lead out are only links: what is copied from them is not there', { skip }, async () => {
  const listing = [
    symlink('out', canary.dir),
    symlink('up', '../../../../../../../..'),
    symlink('victim', `${canary.dir}/victim`),
  ];
  for (const source of ['out/victim', `up${canary.dir}/victim`, 'victim']) {
    const error = await build(`FROM scratch\nCOPY ${source} /x\n`, sends(listing));
    assert.equal(error?.kind, 'not-found', `${source}: ${error?.kind} ${error?.message}`);
    assert.ok(!error.message.includes(canary.word));
  }
  canary.check();
});

test('a directory that the next build sends as a link, and the one after as a directory again', { skip }, async () => {
  const key = randomId();
  const asDirectory = [directory('d'), entry('d/victim')];
  assert.equal(await build(COPY_ALL, sends(asDirectory), key), undefined);
  assert.equal(await build(COPY_ALL, sends([symlink('d', canary.dir)]), key), undefined);
  canary.check();
  assert.equal(await build(COPY_ALL, sends(asDirectory, Buffer.from('yo\n')), key), undefined);
  canary.check();
});

test('a link that appears while files are under way does not lead them out', { skip }, async () => {
  // The files are answered only after the whole listing, in which their directory has been replaced, is out.
  const error = await build(COPY_ALL, async (stream) => {
    await stream.send(encodeStatPacket(directory('d')));
    await stream.send(encodeStatPacket(entry('d/victim', { size: 6 })));
    const messages = stream[Symbol.asyncIterator]();
    const request = await messages.next();
    assert.ok(request.done !== true);
    await stream.send(encodeDataPacket(decodePacket(request.value).id, Buffer.from('one')));
    await stream.send(encodeStatPacket(symlink('d', canary.dir)));
    await stream.send(encodeDataPacket(decodePacket(request.value).id, Buffer.from('two')));
    await stream.send(encodeDataPacket(decodePacket(request.value).id, new Uint8Array()));
    await stream.send(END_OF_STATS);
    for (let next = await messages.next(); next.done !== true; next = await messages.next())
      if (decodePacket(next.value).type === PACKET.ERR) throw new BuildError('invalid-input', 'refused');
  });
  assert.equal(error?.kind, 'invalid-input', error?.message);
  canary.check();
  await assertNothingLeaked(daemon, idle);
});

for (const [what, sender] of [
  ['garbage in place of packets', async (stream: RawStream) => await stream.send(Buffer.from('this is no packet at all'))],
  ['a packet of an unknown type', async (stream: RawStream) => await stream.send(Buffer.from([0x08, 0x63]))],
  ['data that nobody asked for', async (stream: RawStream) => await stream.send(encodeDataPacket(77, Buffer.from('x')))],
  ['nothing but the end of the stream', async () => {}],
  ['an error of its own', async (stream: RawStream) => await stream.send(encodeErrorPacket('the disk of the client is gone'))],
  [
    'a failing call',
    async () => {
      throw new BuildError('internal', 'the client is broken');
    },
  ],
] as const) {
  test(`a sender that sends ${what} fails the build and nothing else`, { skip }, async () => {
    const error = await build(COPY_ALL, sender);
    assert.ok(error !== undefined);
    assert.notEqual(error.kind, 'timed-out', error.message);
    await assertNothingLeaked(daemon, idle);
  });
}

test('device files in a context are refused or stay in the context', { skip }, async () => {
  const error = await build(COPY_ALL, sends([entry('disk', { mode: DEVICE + 0o666, devMajor: 8, devMinor: 0, size: 0 })]));
  assert.notEqual(error?.kind, 'internal', error?.message);
  canary.check();
});

test('after all of them a build works', { skip }, async () => {
  assert.equal(await build(COPY_ALL, sends([entry('ok')])), undefined);
  await assertNothingLeaked(daemon, idle, { idle: true });
});
