import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Digest } from '../../../core/digest.ts';
import { openSys } from '../../worker/sys/sys.ts';
import { fileDigest } from './entry-hash.ts';
import { GO_MODE } from './mode.ts';
import {
  byteStringOf,
  decodePacket,
  END_OF_STATS,
  encodeDataPacket,
  encodeErrorPacket,
  encodeStatPacket,
  FIN_PACKET,
  PACKET,
  type Stat,
} from './packet.ts';
import { receiveTree } from './receive-tree.ts';
import { type PacketStream, sendTree } from './sender.ts';
import { walk } from './walk.ts';

const sys = openSys();
const isRoot = process.geteuid?.() === 0;

test('a tree arrives as it was sent: modes, links, names, times to the nanosecond', async () => {
  using dirs = tempDirs();
  fillTree(dirs.source);
  const received = await transfer(dirs);
  assert.deepEqual(shapeOf(dirs.target), shapeOf(dirs.source));
  assert.equal(lstatSync(join(dirs.target, 'a/file')).ino, lstatSync(join(dirs.target, 'z-link')).ino);
  const content = readFileSync(join(dirs.source, 'big'));
  const mode = lstatSync(join(dirs.source, 'big')).mode & 0o7777;
  assert.equal(received.digests.get('big'), fileDigest({ mode, uid: 0, gid: 0, size: content.length, xattrs: [] }, content));
  assert.equal(received.digests.get('z-link'), received.digests.get('a/file'));
});

test('a second transfer of an unchanged tree requests and writes nothing', async () => {
  using dirs = tempDirs();
  fillTree(dirs.source);
  await transfer(dirs);
  const before = shapeOf(dirs.target);
  const second = await transfer(dirs);
  assert.deepEqual([second.requests, second.changed], [0, 0]);
  assert.deepEqual(shapeOf(dirs.target), before);
});

test('a transfer of a changed tree requests what changed and removes what is gone', async () => {
  using dirs = tempDirs();
  fillTree(dirs.source);
  await transfer(dirs);
  writeFileSync(join(dirs.source, 'a/file'), 'other bytes');
  rmSync(join(dirs.source, 'deep'), { recursive: true });
  rmSync(join(dirs.source, 'link'));
  mkdirSync(join(dirs.source, 'link'));
  writeFileSync(join(dirs.source, 'link/now-a-directory'), '');
  rmSync(join(dirs.source, 'empty-dir'), { recursive: true });
  writeFileSync(join(dirs.source, 'empty-dir'), 'now a file');
  const second = await transfer(dirs);
  assert.equal(second.requests, 3);
  assert.deepEqual(shapeOf(dirs.target), shapeOf(dirs.source));
  assert.equal(lstatSync(join(dirs.target, 'a/file')).ino, lstatSync(join(dirs.target, 'z-link')).ino);
});

test('with differ none every file is requested again', async () => {
  using dirs = tempDirs();
  fillTree(dirs.source);
  const first = await transfer(dirs);
  assert.equal((await transfer(dirs, { differ: 'none' })).requests, first.requests);
});

test('merging keeps what the sender does not have', async () => {
  using dirs = tempDirs();
  fillTree(dirs.source);
  mkdirSync(join(dirs.target, 'a'));
  writeFileSync(join(dirs.target, 'a/mine'), 'mine');
  writeFileSync(join(dirs.target, 'big'), 'old');
  await transfer(dirs, { merge: true });
  assert.equal(readFileSync(join(dirs.target, 'a/mine'), 'utf8'), 'mine');
  assert.deepEqual(readFileSync(join(dirs.target, 'big')), readFileSync(join(dirs.source, 'big')));
});

test('names that are no UTF-8 keep their bytes', async () => {
  using dirs = tempDirs();
  const name = Buffer.from([0x61, 0xff, 0xfe]);
  writeFileSync(Buffer.concat([Buffer.from(`${dirs.source}/`), name]), 'x');
  await transfer(dirs);
  assert.deepEqual(readdirSync(dirs.target, 'buffer'), [name]);
});

test('devices and pipes arrive as such', { skip: !isRoot && 'needs root' }, async () => {
  using dirs = tempDirs();
  sys.makeNode(join(dirs.source, 'null'), 0o020666, 1, 3);
  sys.makeNode(join(dirs.source, 'pipe'), 0o010644, 0, 0);
  await transfer(dirs);
  const [device, pipe] = [lstatSync(join(dirs.target, 'null')), lstatSync(join(dirs.target, 'pipe'))];
  assert.ok(device.isCharacterDevice() && pipe.isFIFO());
  assert.equal(device.rdev, lstatSync(join(dirs.source, 'null')).rdev);
  assert.equal((await transfer(dirs)).changed, 0);
});

