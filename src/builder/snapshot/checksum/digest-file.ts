/**
 * Saved digests of a tree: a version line, then every node before its children. Names and link targets are raw bytes with a 16-bit
 * length, digests 32 raw bytes. A file that does not parse is worth nothing and is ignored: it saves work, it holds no truth.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { newNode, type TreeNode } from './content-tree.ts';

const MAGIC = 'cooper-digests-1\n';
const KINDS = ['dir', 'file', 'link'] as const;
const HAS_ENTRY = 4;
const HAS_WHOLE = 8;
const LISTED = 16;
const HAS_TARGET = 32;
const HAS_IDENTITY = 64;

/** Undefined when there is none that can be read. */
export function readDigests(path: string): TreeNode | undefined {
  try {
    const bytes = readFileSync(path);
    if (bytes.toString('latin1', 0, MAGIC.length) !== MAGIC) return undefined;
    const reader = new Reader(bytes, MAGIC.length);
    const root = reader.node();
    return reader.atEnd ? root : undefined;
  } catch {
    return undefined;
  }
}

/** Replaces the file at once, so that readers see the old or the new one. */
export function writeDigests(path: string, root: TreeNode): void {
  const writer = new Writer();
  writer.node(root);
  const temporary = `${path}.${process.pid}.${Math.random().toString(36).slice(2)}`;
  writeFileSync(temporary, writer.bytes());
  renameSync(temporary, path);
}

class Writer {
  #buffer = Buffer.allocUnsafe(1 << 16);
  #at = 0;

  constructor() {
    this.#text(MAGIC);
  }

  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#at);
  }

  node(node: TreeNode): void {
    const identity = node.ino !== 0n;
    this.#room(64);
    this.#buffer[this.#at++] =
      KINDS.indexOf(node.kind) |
      (node.entry === undefined ? 0 : HAS_ENTRY) |
      (node.whole === undefined ? 0 : HAS_WHOLE) |
      (node.children === undefined ? 0 : LISTED) |
      (node.target === undefined ? 0 : HAS_TARGET) |
      (identity ? HAS_IDENTITY : 0);
    if (node.entry !== undefined) this.#hex(node.entry);
    if (node.whole !== undefined) this.#hex(node.whole);
    if (node.target !== undefined) this.#string(node.target);
    if (identity) {
      this.#room(16);
      this.#at = this.#buffer.writeBigUInt64LE(node.ino, this.#at);
      this.#at = this.#buffer.writeBigInt64LE(node.mtimeNs, this.#at);
    }
    if (node.children === undefined) return;
    this.#room(4);
    this.#at = this.#buffer.writeUInt32LE(node.children.size, this.#at);
    for (const [name, child] of node.children) {
      this.#string(name);
      this.node(child);
    }
  }

  #hex(digest: string): void {
    this.#room(32);
    this.#at += this.#buffer.write(digest, this.#at, 'hex');
  }

  #string(bytes: string): void {
    this.#room(2);
    this.#at = this.#buffer.writeUInt16LE(bytes.length, this.#at);
    this.#text(bytes);
  }

  #text(bytes: string): void {
    this.#room(bytes.length);
    this.#at += this.#buffer.write(bytes, this.#at, 'latin1');
  }

  #room(size: number): void {
    if (this.#at + size <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#at + size));
    this.#buffer.copy(larger, 0, 0, this.#at);
    this.#buffer = larger;
  }
}

class Reader {
  readonly #bytes: Buffer;
  #at: number;

  constructor(bytes: Buffer, at: number) {
    this.#bytes = bytes;
    this.#at = at;
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  node(): TreeNode {
    const flags = this.#bytes.readUInt8(this.#at++);
    const node = newNode(KINDS[flags & 3] ?? 'file');
    if (flags & HAS_ENTRY) node.entry = this.#take(32, 'hex');
    if (flags & HAS_WHOLE) node.whole = this.#take(32, 'hex');
    if (flags & HAS_TARGET) node.target = this.#string();
    if (flags & HAS_IDENTITY) {
      node.ino = this.#bytes.readBigUInt64LE(this.#at);
      node.mtimeNs = this.#bytes.readBigInt64LE(this.#at + 8);
      this.#at += 16;
    }
    if (flags & LISTED) {
      const count = this.#bytes.readUInt32LE(this.#at);
      this.#at += 4;
      node.children = new Map();
      for (let index = 0; index < count; index += 1) node.children.set(this.#string(), this.node());
    }
    return node;
  }

  #string(): string {
    const length = this.#bytes.readUInt16LE(this.#at);
    this.#at += 2;
    return this.#take(length, 'latin1');
  }

  #take(length: number, encoding: 'hex' | 'latin1'): string {
    const end = this.#at + length;
    if (end > this.#bytes.length) throw new RangeError('cut short');
    const text = this.#bytes.toString(encoding, this.#at, end);
    this.#at = end;
    return text;
  }
}
