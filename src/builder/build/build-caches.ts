/**
 * The remote caches of one build: those it looks into are read while the frontend works, those it writes are written when its results
 * are there. Steps wait a moment for those that are read, then go on; what arrives later is used from then on (ADR 13). Both are steps that clients see. What goes wrong is a warning of the step, never the end of the build, unless the user
 * wrote `ignore-error=false`.
 */
import { deadline } from '../../core/abort.ts';
import type { VertexDigest } from '../../core/digest.ts';
import { BuildError, cancelled } from '../../core/errors.ts';
import type { CacheRecords } from '../cache/remote/export.ts';
import type { LateCache } from '../cache/remote/import.ts';
import type { CacheEntry, CacheExport, CacheImport, RemoteCaches } from '../cache/remote/remote-caches.ts';
import type { RemoteCache, StepProgress } from '../solver/ports.ts';
import { internalStep, type StepScope } from './internal-step.ts';

export interface BuildCachesOptions {
  readonly caches: RemoteCaches;
  readonly scope: StepScope;
  readonly sessionId: string;
  readonly sessions: () => readonly string[];
  readonly signal: AbortSignal;
  readonly exports: readonly CacheEntry[];
  /** Where what was read is looked up. */
  readonly addCaches: (caches: readonly RemoteCache[]) => void;
}

export class BuildCaches implements AsyncDisposable {
  readonly #options: BuildCachesOptions;
  readonly #exports: readonly CacheExport[];
  /** `type=inline`: goes out with the image. */
  readonly hasInline: boolean;
  readonly #imports = new Map<string, { readonly ended: Promise<void>; readonly waited: Promise<void> }>();
  readonly #ended = new AbortController();
  readonly #opened: CacheImport[] = [];
  readonly #warnings: string[] = [];

