/**
 * Directories with a name that outlive builds: the last state of a local source, a cache mount. Each is a snapshot that is never
 * committed; freezing one makes a tree of hard links beside it.
 */
import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { abortable } from '../../core/abort.ts';
import { BuildError } from '../../core/errors.ts';
import { taskRef } from '../../core/worker-pool.ts';
import { codeOf } from '../worker/sys/sys-error.ts';
import type { FreezeArgs, FreezeOutput } from './checksum/freeze-task.ts';
import type { SnapshotCore } from './core.ts';
import { type HandleServices, SnapshotHandle } from './handle.ts';
import type { NamedDirectory, ReceivedChanges, RecordOptions, Snapshot } from './ports.ts';
import type { SnapshotRecord } from './records.ts';

const freezeTask = taskRef<FreezeArgs, FreezeOutput>(new URL('./checksum/freeze-task.ts', import.meta.url), 'freezeTree');

export type Sharing = 'shared' | 'private' | 'locked';
export type NamedOptions = RecordOptions & { readonly parent?: Snapshot; readonly fresh?: boolean; readonly signal: AbortSignal };

/** A named directory that somebody holds. */
interface Holding {
  readonly record: SnapshotRecord;
  readonly dir: string;
  readonly shared: boolean;
  holders: number;
  /** The last frozen state: it equals the content but for what the transfer going on reports. */
  frozen: SnapshotRecord | undefined;
  /** True once this holding froze the directory. A transfer that broke off leaves changes nobody knows of. */
  settled: boolean;
}

export class NamedDirectories {
  readonly #core: SnapshotCore;
  readonly #services: HandleServices;
  readonly #held = new Map<SnapshotRecord, Holding>();
  /** The last frozen state of directories nobody holds at the moment. */
  readonly #frozen = new Map<SnapshotRecord, SnapshotRecord>();
  /** First directories of a name that are being made: who comes meanwhile waits, or there would be two. */
  readonly #making = new Map<string, Promise<void>>();
  /** Woken whenever a directory of the name becomes free. */
  readonly #waiting = new Map<string, Set<() => void>>();

  constructor(core: SnapshotCore, services: HandleServices) {
    this.#core = core;
    this.#services = services;
    this.#restoreFrozen();
  }

