/**
 * The audit log: one record per use of a secret, ssh agent or entitlement, per act of an administrator, per refused request. Callers
 * queue a record and go on; one loop writes. A disk that is full or gone costs records, which are counted and leave a `gap` record
 * behind, never a build; the daemon's log says so once, and once more when writing works again.
 */
import type { AuditEntry, AuditSink, BuildEvent, BuildId, Client, EventSink } from '../../builder/events.ts';
import { delay } from '../../core/abort.ts';
import { BoundedQueue } from '../../core/bounded-queue.ts';
import { type Clock, rfc3339 } from '../../core/clock.ts';
import { TELEMETRY_DROPPED } from '../catalog.ts';
import { AUDIT_EVENTS } from '../catalog-service.ts';
import type { Metrics } from '../metrics.ts';
import { AuditFile, type AuditLimits } from './audit-files.ts';
import { type AuditRecord, auditLine } from './audit-record.ts';

export interface AuditLogOptions {
  /** Folder of the files; made when it is not there. */
  readonly dir: string;
  readonly limits: AuditLimits;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly traceIdOf: (build: BuildId) => string | undefined;
  /** First failure of a streak, and the recovery after one (undefined). */
  readonly onState: (error: unknown | undefined) => void;
}

const QUEUED_RECORDS = 4_096; // about 2 MB; a build uses a handful of secrets
const BATCH_RECORDS = 256;
const PAUSE_AFTER_FAILURE_MS = 1_000; // a full disk is not asked thousands of times a second
const FLUSH_MS = 2_000;
const MAX_BUILDS = 10_000;

export class AuditLog implements AuditSink, EventSink, AsyncDisposable {
  readonly #options: AuditLogOptions;
  readonly #queue = new BoundedQueue<AuditRecord>(QUEUED_RECORDS);
  readonly #file: AuditFile;
  readonly #stop = new AbortController();
  /** Who asked for the builds that run. */
  readonly #clients = new Map<BuildId, Client>();
  #loop: Promise<void> | undefined;
  /** Records lost since the last one that was written. */
  #lost = 0;
  #failing = false;

  constructor(options: AuditLogOptions) {
    this.#options = options;
    this.#file = new AuditFile(options.dir, options.limits);
  }

  record({ type, outcome, client, what, build, detail }: AuditEntry): void {
    const time = rfc3339(this.#options.clock.nowNs());
    this.#enqueue({
      ...{ time, type, outcome, who: client, what },
      ...this.#ofBuild(build),
      ...(detail !== undefined && { detail }),
    });
  }

  emit(event: BuildEvent): void {
    if (event.type === 'build-queued') {
      if (event.client !== undefined && this.#clients.size < MAX_BUILDS) this.#clients.set(event.build, event.client);
    } else if (event.type === 'build-finished') this.#clients.delete(event.build);
    else if (event.type === 'request-denied') {
      const who = event.client ?? this.#clientOf(event.build);
      const time = rfc3339(event.atNs);
      this.#enqueue({ time, type: 'denied', outcome: 'refused', who, what: event.what, ...this.#ofBuild(event.build) });
    } else if (event.type === 'secret-leaked') {
      this.#enqueue({
        time: rfc3339(event.atNs),
        type: 'secret-leak',
        outcome: event.refused ? 'refused' : 'failed',
        who: this.#clientOf(event.build),
        what: event.id,
        ...this.#ofBuild(event.build),
        step: event.step,
        detail: event.path,
      });
    } else if (event.type === 'sensitive-use') {
      this.#enqueue({
        time: rfc3339(event.atNs),
        type: event.kind,
        outcome: event.granted ? 'ok' : 'absent',
        who: this.#clientOf(event.build),
        what: event.id,
        ...this.#ofBuild(event.build),
        step: event.step,
      });
    }
  }

  /** Writes what is queued, for two seconds at most; the rest is counted as lost. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#queue.close();
    const timer = setTimeout(() => this.#stop.abort(), FLUSH_MS);
    const stopped = new Promise<void>((resolve) => this.#stop.signal.addEventListener('abort', () => resolve(), { once: true }));
    await Promise.race([this.#loop, stopped]);
    clearTimeout(timer);
    this.#stop.abort();
    this.#drop('queue_full', this.#queue.drain().length);
    await this.#file.close();
  }

  #clientOf(build: BuildId): Client {
    return this.#clients.get(build) ?? { peer: 'unknown' };
  }

  #ofBuild(build: BuildId | undefined): { readonly build?: string; readonly trace_id?: string } {
    if (build === undefined) return {};
    const traceId = this.#options.traceIdOf(build);
    return { build, ...(traceId !== undefined && { trace_id: traceId }) };
  }

  #enqueue(record: AuditRecord): void {
    this.#options.metrics.add(AUDIT_EVENTS, { type: record.type });
    if (!this.#queue.push(record)) this.#drop('queue_full', 1);
    this.#loop ??= this.#write();
  }

  async #write(): Promise<void> {
    for await (const first of this.#queue) {
      const batch = [first];
      while (batch.length < BATCH_RECORDS && this.#queue.size > 0) batch.push(...this.#queue.take(BATCH_RECORDS - batch.length));
      await this.#append(batch);
    }
  }

  async #append(batch: readonly AuditRecord[]): Promise<void> {
    const { clock, onState } = this.#options;
    const nowNs = clock.nowNs();
    const gap = this.#lost === 0 ? '' : auditLine(gapOf(this.#lost, rfc3339(nowNs)));
    const lost = this.#lost;
    try {
      await this.#file.append(gap + batch.map(auditLine).join(''), Number(nowNs / 1_000_000n));
      this.#lost -= lost;
      if (this.#failing) onState(undefined);
      this.#failing = false;
    } catch (error) {
      this.#drop('disk_error', batch.length);
      if (!this.#failing) onState(error);
      this.#failing = true;
      await delay(PAUSE_AFTER_FAILURE_MS, this.#stop.signal).catch(() => {});
    }
  }

  #drop(reason: 'queue_full' | 'disk_error', count: number): void {
    if (count === 0) return;
    this.#lost += count;
    this.#options.metrics.add(TELEMETRY_DROPPED, { signal: 'audit', reason }, count);
  }
}

/** Says in the log itself that it is not whole. */
const gapOf = (lost: number, time: string): AuditRecord => ({
  time,
  type: 'gap',
  outcome: 'failed',
  who: { peer: 'cooper' },
  what: 'records lost before this one',
  lost,
});
