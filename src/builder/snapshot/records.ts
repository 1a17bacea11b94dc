/**
 * What is known of each snapshot: rows in the metadata store, read whole at start, with maps in front. A row is written after its
 * directory is complete and deleted before the directory goes, so a crash leaves directories without rows (removed at start) and
 * never a row that lies.
 */
import type { ChainId, DiffId, Digest } from '../../core/digest.ts';
import type { Metadata, SqlRow } from '../metadata/ports.ts';
import type { Compression, RecordType } from './ports.ts';

/** A blob of a snapshot's own layer. */
export interface LayerBlob {
  readonly digest: Digest;
  readonly diffId: DiffId;
  readonly sizeBytes: number;
  readonly mediaType: string;
  readonly compression: Compression;
}

export interface SnapshotRecord {
  readonly id: string;
  readonly parent: SnapshotRecord | undefined;
  /** `named`: a directory that goes on changing (local source, cache mount). */
  readonly kind: 'committed' | 'named';
  readonly description: string;
  readonly recordType: RecordType;
  readonly createdAtNs: bigint;
  /** Layers of an image: the digest of the stack up to here, so that another image finds it. */
  readonly chainId: ChainId | undefined;
  /** What it is found by: named directories by their key, frozen states by their directory. Undefined once that names another. */
  name: string | undefined;
  lastUsedAtNs: bigint | undefined;
  usageCount: number;
  /** Disk use of its own tree; undefined until somebody asked. */
  sizeBytes: number | undefined;
  readonly blobs: LayerBlob[];
  /** Handles held in this process. */
  refs: number;
  /** Snapshots stored on top of it. */
  children: number;
  /** Nobody will ask for it again: it goes with its last handle. */
  expendable: boolean;
}

export type NewRecord = Pick<SnapshotRecord, 'id' | 'parent' | 'kind' | 'description' | 'recordType' | 'createdAtNs'> &
  Partial<Pick<SnapshotRecord, 'chainId' | 'name'>>;

const TABLES = [
  `create table if not exists snapshots (id text primary key, parent text, kind text not null, description text not null,
    record_type text not null, created_at_ns integer not null, last_used_at_ns integer, usage_count integer not null,
    size_bytes integer, chain_id text, name text) without rowid`,
  `create table if not exists snapshot_blobs (snapshot text not null, digest text not null, diff_id text not null,
    size_bytes integer not null, media_type text not null, compression text not null, primary key (snapshot, digest)) without rowid`,
];
const USE_WRITE_MS = 1000;

export class SnapshotRecords {
  readonly #metadata: Metadata;
  readonly #byId = new Map<string, SnapshotRecord>();
  readonly #byChain = new Map<ChainId, SnapshotRecord>();
  readonly #byName = new Map<string, Set<SnapshotRecord>>();
  /** How many records name a blob. */
  readonly #blobUsers = new Map<Digest, number>();
  /** Records whose use has not been written yet. */
  readonly #used = new Set<SnapshotRecord>();
  #usedTimer: NodeJS.Timeout | undefined;

  constructor(metadata: Metadata) {
    this.#metadata = metadata;
  }