  /** @throws BuildError for an export that can never work, before anything is built. */
  constructor(options: BuildCachesOptions) {
    this.#options = options;
    const others = options.exports.filter(({ type }) => type !== 'inline');
    this.hasInline = others.length < options.exports.length;
    this.#exports = others.map((entry) => {
      try {
        return options.caches.openExport(entry, options.sessions);
      } catch (thrown) {
        const error = BuildError.from(thrown);
        throw error.kind === 'invalid-input' ? error.wrap(`failed to configure ${entry.type} cache exporter`) : error;
      }
    });
  }

  /** Begins to read caches; one that was named before is not read again. */
  import(entries: readonly CacheEntry[]): void {
    for (const entry of entries) {
      const key = JSON.stringify([entry.type, ...[...entry.attributes].sort()]);
      if (this.#imports.has(key)) continue;
      const { promise: waited, resolve, reject } = Promise.withResolvers<void>();
      waited.catch(() => undefined); // `ready` tells
      const ended = this.#import(entry, key, resolve).then(resolve, reject);
      this.#imports.set(key, { ended, waited });
    }
  }

  /** Resolves when every cache named so far was read, given up or waited for long enough. Rejects only when the build is cancelled. */
  async ready(): Promise<void> {
    if (this.#imports.size > 0) await Promise.all([...this.#imports.values()].map(({ waited }) => waited));
  }

  /** Writes all caches at once. What the client is told of them. */
  async export(records: () => CacheRecords): Promise<ReadonlyMap<string, string>> {
    await this.#endImports();
    if (this.#exports.length === 0) return this.#response([]);
    const found = records();
    const responses = await Promise.all(this.#exports.map((target, index) => this.#export(target, index, found)));
    return this.#response(responses);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#endImports();
    await Promise.allSettled([...this.#opened, ...this.#exports].map((part) => part[Symbol.asyncDispose]()));
  }

  /** No step is left that could use what has not come yet. */
  async #endImports(): Promise<void> {
    this.#ended.abort(cancelled('the build has what it needs'));
    await Promise.all([...this.#imports.values()].map(({ ended }) => ended));
  }

  async #import(entry: CacheEntry, key: string, goOn: () => void): Promise<void> {
    const { caches, scope, sessions, signal, sessionId } = this.#options;
    const name = `importing cache manifest from ${caches.importTitle(entry)}`;
    await internalStep(scope, { name, op: 'internal', identity: `${sessionId} import ${key}` }, async (progress, step) => {
      using limit = deadline('reading the caches of one build', caches.limits.lookupMs);
      const ended = this.#ended.signal;
      let late: LateCache | undefined;
      let source: CacheImport | undefined;
      let timer: NodeJS.Timeout | undefined;
      try {
        const opened = caches.openImport(entry, sessions);
        source = opened;
        this.#opened.push(opened);
        timer = setTimeout(() => {
          late = this.#goOnWithout(opened, step, progress);
          goOn();
        }, opened.patienceMs);
        const cache = await opened.read(AbortSignal.any([signal, limit.signal, ended]));
        if (late !== undefined) late.failure = undefined; // what the cache says takes its place
        this.#options.addCaches([cache]);
        if (cache.failure === undefined) progress.status(`${cache.records} records`).done();
        else if (late === undefined) this.#warn(step, `built without cache ${cache.label}: ${cache.failure}`);
      } catch (thrown) {
        const error = BuildError.from(thrown);
        if (signal.aborted) throw error;
        if (late !== undefined) source?.abandon();
        else if (!ended.aborted) this.#warn(step, `built without cache ${entry.type}: ${error.message}`);
      } finally {
        clearTimeout(timer);
      }
    });
  }

  #goOnWithout(source: CacheImport, step: VertexDigest, progress: StepProgress): LateCache {
    const late = source.overdue();
    progress.status('going on without it').done();
    this.#warn(step, `built without cache ${late.label}: ${late.failure}; what comes later is used from then on`);
    this.#options.addCaches([late]);
    return late;
  }

  async #export(target: CacheExport, index: number, records: CacheRecords): Promise<ReadonlyMap<string, string>> {
    const { scope, sessionId, signal } = this.#options;
    const identity = `${sessionId}-cache-${index}`;
    return await internalStep(scope, { name: target.title, op: 'export', identity }, async (progress, step) => {
      const { response, warning } = await target.run(records, progress, signal);
      if (warning !== undefined) this.#warn(step, warning);
      return response;
    });
  }

  /** `cooper.cache.warnings`: one per line, so that they are in the build's record and in `--metadata-file`. */
  #response(responses: readonly ReadonlyMap<string, string>[]): ReadonlyMap<string, string> {
    const response = new Map(responses.flatMap((each) => [...each]));
    if (this.#warnings.length > 0) response.set('cooper.cache.warnings', this.#warnings.join('\n'));
    return response;
  }

  #warn(step: VertexDigest, text: string): void {
    const { build, clock, sink } = this.#options.scope;
    this.#warnings.push(text);
    sink.emit({ type: 'step-warning', build, step, atNs: clock.nowNs(), level: 1, short: text, detail: [], url: '' });
  }
}

/** `cache-imports` of a frontend: a JSON list with capitalised keys. Unreadable text is no cache. */
export function importsOfOptions(options: ReadonlyMap<string, string>): readonly CacheEntry[] {
  return [...importsOfJson(options.get('cache-imports')), ...importsOfRefs(options.get('cache-from'))];
}

function importsOfJson(text: string | undefined): readonly CacheEntry[] {
  if (text === undefined || text === '') return [];
  try {
    const list: unknown = JSON.parse(text);
    if (!Array.isArray(list)) return [];
    return list.flatMap((entry: { readonly Type?: unknown; readonly Attrs?: unknown } | null) => {
      if (typeof entry?.Type !== 'string') return [];
      const attributes = Object.entries(entry.Attrs ?? {}).filter(
        (pair): pair is [string, string] => typeof pair[1] === 'string',
      );
      return [{ type: entry.Type, attributes: new Map(attributes) }];
    });
  } catch {
    return [];
  }
}

/** The old form: references, separated by commas. */
const importsOfRefs = (text: string | undefined): readonly CacheEntry[] =>
  (text ?? '')
    .split(',')
    .filter((ref) => ref !== '')
    .map((ref) => ({ type: 'registry', attributes: new Map([['ref', ref]]) }));
