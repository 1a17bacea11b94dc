/**
 * Finished builds: one record each (`BuildHistoryRecord`), with the status log, the trace and the full error as blobs in the content
 * store, kept from collection by a lease per record. Lifecycle and listening order: buildkit-wire.md section 8.
 */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { Clock } from '../../core/clock.ts';
import { type Digest, parseDigest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { ContentStore, Lease } from '../content/ports.ts';
import type { BuildResult } from '../events.ts';
import type { Metadata } from '../metadata/ports.ts';
import {
  type BuildHistoryEvent,
  BuildHistoryEventSchema,
  BuildHistoryEventType,
  type BuildHistoryRecord,
  BuildHistoryRecordSchema,
  type Descriptor,
  DescriptorSchema,
} from '../proto/gen/moby/buildkit/v1/control_pb.ts';
import { compileHistoryFilter } from './history-filter.ts';
import { resultOfStatus } from './result-of-status.ts';
import { nsOfTimestamp } from './status-log.ts';

export const LOGS_MEDIA_TYPE = 'application/vnd.buildkit.status.v0';
export const TRACE_MEDIA_TYPE = 'application/vnd.buildkit.otlp.json.v0';
/** Spelt so by the contract. */
export const ERROR_MEDIA_TYPE = 'application/vnd.googeapis.google.rpc.status+proto';

/** A record goes only when it is both older than `maxAgeNs` and outside the newest `maxEntries`; pinned ones stay. */
export interface Retention {
  readonly maxAgeNs: bigint;
  readonly maxEntries: number;
}
export interface HistoryQuery {
  readonly activeOnly: boolean;
  readonly ref: string;
  readonly earlyExit: boolean;
  readonly filter: readonly string[];
  /** 0 is no limit; N > 0 gives the N newest, newest first. */
  readonly limit: number;
}
/** What we keep of a build beside BuildKit's record, as JSON. */
export type NoteKind = 'resources' | 'trigger' | 'reproducibility' | 'recipe' | 'result';
type Listener = (event: BuildHistoryEvent) => void;
interface Stored {
  record: BuildHistoryRecord;
  /** Undefined for a record of an older daemon. */
  readonly result: BuildResult | undefined;
  readonly lease: Lease;
}

const never = new AbortController().signal;

export async function openHistory(options: {
  readonly metadata: Metadata;
  readonly content: ContentStore;
  readonly clock: Clock;
  readonly retention: Retention;
  /** A record is gone, with what belongs to it. */
  readonly onDeleted?: (ref: string) => void;
}): Promise<History> {
  await options.metadata.define([
    'create table if not exists history (ref text primary key, record blob not null)',
    'create table if not exists history_notes (ref text not null, kind text not null, body text not null, primary key (ref, kind))',
  ]);
  const history = new History(options);
  const rows = await options.metadata.read(
    "select h.record, n.body as result from history h left join history_notes n on n.ref = h.ref and n.kind = 'result'",
    [],
  );
  for (const { record, result } of rows)
    history.restore(
      fromBinary(BuildHistoryRecordSchema, record as Uint8Array),
      result === null ? undefined : (JSON.parse(String(result)) as BuildResult),
    );
  return history;
}

export class History {
  readonly #metadata: Metadata;
  readonly #content: ContentStore;
  readonly #clock: Clock;
  readonly #retention: Retention;
  readonly #onDeleted: (ref: string) => void;
  readonly #active = new Map<string, BuildHistoryRecord>();
  readonly #stored = new Map<string, Stored>();
  readonly #listeners = new Set<Listener>();
  /** What to wait for before a record counts as final: the trace of a build that has just ended. */
  readonly #finalizers = new Map<string, () => Promise<void>>();

  constructor(options: {
    readonly metadata: Metadata;
    readonly content: ContentStore;
    readonly clock: Clock;
    readonly retention: Retention;
    readonly onDeleted?: (ref: string) => void;
  }) {
    this.#metadata = options.metadata;
    this.#content = options.content;
    this.#clock = options.clock;
    this.#retention = options.retention;
    this.#onDeleted = options.onDeleted ?? (() => {});
  }

  /** A record read at start-up. */
  restore(record: BuildHistoryRecord, result: BuildResult | undefined): void {
    this.#stored.set(record.Ref, { record, result, lease: this.#leaseOf(record) });
  }

  started(record: BuildHistoryRecord): void {
    this.#active.set(record.Ref, record);
    this.#emit(BuildHistoryEventType.STARTED, record);
  }

  /** Stores the finished record; resolves once it survives kill -9. `attachTrace` is run up to `delayMs` later, or at once on finalize. */
  async completed(
    record: BuildHistoryRecord,
    result: BuildResult,
    attachTrace: () => Promise<Descriptor | undefined>,
    delayMs: number,
  ): Promise<void> {
    this.#active.delete(record.Ref);
    this.note(record.Ref, 'result', result);
    this.#store(record, result);
    await this.#metadata.flush();
    this.#emit(BuildHistoryEventType.COMPLETE, record);
    this.#scheduleTrace(record.Ref, attachTrace, delayMs);
    await this.#retain();
  }

  /** Forgets a build that is not to be recorded. */
  discard(ref: string): void {
    this.#active.delete(ref);
  }

  find(ref: string): BuildHistoryRecord | undefined {
    return this.#stored.get(ref)?.record ?? this.#active.get(ref);
  }

  /** How a finished build ended. A record of an older daemon tells it by the status that clients saw, in which our errors look like theirs. */
  resultOf(ref: string): BuildResult | undefined {
    const stored = this.#stored.get(ref);
    return stored?.result ?? (stored && resultOfStatus(stored.record.error));
  }

  /** Running builds, newest first. */
  active(): BuildHistoryRecord[] {
    return [...this.#active.values()].sort(newestFirst);
  }

  /** Finished builds, newest first. */
  list(): BuildHistoryRecord[] {
    return [...this.#stored.values()].map(({ record }) => record).sort(newestFirst);
  }

  /** The stored status messages of a finished build, for a Status call that comes later. */
  async *statusMessages(ref: string): AsyncGenerator<Uint8Array> {
    const logs = this.#stored.get(ref)?.record.logs;
    if (logs === undefined) throw new BuildError('not-found', `no such job ${ref}`);
    let buffer: Uint8Array = new Uint8Array(0);
    for await (const chunk of this.#content.read(parseDigest(logs.digest))) {
      buffer = buffer.byteLength === 0 ? chunk : new Uint8Array(Buffer.concat([buffer, chunk]));
      while (buffer.byteLength >= 4) {
        const length = new DataView(buffer.buffer, buffer.byteOffset).getUint32(0, true);
        if (buffer.byteLength < 4 + length) break;
        yield buffer.subarray(4, 4 + length);
        buffer = buffer.subarray(4 + length);
      }
    }
  }

  /** Puts bytes into the content store and names them. */
  async blob(mediaType: string, bytes: Uint8Array | AsyncIterable<Uint8Array>): Promise<Descriptor> {
    const info = await this.#content.put(bytes, { signal: never });
    return create(DescriptorSchema, { mediaType, digest: info.digest, size: BigInt(info.sizeBytes) });
  }

  /** @throws BuildError `not-found` when no such record is stored. */
  async update(
    ref: string,
    change: { readonly pinned: boolean; readonly delete: boolean; readonly finalize: boolean },
  ): Promise<void> {
    if (change.finalize) {
      await this.#finalizers.get(ref)?.();
      if (!change.delete && !change.pinned) return;
    }
    const stored = this.#stored.get(ref);
    if (stored === undefined) throw new BuildError('not-found', `no build record ${ref}`);
    if (change.delete) await this.#delete(stored);
    else if (stored.record.pinned !== change.pinned) {
      this.#store({ ...stored.record, pinned: change.pinned, Generation: stored.record.Generation + 1 }, stored.result);
      await this.#metadata.flush();
      this.#emit(BuildHistoryEventType.COMPLETE, stored.record);
    }
  }

  /** Keeps something more of a build, for as long as its record; a note of the same kind is replaced. */
  note(ref: string, kind: NoteKind, value: object | string): void {
    this.#metadata.write(
      'insert into history_notes (ref, kind, body) values (?, ?, ?) on conflict (ref, kind) do update set body = excluded.body',
      [ref, kind, JSON.stringify(value)],
    );
  }

  async noteOf(ref: string, kind: NoteKind): Promise<unknown> {
    const [row] = await this.#metadata.read('select body from history_notes where ref = ? and kind = ?', [ref, kind]);
    return row === undefined ? undefined : JSON.parse(String(row.body));
  }

  /** What people are shown of a build beside its record, by kind; empty for one that has none. */
  async notes(ref: string): Promise<Partial<Record<NoteKind, unknown>>> {
    const rows = await this.#metadata.read(
      "select kind, body from history_notes where ref = ? and kind not in ('recipe', 'result')",
      [ref],
    );
    return Object.fromEntries(rows.map(({ kind, body }) => [String(kind), JSON.parse(String(body))]));
  }

  /** Active builds, stored ones, then live events unless `earlyExit`; ends when the signal aborts. */
  async *listen(query: HistoryQuery, signal: AbortSignal): AsyncGenerator<BuildHistoryEvent> {
    const matchesRef = (record: BuildHistoryRecord): boolean => query.ref === '' || record.Ref === query.ref;
    const queue: BuildHistoryEvent[] = [];
    let wake = (): void => {};
    const listener: Listener = (event) => {
      if (event.record === undefined || !matchesRef(event.record)) return;
      if (query.activeOnly && event.type === BuildHistoryEventType.DELETED) return;
      queue.push(event);
      wake();
    };
    this.#listeners.add(listener);
    const onAbort = (): void => wake();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      for (const record of [...this.#active.values()].filter(matchesRef)) yield eventOf(BuildHistoryEventType.STARTED, record);
      if (!query.activeOnly) {
        const matches = compileHistoryFilter(query.filter, this.#clock.nowNs());
        const records = this.list().filter((record) => matchesRef(record) && matches(record));
        for (const record of query.limit > 0 ? records.slice(0, query.limit) : records)
          yield eventOf(BuildHistoryEventType.COMPLETE, record);
      }
      while (!query.earlyExit && !signal.aborted) {
        const event = queue.shift();
        if (event !== undefined) yield event;
        else
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
      }
    } finally {
      this.#listeners.delete(listener);
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Attaches the traces that still wait. */
  async close(): Promise<void> {
    await Promise.all([...this.#finalizers.values()].map((finalize) => finalize()));
    await this.#metadata.flush();
  }

  #scheduleTrace(ref: string, attachTrace: () => Promise<Descriptor | undefined>, delayMs: number): void {
    let attached: Promise<void> | undefined;
    const attach = async (): Promise<void> => {
      const trace = await attachTrace();
      const stored = this.#stored.get(ref);
      if (stored === undefined || trace === undefined) return;
      const record = { ...stored.record, trace, Generation: stored.record.Generation + 1 };
      this.#store(record, stored.result);
      this.#emit(BuildHistoryEventType.COMPLETE, record);
    };
    const finalize = (): Promise<void> => {
      clearTimeout(timer);
      attached ??= attach().finally(() => this.#finalizers.delete(ref));
      return attached;
    };
    const timer = setTimeout(() => void finalize().catch(() => {}), delayMs); // a lost trace must not disturb anything else
    timer.unref();
    this.#finalizers.set(ref, finalize);
  }

  #store(record: BuildHistoryRecord, result: BuildResult | undefined): void {
    this.#stored.get(record.Ref)?.lease[Symbol.dispose]();
    this.#stored.set(record.Ref, { record, result, lease: this.#leaseOf(record) });
    this.#metadata.write(
      'insert into history (ref, record) values (?, ?) on conflict (ref) do update set record = excluded.record',
      [record.Ref, toBinary(BuildHistoryRecordSchema, record)],
    );
  }

  async #delete(stored: Stored): Promise<void> {
    const { record } = stored;
    this.#stored.delete(record.Ref);
    this.#metadata.write('delete from history where ref = ?', [record.Ref]);
    this.#metadata.write('delete from history_notes where ref = ?', [record.Ref]);
    await this.#metadata.flush();
    stored.lease[Symbol.dispose]();
    for (const digest of ownBlobsOf(record)) await this.#content.remove(digest);
    this.#onDeleted(record.Ref);
    this.#emit(BuildHistoryEventType.DELETED, record);
  }

  async #retain(): Promise<void> {
    const oldest = this.#clock.nowNs() - this.#retention.maxAgeNs;
    for (const record of this.list().slice(this.#retention.maxEntries)) {
      const stored = this.#stored.get(record.Ref);
      if (stored !== undefined && !record.pinned && completedNs(record) < oldest) await this.#delete(stored);
    }
  }

  #leaseOf(record: BuildHistoryRecord): Lease {
    const lease = this.#content.lease();
    for (const digest of [...ownBlobsOf(record), ...resultBlobsOf(record)]) lease.add(digest);
    return lease;
  }

  #emit(type: BuildHistoryEventType, record: BuildHistoryRecord): void {
    const event = eventOf(type, record);
    for (const listener of this.#listeners) listener(event);
  }
}

const eventOf = (type: BuildHistoryEventType, record: BuildHistoryRecord): BuildHistoryEvent =>
  create(BuildHistoryEventSchema, { type, record });
const completedNs = (record: BuildHistoryRecord): bigint =>
  record.CompletedAt === undefined ? 0n : nsOfTimestamp(record.CompletedAt);
const createdNs = (record: BuildHistoryRecord): bigint => (record.CreatedAt === undefined ? 0n : nsOfTimestamp(record.CreatedAt));
function newestFirst(a: BuildHistoryRecord, b: BuildHistoryRecord): number {
  const difference = createdNs(b) - createdNs(a);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** Blobs that only the record needs. */
function ownBlobsOf(record: BuildHistoryRecord): Digest[] {
  return [record.logs, record.trace, record.externalError].flatMap((descriptor) =>
    descriptor === undefined ? [] : [parseDigest(descriptor.digest)],
  );
}
/** Manifests the record names; layers belong to the image store. */
function resultBlobsOf(record: BuildHistoryRecord): Digest[] {
  return Object.values(record.Result?.Results ?? {}).map((descriptor) => parseDigest(descriptor.digest));
}