  /** Reads everything. Rows whose parent is missing, or whose directory `exists` denies, are dropped, with what stands on them.
   *  Returns their ids. */
  async load(exists: (id: string) => boolean): Promise<readonly string[]> {
    await this.#metadata.define(TABLES);
    const rows = new Map((await this.#metadata.read('select * from snapshots', [])).map((row) => [String(row.id), row]));
    const dropped = new Set<string>();
    const settle = (id: string): SnapshotRecord | undefined => {
      const known = this.#byId.get(id);
      const row = rows.get(id);
      if (known !== undefined || row === undefined || dropped.has(id)) return known;
      const parent = row.parent === null ? undefined : settle(String(row.parent));
      if (!exists(id) || (row.parent !== null && parent === undefined)) {
        dropped.add(id);
        return undefined;
      }
      return this.#remember(recordOf(row, parent));
    };
    for (const id of rows.keys()) settle(id);
    for (const row of await this.#metadata.read('select * from snapshot_blobs', [])) {
      const record = this.#byId.get(String(row.snapshot));
      if (record === undefined) dropped.add(String(row.snapshot));
      else this.#rememberBlob(record, blobOf(row));
    }
    for (const id of dropped) this.#deleteRows(id);
    return [...dropped];
  }

  get(id: string): SnapshotRecord | undefined {
    return this.#byId.get(id);
  }
  all(): IterableIterator<SnapshotRecord> {
    return this.#byId.values();
  }
  ofChain(chainId: ChainId): SnapshotRecord | undefined {
    return this.#byChain.get(chainId);
  }
  named(name: string): readonly SnapshotRecord[] {
    return [...(this.#byName.get(name) ?? [])];
  }

  /** The snapshot's directory is complete: from now on it exists. */
  add(fresh: NewRecord): SnapshotRecord {
    const record: SnapshotRecord = {
      chainId: undefined,
      name: undefined,
      lastUsedAtNs: undefined,
      usageCount: 0,
      sizeBytes: undefined,
      blobs: [],
      refs: 0,
      children: 0,
      expendable: false,
      ...fresh,
    };
    this.#metadata.write(
      `insert into snapshots (id, parent, kind, description, record_type, created_at_ns, last_used_at_ns, usage_count, size_bytes,
        chain_id, name) values (?, ?, ?, ?, ?, ?, null, 0, null, ?, ?)`,
      [
        record.id,
        record.parent?.id ?? null,
        record.kind,
        record.description,
        record.recordType,
        record.createdAtNs,
        record.chainId ?? null,
        record.name ?? null,
      ],
    );
    return this.#remember(record);
  }

  /** Forgets a record nobody holds and nothing stands on. Returns the blobs that no other record names. */
  delete(record: SnapshotRecord): Digest[] {
    this.#byId.delete(record.id);
    this.#used.delete(record);
    if (record.chainId !== undefined && this.#byChain.get(record.chainId) === record) this.#byChain.delete(record.chainId);
    this.rename(record, undefined);
    if (record.parent !== undefined) record.parent.children -= 1;
    this.#deleteRows(record.id);
    return record.blobs.map(({ digest }) => digest).filter((digest) => this.#releaseBlob(digest));
  }

  addBlob(record: SnapshotRecord, blob: LayerBlob): void {
    if (record.blobs.some(({ digest }) => digest === blob.digest)) return;
    this.#rememberBlob(record, blob);
    this.#metadata.write(
      'insert or replace into snapshot_blobs (snapshot, digest, diff_id, size_bytes, media_type, compression) values (?, ?, ?, ?, ?, ?)',
      [record.id, blob.digest, blob.diffId, blob.sizeBytes, blob.mediaType, blob.compression],
    );
  }

  /** The blob is lost: its record must not promise it any longer. */
  dropBlob(record: SnapshotRecord, blob: LayerBlob): void {
    record.blobs.splice(record.blobs.indexOf(blob), 1);
    this.#releaseBlob(blob.digest);
    this.#metadata.write('delete from snapshot_blobs where snapshot = ? and digest = ?', [record.id, blob.digest]);
  }

  setSize(record: SnapshotRecord, sizeBytes: number | undefined): void {
    record.sizeBytes = sizeBytes;
    this.#metadata.write('update snapshots set size_bytes = ? where id = ?', [sizeBytes ?? null, record.id]);
  }

  rename(record: SnapshotRecord, name: string | undefined): void {
    if (record.name === name) return;
    if (record.name !== undefined) {
      const others = this.#byName.get(record.name);
      others?.delete(record);
      if (others?.size === 0) this.#byName.delete(record.name);
    }
    record.name = name;
    if (this.#byId.has(record.id)) this.#metadata.write('update snapshots set name = ? where id = ?', [name ?? null, record.id]);
  }

  /** Counts a use; many uses become one write a second later. */
  markUsed(record: SnapshotRecord, nowNs: bigint): void {
    record.lastUsedAtNs = nowNs;
    record.usageCount += 1;
    this.#used.add(record);
    if (this.#usedTimer !== undefined) return;
    this.#usedTimer = setTimeout(() => this.writeUses(), USE_WRITE_MS);
    this.#usedTimer.unref();
  }

  writeUses(): void {
    clearTimeout(this.#usedTimer);
    this.#usedTimer = undefined;
    for (const { lastUsedAtNs, usageCount, id } of this.#used) {
      this.#metadata.write('update snapshots set last_used_at_ns = ?, usage_count = ? where id = ?', [
        lastUsedAtNs ?? null,
        usageCount,
        id,
      ]);
    }
    this.#used.clear();
  }

  #remember(record: SnapshotRecord): SnapshotRecord {
    this.#byId.set(record.id, record);
    if (record.parent !== undefined) record.parent.children += 1;
    if (record.chainId !== undefined && !this.#byChain.has(record.chainId)) this.#byChain.set(record.chainId, record);
    if (record.name !== undefined) {
      const others = this.#byName.get(record.name);
      if (others === undefined) this.#byName.set(record.name, new Set([record]));
      else others.add(record);
    }
    return record;
  }

  #rememberBlob(record: SnapshotRecord, blob: LayerBlob): void {
    record.blobs.push(blob);
    this.#blobUsers.set(blob.digest, (this.#blobUsers.get(blob.digest) ?? 0) + 1);
  }

  /** True when nobody names the blob any more. */
  #releaseBlob(digest: Digest): boolean {
    const left = (this.#blobUsers.get(digest) ?? 1) - 1;
    if (left > 0) this.#blobUsers.set(digest, left);
    else this.#blobUsers.delete(digest);
    return left <= 0;
  }

  #deleteRows(id: string): void {
    this.#metadata.write('delete from snapshots where id = ?', [id]);
    this.#metadata.write('delete from snapshot_blobs where snapshot = ?', [id]);
  }
}

const optional = <T>(value: unknown, convert: (value: unknown) => T): T | undefined =>
  value === null || value === undefined ? undefined : convert(value);

function recordOf(row: SqlRow, parent: SnapshotRecord | undefined): SnapshotRecord {
  return {
    id: String(row.id),
    parent,
    kind: row.kind === 'named' ? 'named' : 'committed',
    description: String(row.description),
    recordType: String(row.record_type) as RecordType,
    createdAtNs: BigInt(row.created_at_ns as number | bigint),
    chainId: optional(row.chain_id, (value) => String(value) as ChainId),
    name: optional(row.name, String),
    lastUsedAtNs: optional(row.last_used_at_ns, (value) => BigInt(value as number | bigint)),
    usageCount: Number(row.usage_count),
    sizeBytes: optional(row.size_bytes, Number),
    blobs: [],
    refs: 0,
    children: 0,
    expendable: false,
  };
}

function blobOf(row: SqlRow): LayerBlob {
  return {
    digest: String(row.digest) as Digest,
    diffId: String(row.diff_id) as DiffId,
    sizeBytes: Number(row.size_bytes),
    mediaType: String(row.media_type),
    compression: String(row.compression) as Compression,
  };
}