const file = (path: string, more: Partial<Stat> = {}): Stat => entry(path, 0o644, more);
const dir = (path: string): Stat => entry(path, GO_MODE.DIR | 0o755);
const symlink = (path: string, linkname: string): Stat => entry(path, GO_MODE.SYMLINK | 0o777, { linkname });

const HOSTILE: readonly (readonly [what: string, listing: readonly Stat[]])[] = [
  ['an absolute path', [file('/etc/passwd')]],
  ['a path through ..', [file('../up')]],
  ['a .. in the middle', [dir('a'), file('a/../../up')]],
  ['an unclean path', [dir('a'), file('a//b')]],
  ['a dot', [file('.')]],
  ['an empty path', [file('')]],
  ['a NUL', [file('a\0b')]],
  ['a name twice', [file('a'), file('a')]],
  ['a file before its elder', [file('b'), file('a')]],
  ['a directory that was left already', [dir('a'), dir('b'), file('a/x')]],
  ['a child of nothing', [file('a/b')]],
  ['a child of a file', [file('a'), file('a/b')]],
  ['a child of a symlink', [symlink('a', '/etc'), file('a/passwd')]],
  ['a symlink swapped for a directory', [symlink('a', '/etc'), dir('a'), file('a/passwd')]],
  ['a hard link out of the root', [file('b', { linkname: '/etc/passwd' })]],
  ['a hard link to nothing sent', [file('b', { linkname: 'a' })]],
  ['a hard link to a symlink', [symlink('a', '/etc/passwd'), file('b', { linkname: 'a' })]],
  ['a kind of file that does not exist', [entry('a', GO_MODE.IRREGULAR)]],
  ['a name longer than any', [file('a'.repeat(300))]],
];
for (const [what, listing] of HOSTILE) {
  test(`a listing with ${what} is refused and leaves nothing outside`, async () => {
    using dirs = tempDirs();
    const peer = scripted([...listing.map(encodeStatPacket), END_OF_STATS], { serve: true });
    await assert.rejects(receive(peer, dirs.target), { name: 'BuildError', kind: 'invalid-input' });
    assert.equal(decodePacket(peer.sent.at(-1) as Uint8Array).type, PACKET.ERR);
    assert.equal(existsSync(join(dirs.base, 'up')), false);
    assert.deepEqual(temporariesIn(dirs.base), []);
  });
}

test('a symlink in the destination is replaced, never followed', async () => {
  using dirs = tempDirs();
  const outside = join(dirs.base, 'outside');
  mkdirSync(outside);
  writeFileSync(join(outside, 'victim'), 'untouched');
  symlinkSync(outside, join(dirs.target, 'a'));
  symlinkSync(join(outside, 'victim'), join(dirs.target, 'b'));
  await receive(
    scripted([dir('a'), file('a/victim'), file('b')].map(encodeStatPacket).concat(END_OF_STATS), { serve: true }),
    dirs.target,
  );
  assert.equal(readFileSync(join(outside, 'victim'), 'utf8'), 'untouched');
  assert.ok(lstatSync(join(dirs.target, 'a')).isDirectory() && lstatSync(join(dirs.target, 'b')).isFile());
});

for (const [what, packets] of [
  ['data that nobody asked for', [encodeDataPacket(3, Buffer.from('x'))]],
  ['FIN before the end', [FIN_PACKET]],
  ['its own failure', [encodeErrorPacket('disk on fire')]],
  ['a STAT after the end of STATs', [END_OF_STATS, encodeStatPacket(file('a'))]],
] as const) {
  test(`a sender that sends ${what} is refused`, async () => {
    using dirs = tempDirs();
    await assert.rejects(receive(scripted(packets), dirs.target), { kind: 'invalid-input' });
  });
}

test('a transfer cut short leaves no temporary files and the next one repairs the rest', async () => {
  using dirs = tempDirs();
  fillTree(dirs.source);
  await transfer(dirs);
  const listing = [...walk(dirs.source)];
  const big = listing.findIndex((stat) => stat.path === 'big');
  // The file has changed; the client dies in the middle of it, once with and once without the old file in place.
  for (const removed of [false, true]) {
    if (removed) rmSync(join(dirs.target, 'big'));
    const changed = listing.map((stat) => (stat.path === 'big' ? { ...stat, modTime: stat.modTime + 1n } : stat));
    const packets = [...changed.map(encodeStatPacket), END_OF_STATS, encodeDataPacket(big, Buffer.alloc(600_000))];
    await assert.rejects(receive(scripted(packets), dirs.target), { kind: 'cancelled' });
    assert.deepEqual(temporariesIn(dirs.target), []);
  }
  await transfer(dirs);
  assert.deepEqual(shapeOf(dirs.target), shapeOf(dirs.source));
});

