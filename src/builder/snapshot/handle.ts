/** A reference to a committed snapshot, and a snapshot being made. */
import type { CacheDigest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { SnapshotCore } from './core.ts';
import type { Layer, LayerOptions, MutableSnapshot, RecordOptions, Selector, Snapshot, View } from './ports.ts';
import type { SnapshotRecord } from './records.ts';

/** What handles ask of the store beyond its core. */
export interface HandleServices {
  layersOf(record: SnapshotRecord, options: LayerOptions): Promise<readonly Layer[]>;
  checksumOf(record: SnapshotRecord, selectors: readonly Selector[], signal: AbortSignal): Promise<CacheDigest>;
}

export class SnapshotHandle implements Snapshot {
  readonly id: string;
  readonly #core: SnapshotCore;
  readonly #services: HandleServices;
  readonly #record: SnapshotRecord;
  #held = true;

  constructor(core: SnapshotCore, services: HandleServices, record: SnapshotRecord) {
    this.id = record.id;
    this.#core = core;
    this.#services = services;
    this.#record = record;
    core.hold(record);
  }

  clone(): Snapshot {
    return new SnapshotHandle(this.#core, this.#services, this.record);
  }

  /** @throws BuildError `internal` after disposal: what it named may be gone. */
  get record(): SnapshotRecord {
    if (!this.#held) throw new BuildError('internal', `snapshot ${this.id} was used after it was released`);
    return this.#record;
  }

  chain(): readonly string[] {
    return this.#core.chainOf(this.record);
  }

  async view(): Promise<View> {
    const { record } = this;
    const view = this.#core.views.open(this.#core.chainOf(record));
    this.#core.hold(record); // the view outlives this handle
    let open = true;
    return {
      dir: view.dir,
      [Symbol.asyncDispose]: async () => {
        if (!open) return;
        open = false;
        await view[Symbol.asyncDispose]();
        this.#core.release(record);
      },
    };
  }

  async layers(options: LayerOptions): Promise<readonly Layer[]> {
    const { record } = this;
    return await this.#core.holding(record, () => this.#services.layersOf(record, options));
  }

  async checksum(selectors: readonly Selector[], signal: AbortSignal): Promise<CacheDigest> {
    const { record } = this;
    return await this.#core.holding(record, () => this.#services.checksumOf(record, selectors, signal));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#held) return;
    this.#held = false;
    this.#core.release(this.#record);
  }
}

/** prepared ─mount─► mounted ─commit─► committed (a row, a Snapshot);  any ─dispose─► removed, unless committed */
export class WritableSnapshot implements MutableSnapshot {
  readonly id: string;
  readonly #core: SnapshotCore;
  readonly #services: HandleServices;
  readonly #parent: SnapshotRecord | undefined;
  readonly #options: RecordOptions;
  #mounted: string | undefined;
  #done = false;

  /** The directories exist; `parent` is held from now until commit or disposal. */
  constructor(
    core: SnapshotCore,
    services: HandleServices,
    id: string,
    parent: SnapshotRecord | undefined,
    options: RecordOptions,
  ) {
    this.id = id;
    this.#core = core;
    this.#services = services;
    this.#parent = parent;
    this.#options = options;
    if (parent !== undefined) core.hold(parent);
  }

  /** Only while nothing is mounted: overlayfs does not expect its upper directory to change under it. */
  get layer(): string | undefined {
    const hidden = this.#done || this.#mounted !== undefined || this.#core.trees.kind !== 'overlay';
    return hidden ? undefined : this.#core.trees.treeOf(this.id);
  }

  get changes(): string {
    return this.#core.trees.treeOf(this.id);
  }

  get below(): readonly string[] {
    return this.#core.chainOf(this.#parent).map((id) => this.#core.trees.treeOf(id));
  }

  async mount(): Promise<string> {
    if (this.#done) throw new BuildError('internal', `snapshot ${this.id} was mounted after its end`);
    this.#mounted ??= this.#core.trees.mountWritable(this.id, this.#core.chainOf(this.#parent));
    return this.#mounted;
  }

  async commit(): Promise<Snapshot> {
    this.#end();
    const { description, recordType = 'regular', createdAtNs = this.#core.clock.nowNs() } = this.#options;
    const record = this.#core.add({
      id: this.id,
      parent: this.#parent,
      kind: 'committed',
      description,
      recordType,
      createdAtNs,
    });
    this.#core.records.markUsed(record, this.#core.clock.nowNs());
    return new SnapshotHandle(this.#core, this.#services, record);
  }

  #end(): void {
    if (this.#done) throw new BuildError('internal', `snapshot ${this.id} was committed or removed before`);
    this.#done = true;
    this.#core.trees.unmountWritable(this.id);
    if (this.#parent !== undefined) this.#core.release(this.#parent);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#done) return;
    this.#end();
    void this.#core.discard(this.id);
  }
}
