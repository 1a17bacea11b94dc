/**
 * Remote caches as a build sees them: it names types and attributes, and gets a cache to look into or an export to run. Everything
 * that outlives one build is here: breakers, quarantine, shared downloads, and exports that are tried again after their build.
 */
import { delay } from '../../../core/abort.ts';
import { type Clock, msToNs, nsToSeconds } from '../../../core/clock.ts';
import { BuildError, cancelled } from '../../../core/errors.ts';
import type { ContentStore } from '../../content/ports.ts';
import { SingleFlight } from '../../registry/single-flight.ts';
import type { Snapshots } from '../../snapshot/ports.ts';
import type { StepProgress } from '../../solver/ports.ts';
import { type ExportOptions, parseExportOptions } from './attributes.ts';
import { Breakers } from './breaker.ts';
import { type CacheRecords, type PreparedExport, prepareExport, sendExport } from './export.ts';
import { type ImportDeps, type ImportedCache, importCache, LateCache } from './import.ts';
import { DEFAULT_POLICY, GuardedStore, type PolicyLimits } from './policy.ts';
import type { CacheObserver, StoreBackend, StoreDeps } from './ports.ts';
import { Quarantine } from './quarantine.ts';

/** One `--cache-to` or `--cache-from`. */
export interface CacheEntry {
  readonly type: string;
  readonly attributes: ReadonlyMap<string, string>;
}
export interface RemoteCacheLimits {
  readonly policy: PolicyLimits;
  /** Time one build spends on reading caches, all of them together. */
  readonly lookupMs: number;
  /** How much of it its steps wait for, of a cache that is not known to take longer. */
  readonly patienceMs: number;
  /** How long a failed export is tried again after its build; 0: not at all. */
  readonly retryExportMs: number;
  /** First wait between two such tries; doubled each time. */
  readonly retryExportDelayMs: number;
}
export const DEFAULT_LIMITS: RemoteCacheLimits = {
  policy: DEFAULT_POLICY,
  lookupMs: 10_000,
  patienceMs: 900,
  retryExportMs: 300_000,
  retryExportDelayMs: 5_000,
};
export interface RemoteCachesOptions {
  readonly clock: Clock;
  readonly content: ContentStore;
  readonly snapshots: Snapshots;
  readonly observer: CacheObserver;
  /** By type; what clients may name. */
  readonly backends: (type: string) => StoreBackend | undefined;
  /** Used for a build that names no cache at all; their types need not be open to clients. */
  readonly defaults?: { readonly entries: readonly CacheEntry[]; readonly backends: (type: string) => StoreBackend | undefined };
  readonly store: Omit<StoreDeps, 'sessions'>;
  readonly limits?: Partial<RemoteCacheLimits>;
}
export interface CacheImport extends AsyncDisposable {
  /** How long steps wait for `read` before they are looked up without it; what comes later is used from then on. */
  readonly patienceMs: number;
  /** Rejects only with `cancelled`. */
  read(signal: AbortSignal): Promise<ImportedCache>;
  /** Nobody waits any longer: nor does the next build. What stands in its place until it is there. */
  overdue(): LateCache;
  /** What was overdue is given up, the build having ended. */
  abandon(): void;
}
export interface CacheExport extends AsyncDisposable {
  readonly title: string;
  readonly options: ExportOptions;
  /** Rejects only with `cancelled`, and when the user wrote that a failed export fails the build. */
  run(records: CacheRecords, progress: StepProgress, signal: AbortSignal): Promise<ExportReport>;
}
export interface ExportReport {
  readonly response: ReadonlyMap<string, string>;
  /** What went wrong, for the user. */
  readonly warning?: string;
}

const MAX_BACKGROUND = 16; // exports that wait for a place to come back; each holds leases on its layers

export class RemoteCaches implements AsyncDisposable {
  readonly limits: RemoteCacheLimits;
  readonly #options: RemoteCachesOptions;
  readonly #breakers: Breakers;
  readonly #importDeps: ImportDeps;
  readonly #stopped = new AbortController();
  readonly #background = new Set<Promise<void>>();

  constructor(options: RemoteCachesOptions) {
    const { clock, content, snapshots, observer } = options;
    this.#options = options;
    this.limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#breakers = new Breakers(this.limits.policy.breaker, clock, observer);
    const quarantine = new Quarantine(clock, observer);
    this.#importDeps = { clock, content, snapshots, observer, quarantine, fetches: new SingleFlight() };
  }

  /** Caches of the daemon's own configuration. */
  get defaults(): readonly CacheEntry[] {
    return this.#options.defaults?.entries ?? [];
  }
  /** Exports that are still being tried again. */
  get pending(): number {
    return this.#background.size;
  }

  /** What stands after `importing cache manifest from `. */
  importTitle(entry: CacheEntry): string {
    return this.#find(entry)?.importTitle(entry.attributes) ?? entry.type;
  }

