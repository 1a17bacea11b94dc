/** Layers of a snapshot as blobs: found where they were made before, made where they were not, converted where another form is asked for. */
import { rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { BuildError } from '../../core/errors.ts';
import { taskRef } from '../../core/worker-pool.ts';
import type { SnapshotCore } from './core.ts';
import { Flights } from './flights.ts';
import { MEDIA_TYPES } from './layer/codec.ts';
import type { InflateArgs, InflateOutput } from './layer/inflate-task.ts';
import {
  type DiffArgs,
  type DiffOutput,
  giveUp,
  type PackArgs,
  type Packed,
  planOfFile,
  shareBlocks,
  type Target,
} from './layer/pack-task.ts';
import type { StreamPlan } from './layer/plan.ts';
import type { Layer, LayerOptions } from './ports.ts';
import type { LayerBlob, SnapshotRecord } from './records.ts';

const packModule = new URL('./layer/pack-task.ts', import.meta.url);
const diffTask = taskRef<DiffArgs, DiffOutput>(packModule, 'diffLayer');
const leadTask = taskRef<PackArgs, Packed>(packModule, 'packLead');
const helperTask = taskRef<PackArgs, null>(packModule, 'packHelper');
const inflateTask = taskRef<InflateArgs, InflateOutput>(new URL('./layer/inflate-task.ts', import.meta.url), 'inflateBlob');

export class Layers {
  readonly #core: SnapshotCore;
  readonly #flights = new Flights<LayerBlob>();

  constructor(core: SnapshotCore) {
    this.#core = core;
  }

  /** Lowest first. The caller holds the record, and with it everything below. */
  async of(record: SnapshotRecord, options: LayerOptions): Promise<readonly Layer[]> {
    const stack: SnapshotRecord[] = [];
    for (let at: SnapshotRecord | undefined = record; at !== undefined; at = at.parent) stack.push(at);
    return await Promise.all(stack.reverse().map((each) => this.#layerOf(each, options)));
  }

  async #layerOf(record: SnapshotRecord, options: LayerOptions): Promise<Layer> {
    const { digest, diffId, sizeBytes, mediaType } = (await this.#find(record, options)) ?? (await this.#make(record, options));
    return {
      descriptor: { mediaType, digest, size: sizeBytes },
      diffId,
      createdAtNs: record.createdAtNs,
      description: record.description,
    };
  }

  /** A blob that is here and in a form that will do. Blobs that got lost are forgotten. */
  async #find(record: SnapshotRecord, { compression, force }: LayerOptions): Promise<LayerBlob | undefined> {
    for (const blob of [...record.blobs]) {
      if ((await this.#core.content.info(blob.digest)) === undefined) this.#core.records.dropBlob(record, blob);
    }
    const wanted = record.blobs.find((blob) => blob.compression === compression);
    return wanted ?? (force ? undefined : record.blobs[0]);
  }

  #make(record: SnapshotRecord, { compression, level, signal }: LayerOptions): Promise<LayerBlob> {
    return this.#flights.join(`${record.id} ${compression} ${level ?? ''}`, signal, (flight) =>
      this.#core.holding(record, () =>
        this.#makeBlob(record, { compression, level, path: this.#core.content.tempPath() }, flight),
      ),
    );
  }

  async #makeBlob(record: SnapshotRecord, target: Target, signal: AbortSignal): Promise<LayerBlob> {
    const packed = (await this.#convertAny(record, target, signal)) ?? (await this.#diff(record, target, signal));
    // Named before it is there, so that no collector can come between.
    this.#core.leaseBlob(record, packed.digest);
    await this.#core.content.adopt(target.path, packed.digest, packed.sizeBytes);
    const { digest, diffId, sizeBytes } = packed;
    const { compression } = target;
    const blob: LayerBlob = { digest, diffId, sizeBytes, mediaType: MEDIA_TYPES[compression], compression };
    this.#core.records.addBlob(record, blob);
    return blob;
  }

  /** Undefined when there is no blob to convert. One that turns out to be corrupt leaves the store, and its promise with it. */
  async #convertAny(record: SnapshotRecord, target: Target, signal: AbortSignal): Promise<Packed | undefined> {
    for (const blob of [...record.blobs]) {
      try {
        return await this.#convert(blob, target, signal);
      } catch (error) {
        if (!(error instanceof BuildError) || error.kind !== 'corrupt') throw error;
        await this.#core.content.quarantine(blob.digest);
        this.#core.records.dropBlob(record, blob);
      }
    }
    return undefined;
  }

  async #diff(record: SnapshotRecord, target: Target, signal: AbortSignal): Promise<Packed> {
    const { trees, pool } = this.#core;
    await using base = record.parent === undefined ? undefined : this.#core.views.open(this.#core.chainOf(record.parent));
    const args: DiffArgs = { upper: trees.treeOf(record.id), base: base?.dir, whole: trees.kind === 'native', target };
    const output = await pool.run(diffTask, args, { signal });
    return 'packed' in output ? output.packed : await this.#pack(output.plan, target, signal);
  }

  /** The lead and one helper per further core; helpers that get no thread in time find nothing left to do. */
  async #pack(plan: StreamPlan, target: Target, signal: AbortSignal): Promise<Packed> {
    const helpers = availableParallelism() - 1;
    const args: PackArgs = { plan, target, shared: shareBlocks(target.compression, target.level, helpers + 1) };
    const lead = this.#core.pool.run(leadTask, args, { signal });
    for (let n = 0; n < helpers; n += 1) this.#core.pool.run(helperTask, args, { signal }).catch(() => {}); // the lead fails with them
    try {
      return await lead;
    } catch (error) {
      giveUp(args.shared); // a lead whose thread died could not say so
      throw error;
    }
  }

  /** The same tar in another compression, so the diff id stays. */
  async #convert(blob: LayerBlob, target: Target, signal: AbortSignal): Promise<Packed> {
    const { content, pool, limits } = this.#core;
    const plainWanted = target.compression === 'uncompressed';
    const path = plainWanted ? target.path : content.tempPath();
    const source = { blob: content.path(blob.digest), digest: blob.digest, diffId: blob.diffId, maxBytes: limits.maxLayerBytes };
    const { digest, sizeBytes } = await pool.run(inflateTask, { ...source, path }, { signal });
    if (plainWanted) return { digest, sizeBytes, diffId: blob.diffId, entries: 0 };
    try {
      return await this.#pack(planOfFile({ path, sizeBytes }), target, signal);
    } finally {
      await rm(path, { force: true });
    }
  }
}
