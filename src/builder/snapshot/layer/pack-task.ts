/**
 * Packs a planned stream into a blob. One thread leads: it hashes the stream, and hashes and writes the compressed blob, both in order.
 * Helpers take blocks, read and compress them into shared slots; the lead does the same whenever the next block in line is not ready
 * yet, so it finishes alone when no helper ever gets a thread.
 */
import { createHash } from 'node:crypto';
import { closeSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { type DiffId, type Digest, diffIdOf, digestFromHex } from '../../../core/digest.ts';
import { BuildError, cancelled } from '../../../core/errors.ts';
import type { TaskContext } from '../../../core/worker-pool.ts';
import { openSys } from '../../worker/sys/sys.ts';
import type { Compression } from '../ports.ts';
import { bytesOf } from '../tree/names.ts';
import { type Codec, codecOf, updateCrc } from './codec.ts';
import { planFile, planLayer, type StreamPlan } from './plan.ts';
import { StreamReader } from './stream-reader.ts';

export interface Target {
  readonly compression: Compression;
  readonly level: number | undefined;
  /** A new file. */
  readonly path: string;
}
export interface Packed {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly diffId: DiffId;
  readonly entries: number;
}
export interface DiffArgs {
  readonly upper: string;
  readonly base: string | undefined;
  readonly whole: boolean;
  readonly target: Target;
}
/** Small layers come back packed; of others the plan, to be packed with helpers. */
export type DiffOutput = { readonly packed: Packed } | { readonly plan: StreamPlan };
export interface PackArgs {
  readonly plan: StreamPlan;
  readonly target: Target;
  readonly shared: SharedBlocks;
}

/** Memory that the lead and its helpers share. */
export interface SharedBlocks {
  readonly control: SharedArrayBuffer;
  readonly blocks: SharedArrayBuffer;
  readonly slots: number;
}

const SMALL_BYTES = 3 * 1024 * 1024; // about the work that handing a plan to other threads costs
const WAIT_MS = 50; // only bounds how late an abort is seen
// Indexes in `control`; a slot's state and the length of its compressed block follow from SLOTS on.
const NEXT = 0;
const WRITTEN = 1;
const FAILED = 2;
const SLOTS = 3;

export function diffLayer({ upper, base, whole, target }: DiffArgs, context: TaskContext): DiffOutput {
  const source = { upper: bytesOf(upper), base: base === undefined ? undefined : bytesOf(base), whole };
  const plan = planLayer(source, openSys(), context.aborted);
  if (target.compression !== 'uncompressed' && plan.sizeBytes > SMALL_BYTES) return { plan };
  return { packed: packAlone(plan, target, context) };
}

/** A blob that is a file already, in another compression. */
export const planOfFile = ({ path, sizeBytes }: { readonly path: string; readonly sizeBytes: number }): StreamPlan =>
  planFile(bytesOf(path), sizeBytes);

export function shareBlocks(compression: Compression, level: number | undefined, threads: number): SharedBlocks {
  const codec = codecOf(compression, level);
  const slots = threads * 2 + 2;
  return {
    control: new SharedArrayBuffer((SLOTS + 2 * slots) * 4),
    blocks: new SharedArrayBuffer(slots * (codec.blockBytes + codec.maxOutput)),
    slots,
  };
}

/** Tells everybody who packs that it has failed. */
export function giveUp({ control }: SharedBlocks): void {
  const words = new Int32Array(control);
  Atomics.store(words, FAILED, 1);
  Atomics.notify(words, WRITTEN);
}

function packAlone(plan: StreamPlan, target: Target, context: TaskContext): Packed {
  const shared = shareBlocks(target.compression, target.level, 0);
  return packLead({ plan, target, shared }, context);
}

/** Writes `target.path`, which is removed again when this fails. */
export function packLead(args: PackArgs, context: TaskContext): Packed {
  const work = new BlockWork(args);
  const output = new BlobOutput(args.target.path, work.codec);
  try {
    output.write(work.codec.head);
    for (let written = 0; written < work.total; ) {
      if (context.aborted()) throw cancelled();
      if (work.failed) throw new BuildError('internal', 'a thread that helped to pack the layer failed');
      const ready = work.ready(written);
      if (ready !== undefined) {
        output.block(ready.raw, ready.compressed);
        written += 1;
        work.release(written);
      } else if (!work.doNext()) work.waitFor(written);
    }
    return { ...output.finish(args.plan.sizeBytes), entries: args.plan.entries };
  } catch (error) {
    work.fail();
    output.discard();
    throw error;
  }
}

/** Compresses blocks until none is left or the lead gives up. */
export function packHelper(args: PackArgs, context: TaskContext): null {
  const work = new BlockWork(args);
  try {
    while (!work.failed && !work.allTaken) {
      if (context.aborted()) return null;
      if (!work.doNext()) work.waitForRoom();
    }
    return null;
  } catch (error) {
    work.fail();
    throw error;
  }
}

class BlockWork {
  readonly codec: Codec;
  readonly total: number;
  readonly #plan: StreamPlan;
  readonly #reader: StreamReader;
  readonly #control: Int32Array;
  readonly #shared: SharedBlocks;

  constructor({ plan, target, shared }: PackArgs) {
    this.codec = codecOf(target.compression, target.level);
    this.total = Math.max(1, Math.ceil(plan.sizeBytes / this.codec.blockBytes));
    this.#plan = plan;
    this.#reader = new StreamReader(plan);
    this.#control = new Int32Array(shared.control);
    this.#shared = shared;
  }

  get failed(): boolean {
    return Atomics.load(this.#control, FAILED) === 1;
  }
  fail(): void {
    giveUp(this.#shared);
  }
  get allTaken(): boolean {
    return Atomics.load(this.#control, NEXT) >= this.total;
  }

  /** Takes the next block, if there is a free slot for it, and compresses it into the slot. */
  doNext(): boolean {
    const block = this.#take();
    if (block === undefined) return false;
    const slot = block % this.#shared.slots;
    const offset = block * this.codec.blockBytes;
    const raw = this.#raw(slot, Math.min(this.codec.blockBytes, this.#plan.sizeBytes - offset));
    this.#reader.read(raw, offset);
    let length = 0;
    if (this.codec.maxOutput > 0) {
      const compressed = this.codec.compress(raw, block === this.total - 1);
      length = compressed.length;
      if (length > this.codec.maxOutput) throw new BuildError('internal', `a block of ${raw.length} bytes became ${length}`);
      compressed.copy(this.#output(slot, length));
    }
    Atomics.store(this.#control, SLOTS + this.#shared.slots + slot, length);
    Atomics.store(this.#control, SLOTS + slot, block + 1);
    Atomics.notify(this.#control, SLOTS + slot);
    return true;
  }

  #take(): number | undefined {
    while (true) {
      const next = Atomics.load(this.#control, NEXT);
      if (next >= this.total || next - Atomics.load(this.#control, WRITTEN) >= this.#shared.slots) return undefined;
      if (Atomics.compareExchange(this.#control, NEXT, next, next + 1) === next) return next;
    }
  }

  ready(block: number): { readonly raw: Buffer; readonly compressed: Buffer } | undefined {
    const slot = block % this.#shared.slots;
    if (Atomics.load(this.#control, SLOTS + slot) !== block + 1) return undefined;
    const raw = this.#raw(slot, Math.min(this.codec.blockBytes, this.#plan.sizeBytes - block * this.codec.blockBytes));
    if (this.codec.maxOutput === 0) return { raw, compressed: raw };
    return { raw, compressed: this.#output(slot, Atomics.load(this.#control, SLOTS + this.#shared.slots + slot)) };
  }

  /** Everything before block `written` has left its slot. */
  release(written: number): void {
    Atomics.store(this.#control, WRITTEN, written);
    Atomics.notify(this.#control, WRITTEN);
  }

  /** The lead: until a helper has finished the block. */
  waitFor(block: number): void {
    const slot = SLOTS + (block % this.#shared.slots);
    const state = Atomics.load(this.#control, slot);
    if (state !== block + 1) Atomics.wait(this.#control, slot, state, WAIT_MS);
  }

  /** A helper: until the lead has written something. */
  waitForRoom(): void {
    Atomics.wait(this.#control, WRITTEN, Atomics.load(this.#control, WRITTEN), WAIT_MS);
  }

  #raw(slot: number, length: number): Buffer {
    return Buffer.from(this.#shared.blocks, slot * this.codec.blockBytes, length);
  }
  #output(slot: number, length: number): Buffer {
    const outputs = this.#shared.slots * this.codec.blockBytes;
    return Buffer.from(this.#shared.blocks, outputs + slot * this.codec.maxOutput, length);
  }
}

class BlobOutput {
  readonly #path: string;
  readonly #codec: Codec;
  readonly #fd: number;
  readonly #rawHash = createHash('sha256');
  readonly #hash = createHash('sha256');
  #crc = 0;
  #size = 0;
  #open = true;

  constructor(path: string, codec: Codec) {
    this.#path = path;
    this.#codec = codec;
    this.#fd = openSync(path, 'wx', 0o644);
  }

  block(raw: Buffer, compressed: Buffer): void {
    this.#rawHash.update(raw);
    if (this.#codec.needsCrc) this.#crc = updateCrc(raw, this.#crc);
    this.write(compressed);
  }

  write(bytes: Buffer): void {
    if (this.#codec.maxOutput > 0) this.#hash.update(bytes);
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
    this.#size += bytes.length;
  }

  finish(rawBytes: number): Omit<Packed, 'entries'> {
    this.write(this.#codec.tail(this.#crc, rawBytes));
    this.#close();
    const diffId = digestFromHex(this.#rawHash.digest('hex'));
    const digest = this.#codec.maxOutput > 0 ? digestFromHex(this.#hash.digest('hex')) : diffId;
    return { digest, sizeBytes: this.#size, diffId: diffIdOf(diffId) };
  }

  discard(): void {
    this.#close();
    unlinkSync(this.#path);
  }

  #close(): void {
    if (this.#open) closeSync(this.#fd);
    this.#open = false;
  }
}