  /** @throws BuildError `invalid-input` for attributes that can never work, `unsupported` for an unknown type. */
  openImport(entry: CacheEntry, sessions: () => readonly string[]): CacheImport {
    const backend = this.#find(entry);
    if (backend === undefined) throw new BuildError('unsupported', `unknown cache importer: ${entry.type}`);
    const store = this.#guarded(backend, entry, sessions);
    const patienceMs = store.patienceMs(this.limits.patienceMs);
    const late = (): string => `its answer took longer than ${Math.round(patienceMs)} ms`;
    return {
      patienceMs,
      read: (signal) => importCache(this.#importDeps, store, signal),
      overdue: () => {
        store.overdue();
        return new LateCache(store.store, late());
      },
      abandon: () => store.abandoned(new BuildError('timed-out', late())),
      [Symbol.asyncDispose]: async () => await store[Symbol.asyncDispose](),
    };
  }

  /** @throws BuildError `invalid-input` for attributes that can never work, `unsupported` for an unknown type. */
  openExport(entry: CacheEntry, sessions: () => readonly string[]): CacheExport {
    const backend = this.#find(entry);
    if (backend === undefined) throw new BuildError('unsupported', `unknown cache exporter: "${entry.type}"`);
    const options = parseExportOptions(entry.attributes);
    const store = this.#guarded(backend, entry, sessions);
    let inUse = false;
    return {
      title: backend.exportTitle,
      options,
      run: (records, progress, signal) =>
        this.#export(store, options, records, progress, signal, () => {
          inUse = true;
        }),
      [Symbol.asyncDispose]: async () => {
        if (!inUse) await store[Symbol.asyncDispose]();
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped.abort(cancelled('the daemon is stopping'));
    await Promise.all(this.#background);
    this.#breakers[Symbol.dispose]();
  }

  /** A client's entry never finds what only the configuration may name, such as a folder of this machine. */
  #find(entry: CacheEntry): StoreBackend | undefined {
    const { backends, defaults } = this.#options;
    const isOwn = defaults?.entries.includes(entry) === true;
    return backends(entry.type) ?? (isOwn ? defaults.backends(entry.type) : undefined);
  }

  #guarded(backend: StoreBackend, { attributes }: CacheEntry, sessions: () => readonly string[]): GuardedStore {
    const { store: deps, clock, observer } = this.#options;
    const store = backend.open(attributes, { ...deps, sessions });
    return new GuardedStore(store, this.#breakers.of(store), this.limits.policy, clock, observer);
  }

  async #export(
    store: GuardedStore,
    options: ExportOptions,
    records: CacheRecords,
    progress: StepProgress,
    signal: AbortSignal,
    keepStore: () => void,
  ): Promise<ExportReport> {
    const { clock, content, observer } = this.#options;
    const { backend, label } = store.store;
    const startedAtNs = clock.nowNs();
    const ended = (outcome: Parameters<CacheObserver['exported']>[1]): void =>
      observer.exported(backend, outcome, nsToSeconds(clock.nowNs() - startedAtNs), false);
    let prepared: PreparedExport | undefined;
    try {
      const preparing = progress.status('preparing build cache for export');
      prepared = await prepareExport(content, records, options, signal);
      preparing.done();
      if (prepared.config.layers.length === 0) {
        progress.status('skipping cache export for empty result').done();
        ended('empty');
        prepared[Symbol.dispose]();
        return { response: new Map() };
      }
      const sending = progress.status('sending cache export');
      await sendExport(this.#importDeps, store, prepared, progress, signal);
      sending.done();
      ended('ok');
      prepared[Symbol.dispose]();
      return { response: store.store.exporterResponse?.() ?? new Map() };
    } catch (thrown) {
      const error = BuildError.from(thrown);
      const retried = prepared !== undefined && !signal.aborted && !options.failsBuild && this.#mayRetry(error);
      ended(retried ? 'retrying' : error.kind);
      if (retried && prepared !== undefined) {
        keepStore();
        this.#retryLater(store, prepared);
      } else prepared?.[Symbol.dispose]();
      if (signal.aborted || options.failsBuild) throw error.wrap(`failed to export cache to ${label}`);
      const seconds = Math.round(this.limits.retryExportMs / 1000);
      const then = retried ? `; it is tried again in the background for ${seconds} s` : '';
      return { response: new Map(), warning: `cache not exported to ${label}: ${error.message}${then}` };
    }
  }

  #mayRetry({ kind }: BuildError): boolean {
    if (this.limits.retryExportMs === 0 || this.#background.size >= MAX_BACKGROUND || this.#stopped.signal.aborted) return false;
    return kind === 'unavailable' || kind === 'timed-out' || kind === 'exhausted';
  }

  #retryLater(store: GuardedStore, prepared: PreparedExport): void {
    const work = this.#retry(store, prepared).finally(async () => {
      this.#background.delete(work);
      prepared[Symbol.dispose]();
      await store[Symbol.asyncDispose]();
    });
    this.#background.add(work);
    work.catch(() => undefined); // its outcome was told to the observer
  }

  async #retry(store: GuardedStore, prepared: PreparedExport): Promise<void> {
    const { clock, observer } = this.#options;
    const { signal } = this.#stopped;
    const startedAtNs = clock.nowNs();
    const untilNs = startedAtNs + msToNs(this.limits.retryExportMs);
    let last: BuildError | undefined;
    for (let waitMs = this.limits.retryExportDelayMs; clock.nowNs() < untilNs; waitMs = Math.min(waitMs * 2, 60_000)) {
      try {
        await delay(waitMs * (0.5 + Math.random() / 2), signal);
        if (store.refusal !== undefined) continue;
        await sendExport(this.#importDeps, store, prepared, undefined, signal);
        observer.exported(store.store.backend, 'ok', nsToSeconds(clock.nowNs() - startedAtNs), true);
        return;
      } catch (thrown) {
        last = BuildError.from(thrown);
        if (signal.aborted || !this.#mayRetryAgain(last)) break;
      }
    }
    const seconds = nsToSeconds(clock.nowNs() - startedAtNs);
    observer.exported(store.store.backend, last?.kind ?? 'unavailable', seconds, true);
  }

  #mayRetryAgain({ kind }: BuildError): boolean {
    return kind === 'unavailable' || kind === 'timed-out' || kind === 'exhausted';
  }
}