  async open(key: string, sharing: Sharing, options: NamedOptions): Promise<NamedDirectory> {
    const name = nameOf(key);
    if (options.fresh === true) this.#rename(name);
    while (true) {
      const making = sharing === 'private' ? undefined : this.#making.get(name);
      if (making !== undefined) {
        await abortable(making, options.signal);
        continue;
      }
      const all = this.#core.records.named(name).filter((record) => this.#exists(record));
      const joined = sharing === 'shared' ? all.find((record) => this.#held.get(record)?.shared === true) : undefined;
      const free = all.find((record) => !this.#held.has(record));
      if (joined !== undefined || free !== undefined) return this.#hold(joined ?? (free as SnapshotRecord), sharing);
      if (sharing !== 'locked' || all.length === 0) return await this.#createFirst(name, sharing, options);
      await this.#freed(name, options.signal);
    }
  }

  /** True while somebody holds the directory. */
  isHeld(record: SnapshotRecord): boolean {
    return this.#held.has(record);
  }

  /** The directory that a frozen state is of; undefined for any other record, or when it is gone. */
  directoryOf(record: SnapshotRecord): SnapshotRecord | undefined {
    return record.name?.startsWith(FROZEN) ? this.#core.records.get(record.name.slice(FROZEN.length)) : undefined;
  }

  /** A named directory is about to be removed. */
  forget(record: SnapshotRecord): void {
    this.#supersede(this.#frozen.get(record));
    this.#frozen.delete(record);
  }

  /** Frozen states of an earlier run: those that still equal their directory serve on, the others serve nobody. */
  #restoreFrozen(): void {
    for (const record of [...this.#core.records.all()]) {
      const frozen = record.kind === 'committed' && (record.recordType === 'source.local' || record.name !== undefined);
      if (!frozen) continue;
      const directory = this.#core.records.get(record.name?.slice(FROZEN.length) ?? '');
      if (directory !== undefined && existsSync(digestFile(this.#core, directory.id))) this.#frozen.set(directory, record);
      else this.#supersede(record);
    }
  }

  /** Each transfer that changed something makes a new frozen state; the one before goes when the builds that use it are done. */
  #supersede(frozen: SnapshotRecord | undefined): void {
    if (frozen === undefined || this.#core.records.get(frozen.id) !== frozen) return;
    frozen.expendable = true;
    this.#core.records.rename(frozen, undefined);
    this.#core.forgetUnused(frozen);
  }

  /** Takes the name from the directories that have it; they go when their holders do. */
  #rename(name: string): void {
    for (const record of this.#core.records.named(name)) {
      this.#core.records.rename(record, undefined);
      if (this.#held.has(record)) continue;
      this.forget(record);
      this.#core.forget(record);
    }
  }

  #exists(record: SnapshotRecord): boolean {
    if (existsSync(this.#core.trees.treeOf(record.id))) return true;
    if (!this.#held.has(record)) this.#core.forget(record);
    return false;
  }

  async #createFirst(name: string, sharing: Sharing, options: NamedOptions): Promise<NamedDirectory> {
    if (this.#making.has(name)) return await this.#create(name, sharing, options);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#making.set(name, promise);
    try {
      return await this.#create(name, sharing, options);
    } finally {
      this.#making.delete(name);
      resolve();
    }
  }

  async #create(name: string, sharing: Sharing, options: NamedOptions): Promise<NamedDirectory> {
    const { description, recordType = 'regular', createdAtNs = this.#core.clock.nowNs() } = options;
    const parent = options.parent === undefined ? undefined : this.#core.records.get(options.parent.id ?? '');
    if (options.parent !== undefined && parent === undefined)
      throw new BuildError('internal', `snapshot ${options.parent.id} is gone`);
    const id = this.#core.newId();
    if (parent !== undefined) this.#core.hold(parent);
    try {
      await this.#core.trees.create(id, this.#core.chainOf(parent), options.signal);
      const record = this.#core.add({ id, parent, kind: 'named', description, recordType, createdAtNs, name });
      return this.#hold(record, sharing);
    } catch (error) {
      void this.#core.discard(id);
      throw error;
    } finally {
      if (parent !== undefined) this.#core.release(parent);
    }
  }

  #hold(record: SnapshotRecord, sharing: Sharing): NamedDirectory {
    let holding = this.#held.get(record);
    if (holding === undefined) {
      const dir = this.#core.trees.mountWritable(record.id, this.#core.chainOf(record.parent));
      holding = { record, dir, shared: sharing === 'shared', holders: 0, frozen: this.#frozen.get(record), settled: false };
      this.#frozen.delete(record);
      this.#moveDigests(record, digestFile, openDigestFile);
      this.#held.set(record, holding);
    }
    holding.holders += 1;
    this.#core.hold(record);
    this.#core.records.markUsed(record, this.#core.clock.nowNs());
    const held = holding;
    let open = true;
    return {
      id: record.id,
      dir: held.dir,
      snapshot: (options) => this.#freeze(held, options),
      [Symbol.asyncDispose]: async () => {
        if (open) this.#release(held);
        open = false;
      },
    };
  }

  #release(holding: Holding): void {
    const { record } = holding;
    this.#core.release(record);
    holding.holders -= 1;
    if (holding.holders > 0) return;
    this.#core.trees.unmountWritable(record.id);
    this.#held.delete(record);
    if (holding.settled) {
      if (holding.frozen !== undefined) this.#frozen.set(record, holding.frozen);
      this.#moveDigests(record, openDigestFile, digestFile);
    } else this.#supersede(holding.frozen);
    const { name } = record;
    if (name === undefined) {
      this.forget(record);
      this.#core.forget(record); // its name went to a fresh directory meanwhile
      return;
    }
    this.#core.records.setSize(record, undefined);
    for (const wake of this.#waiting.get(name) ?? []) wake();
  }

  #moveDigests(record: SnapshotRecord, from: typeof digestFile, to: typeof digestFile): void {
    try {
      renameSync(from(this.#core, record.id), to(this.#core, record.id));
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error;
    }
  }

  async #freed(name: string, signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const others = this.#waiting.get(name) ?? new Set();
    this.#waiting.set(name, others.add(resolve));
    try {
      await abortable(promise, signal);
    } finally {
      others.delete(resolve);
      if (others.size === 0) this.#waiting.delete(name);
    }
  }

  /** Without `received` nobody knows what changed, so the tree is linked anew and digests are taken where metadata still agree. */
  async #freeze(holding: Holding, options: RecordOptions & { readonly received?: ReceivedChanges }): Promise<Snapshot> {
    const { description, recordType = 'regular', createdAtNs = this.#core.clock.nowNs(), received } = options;
    const last = holding.frozen === undefined ? undefined : this.#core.find(holding.frozen.id);
    if (received?.changed === 0 && last !== undefined) {
      holding.settled = true;
      return new SnapshotHandle(this.#core, this.#services, last);
    }
    this.#supersede(holding.frozen);
    holding.frozen = undefined;
    const id = this.#core.newId();
    try {
      await this.#core.trees.create(id, [], this.#core.stopping);
      await this.#core.pool.run(
        freezeTask,
        {
          from: holding.dir,
          to: this.#core.trees.treeOf(id),
          digests: digestFile(this.#core, id),
          known: openDigestFile(this.#core, holding.record.id),
          received: received?.digests,
        },
        { signal: this.#core.stopping },
      );
    } catch (error) {
      void this.#core.discard(id);
      throw error;
    }
    const name = received === undefined ? {} : { name: FROZEN + holding.record.id };
    const record = this.#core.add({ id, parent: undefined, kind: 'committed', description, recordType, createdAtNs, ...name });
    this.#core.records.markUsed(record, this.#core.clock.nowNs());
    holding.settled = true;
    if (received === undefined) record.expendable = true;
    else holding.frozen = record;
    return new SnapshotHandle(this.#core, this.#services, record);
  }
}

const FROZEN = 'frozen:';
const nameOf = (key: string): string => `key:${key}`;

/** Remembered content digests of a snapshot's tree. */
export const digestFile = (core: SnapshotCore, id: string): string => digestFileIn(core.dir, id);
/** `dir`: where snapshots are. */
export const digestFileIn = (dir: string, id: string): string => join(dir, id, 'digests');
/** Of a named directory while somebody may write to it; one found under this name at start is of a transfer that broke off. */
const openDigestFile = (core: SnapshotCore, id: string): string => `${digestFile(core, id)}.open`;
