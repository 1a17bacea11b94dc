/**
 * Layers to snapshots. With overlayfs a layer's tree does not depend on those below, so all that are missing are unpacked side by side
 * and then become snapshots in order; whole trees are made one on top of the other.
 */
import { type ChainId, chainIdsOf, type DiffId, type Digest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import { taskRef } from '../../core/worker-pool.ts';
import type { SnapshotCore } from './core.ts';
import { Flights } from './flights.ts';
import type { ApplyArgs, ApplyOutput } from './layer/apply-task.ts';
import type { SettleArgs } from './layer/settle-task.ts';
import { needsSettling } from './layer/tree-writer.ts';
import type { Compression, RecordOptions, UnpackLayer } from './ports.ts';
import type { SnapshotRecord } from './records.ts';

const applyTask = taskRef<ApplyArgs, ApplyOutput>(new URL('./layer/apply-task.ts', import.meta.url), 'applyLayer');
const settleTask = taskRef<SettleArgs, null>(new URL('./layer/settle-task.ts', import.meta.url), 'settleLayer');

export type UnpackOptions = RecordOptions & {
  readonly signal: AbortSignal;
  readonly onLayer?: (digest: Digest, state: 'start' | 'done') => void;
};

export class Unpacker {
  readonly #core: SnapshotCore;
  readonly #flights = new Flights<SnapshotRecord>();

  constructor(core: SnapshotCore) {
    this.#core = core;
  }

  /** The record of the unpacked stack, held once for the caller. */
  async find(diffIds: readonly DiffId[]): Promise<SnapshotRecord | undefined> {
    const chainId = chainIdsOf(diffIds).at(-1);
    return chainId === undefined ? undefined : this.#existing(chainId);
  }

  /** Unpacks what is missing of at least one layer; the record comes held once for the caller. */
  async unpack(layers: readonly UnpackLayer[], options: UnpackOptions): Promise<SnapshotRecord> {
    const chainIds = chainIdsOf(layers.map(({ diffId }) => diffId));
    using lease = this.#core.content.lease();
    for (const { descriptor } of layers) lease.add(descriptor.digest);
    let below: Promise<SnapshotRecord> | undefined;
    const pending: Promise<SnapshotRecord>[] = [];
    for (const [index, layer] of layers.entries()) {
      below = this.#one(chainIds[index] as ChainId, layer, below, options);
      below.catch(() => {}); // the one that is awaited last tells
      pending.push(below);
    }
    const outcomes = await Promise.allSettled(pending);
    const failure = outcomes.find((outcome) => outcome.status === 'rejected');
    const records = outcomes.filter((outcome) => outcome.status === 'fulfilled').map(({ value }) => value);
    for (const record of failure === undefined ? records.slice(0, -1) : records) this.#core.release(record);
    if (failure !== undefined) throw BuildError.from(failure.reason);
    return records.at(-1) as SnapshotRecord;
  }

  #existing(chainId: ChainId): SnapshotRecord | undefined {
    const record = this.#core.records.ofChain(chainId);
    return record === undefined ? undefined : this.#core.find(record.id);
  }

  async #one(
    chainId: ChainId,
    layer: UnpackLayer,
    below: Promise<SnapshotRecord> | undefined,
    options: UnpackOptions,
  ): Promise<SnapshotRecord> {
    const existing = this.#existing(chainId);
    if (existing !== undefined) {
      this.#core.hold(existing);
      return existing;
    }
    options.onLayer?.(layer.descriptor.digest, 'start');
    const record = await this.#flights.join(chainId, options.signal, (signal) =>
      this.#make(chainId, layer, below, options, signal),
    );
    options.onLayer?.(layer.descriptor.digest, 'done');
    this.#core.hold(record); // nothing runs between the flight's end and here that could remove it: see #make
    return record;
  }

  async #make(
    chainId: ChainId,
    layer: UnpackLayer,
    below: Promise<SnapshotRecord> | undefined,
    options: RecordOptions,
    signal: AbortSignal,
  ): Promise<SnapshotRecord> {
    const { trees, pool } = this.#core;
    const id = this.#core.newId();
    try {
      let parent: SnapshotRecord | undefined;
      if (trees.kind === 'native') parent = await below;
      await trees.create(id, this.#core.chainOf(parent), signal);
      const unsettled = await this.#apply(id, layer, below !== undefined, signal);
      parent = await below;
      if (needsSettling(unsettled)) {
        const lowers =
          trees.kind === 'native'
            ? []
            : this.#core
                .chainOf(parent)
                .map((lower) => trees.treeOf(lower))
                .reverse();
        await pool.run(settleTask, { ...unsettled, root: trees.treeOf(id), lowers }, { signal });
      }
      return this.#commit(id, parent, chainId, layer, options);
    } catch (error) {
      await this.#core.discard(id);
      throw error;
    }
  }

  async #apply(id: string, { descriptor, diffId }: UnpackLayer, hasLower: boolean, signal: AbortSignal): Promise<ApplyOutput> {
    const { content, trees, pool, limits } = this.#core;
    if ((await content.info(descriptor.digest)) === undefined)
      throw new BuildError('not-found', `layer ${descriptor.digest} is not in the content store`);
    const args: ApplyArgs = {
      blob: content.path(descriptor.digest),
      digest: descriptor.digest,
      diffId,
      maxBytes: limits.maxLayerBytes,
      maxEntries: limits.maxLayerEntries,
      root: trees.treeOf(id),
      form: trees.kind === 'native' ? 'whole' : 'overlay',
      hasLower,
    };
    try {
      return await pool.run(applyTask, args, { signal });
    } catch (error) {
      // The blob may be whole and the manifest wrong; then it is fetched again and found whole again, which costs time but no truth.
      if (error instanceof BuildError && error.kind === 'corrupt') await content.quarantine(descriptor.digest);
      throw BuildError.from(error).wrap(`failed to extract layer ${descriptor.digest}`);
    }
  }

  /** Held for a turn of the event loop, in which all who waited for it take their own hold. */
  #commit(
    id: string,
    parent: SnapshotRecord | undefined,
    chainId: ChainId,
    layer: UnpackLayer,
    options: RecordOptions,
  ): SnapshotRecord {
    const { records, clock } = this.#core;
    const { descriptor, diffId } = layer;
    const { recordType = 'regular' } = options;
    const description = layer.description ?? options.description;
    const createdAtNs = layer.createdAtNs ?? options.createdAtNs ?? clock.nowNs();
    const record = this.#core.add({ id, parent, kind: 'committed', description, recordType, createdAtNs, chainId });
    this.#core.leaseBlob(record, descriptor.digest);
    records.addBlob(record, {
      digest: descriptor.digest,
      diffId,
      sizeBytes: descriptor.size,
      mediaType: descriptor.mediaType,
      compression: compressionOf(descriptor.mediaType),
    });
    records.markUsed(record, clock.nowNs());
    this.#core.hold(record);
    setImmediate(() => this.#core.release(record));
    return record;
  }
}

/** By media type suffix: OCI's `+gzip`, `+zstd`, Docker's `.gzip`; all others are plain tar. */
function compressionOf(mediaType: string): Compression {
  if (/[+.]gzip$/.test(mediaType)) return 'gzip';
  return /[+.]zstd$/.test(mediaType) ? 'zstd' : 'uncompressed';
}