test('a full disk is exhaustion, not a bug, and leaves nothing half written', { skip: !isRoot && 'needs root' }, async (t) => {
  using dirs = tempDirs();
  try {
    sys.mount({ type: 'tmpfs', source: 'tmpfs', target: dirs.target, data: 'size=1m' });
  } catch {
    return t.skip('may not mount here');
  }
  try {
    fillTree(dirs.source);
    writeFileSync(join(dirs.source, 'much'), Buffer.alloc(3_000_000));
    const [there, here] = pair();
    const sending = sendTree(there, { root: dirs.source, listing: walk(byteStringOf(dirs.source)), onProgress: () => {} });
    const told = assert.rejects(
      sending.finally(() => there.end()),
      /error from receiver: cannot receive ".*": no space left on device/,
    );
    await assert.rejects(receive(here, dirs.target), { kind: 'exhausted', message: /no space left/ });
    await told;
    assert.deepEqual(temporariesIn(dirs.target), []);
    assert.equal(existsSync(join(dirs.target, 'much')), false);
  } finally {
    sys.unmount(dirs.target);
  }
});

test('a file that changed size while it was sent has no digest and is sent again next time', async () => {
  using dirs = tempDirs();
  const packets = [encodeStatPacket(file('a', { size: 5 })), END_OF_STATS];
  const received = await receive(scripted(packets, { serve: true }), dirs.target);
  assert.equal(received.digests.size, 0);
  const again = scripted(packets, { serve: true });
  await receive(again, dirs.target);
  assert.ok(again.sent.some((packet) => decodePacket(packet).type === PACKET.REQ));
});

test('a sender that keeps thousands of files open at once is refused', async () => {
  using dirs = tempDirs();
  const names = Array.from({ length: 200 }, (_, at) => `f${String(at).padStart(4, '0')}`);
  const block = Buffer.alloc(600_000);
  const packets = [...names.map((name) => encodeStatPacket(file(name))), ...names.map((_, id) => encodeDataPacket(id, block))];
  await assert.rejects(receive(scripted(packets), dirs.target), /at once/);
  assert.deepEqual(readdirSync(dirs.target), []);
});

function entry(path: string, mode: number, more: Partial<Stat> = {}): Stat {
  const stat = {
    path,
    mode: mode >>> 0,
    uid: 0,
    gid: 0,
    size: 0,
    modTime: 0n,
    linkname: '',
    devMajor: 0,
    devMinor: 0,
    xattrs: [],
  };
  return { ...stat, ...more };
}

interface Dirs extends Disposable {
  readonly base: string;
  readonly source: string;
  readonly target: string;
}

function tempDirs(): Dirs {
  const base = mkdtempSync(join(tmpdir(), 'cooper-transfer-'));
  const [source, target] = [join(base, 'source'), join(base, 'target')];
  mkdirSync(source);
  mkdirSync(target);
  return { base, source, target, [Symbol.dispose]: () => rmSync(base, { recursive: true, force: true }) };
}

function fillTree(root: string): void {
  for (const path of ['a', 'deep', 'deep/er', 'empty-dir']) mkdirSync(join(root, path));
  writeFileSync(join(root, 'a/file'), 'content');
  linkSync(join(root, 'a/file'), join(root, 'z-link'));
  writeFileSync(join(root, 'a-b'), '', { mode: 0o600 });
  writeFileSync(join(root, 'a.c'), 'x');
  writeFileSync(join(root, 'deep/er/schön 😀'), 'ünïcode');
  writeFileSync(join(root, 'big'), createHash('sha512').update('seed').digest().toString('hex').repeat(10_000));
  writeFileSync(join(root, 'run'), '#!/bin/sh\n');
  chmodSync(join(root, 'run'), 0o4777);
  symlinkSync('a/file', join(root, 'link'));
  symlinkSync('/nowhere/at/all', join(root, 'dangling'));
  sys.setTimes(join(root, 'a.c'), 1n, 1_600_000_000_123_456_789n);
  sys.setTimes(join(root, 'link'), 1n, 1_500_000_000_987_654_321n);
  utimesSync(join(root, 'empty-dir'), 1, 1);
}

/** Everything that a transfer should carry over. Owners become root. */
function shapeOf(root: string): unknown[] {
  return [...walk(root)].map((stat) => {
    const path = join(root, Buffer.from(stat.path, 'latin1').toString());
    const content = lstatSync(path).isFile() ? createHash('sha256').update(readFileSync(path)).digest('hex') : '';
    return { ...stat, uid: 0, gid: 0, content, link: lstatSync(path).isSymbolicLink() ? readlinkSync(path) : '' };
  });
}

const temporariesIn = (root: string): string[] =>
  readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) => name.includes('.tmp'));

async function receive(
  stream: PacketStream,
  destination: string,
  options: { differ?: 'none' | 'metadata'; merge?: boolean } = {},
): Promise<{ readonly changed: number; readonly digests: Map<string, Digest> }> {
  const digests = new Map<string, Digest>();
  const { changed } = await receiveTree(stream, {
    destination,
    differ: 'metadata',
    merge: false,
    owner: 'root',
    ...options,
    sys,
    onProgress: () => {},
    onDigest: (path, digest) => digests.set(path, digest),
    onLink: (path, target) => {
      const digest = digests.get(target);
      if (digest !== undefined) digests.set(path, digest);
    },
  });
  return { changed, digests };
}

async function transfer(dirs: Dirs, options: { differ?: 'none' | 'metadata'; merge?: boolean } = {}) {
  const [there, here] = pair();
  const sending = sendTree(there, { root: dirs.source, listing: walk(byteStringOf(dirs.source)), onProgress: () => {} }).finally(
    () => there.end(),
  );
  const [received] = await Promise.all([receive(here, dirs.target, options), sending]);
  return { ...received, requests: here.sent.filter((packet) => decodePacket(packet).type === PACKET.REQ).length };
}

interface TestStream extends PacketStream {
  readonly sent: Uint8Array[];
  end(): void;
}

/** Two ends of a stream of messages in memory. */
function pair(): [TestStream, TestStream] {
  const queues = [new MessageQueue(), new MessageQueue()] as const;
  const side = (mine: MessageQueue, theirs: MessageQueue): TestStream => {
    const sent: Uint8Array[] = [];
    return {
      sent,
      send: async (message) => {
        sent.push(message);
        theirs.push(message);
      },
      end: () => theirs.end(),
      pieces: () => mine.pieces(),
      [Symbol.asyncIterator]: () => mine,
    };
  };
  return [side(queues[0], queues[1]), side(queues[1], queues[0])];
}

class MessageQueue implements AsyncIterableIterator<Uint8Array> {
  readonly #messages: Uint8Array[] = [];
  #ended = false;
  #wake: () => void = () => {};

  push(message: Uint8Array): void {
    this.#messages.push(message);
    this.#wake();
  }
  end(): void {
    this.#ended = true;
    this.#wake();
  }
  async next(): Promise<IteratorResult<Uint8Array>> {
    while (this.#messages.length === 0) {
      if (this.#ended) return { done: true, value: undefined };
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return { done: false, value: this.#messages.shift() as Uint8Array };
  }
  /** Cut somewhere near their beginning, as networks do. */
  pieces(): AsyncIterator<readonly Uint8Array[]> {
    return {
      next: async () => {
        const { done, value } = await this.next();
        if (done === true) return { done, value: undefined };
        const cut = value.byteLength % 64;
        return { done: false, value: [value.subarray(0, cut), value.subarray(cut)] };
      },
    };
  }
  [Symbol.asyncIterator](): this {
    return this;
  }
}

/** A sender that says exactly this and then hangs up; `serve` answers requests with empty files and FIN with FIN. */
function scripted(packets: readonly Uint8Array[], options: { readonly serve?: boolean } = {}): TestStream {
  const queue = new MessageQueue();
  const sent: Uint8Array[] = [];
  for (const packet of packets) queue.push(packet);
  if (options.serve !== true) queue.end();
  return {
    sent,
    send: async (message) => {
      sent.push(message);
      const { type, id } = decodePacket(message);
      if (options.serve !== true) return;
      if (type === PACKET.REQ) queue.push(encodeDataPacket(id, Buffer.alloc(0)));
      if (type === PACKET.FIN) queue.push(FIN_PACKET);
      if (type === PACKET.FIN || type === PACKET.ERR) queue.end();
    },
    end: () => {},
    pieces: () => queue.pieces(),
    [Symbol.asyncIterator]: () => queue,
  };
}
