/**
 * Builds that come over HTTP: takes the upload, unpacks it in a worker thread, and builds it as a client of the daemon's own build API.
 * What a caller may use is bounded before a byte is read: builds at once, builds a minute, bytes of context.
 */
import { mkdir, mkdtemp, open, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BuildEvent } from '../../../builder/events.ts';
import { randomId } from '../../../builder/session/attachables/client-session.ts';
import { type Clock, nsToMs } from '../../../core/clock.ts';
import { BuildError } from '../../../core/errors.ts';
import { taskRef, type WorkerPool } from '../../../core/worker-pool.ts';
import type { BuildEnd, BuildNews, BuildOrder, BuildTimes, SubmittedBuild } from '../../../web/api/submit.ts';
import { Refusal } from '../../../web/http/refusal.ts';
import { newsOf } from './news.ts';
import type { SubmitLimits } from './submit-limits.ts';
import { SubmitThread } from './submit-thread.ts';
import type { WorkerOrder } from './submit-worker.ts';
import type { Unpacked, UnpackOrder } from './unpack-task.ts';

export interface SubmitParts {
  readonly clock: Clock;
  readonly pool: WorkerPool;
  /** Folder for uploads; what an earlier daemon left in it goes. */
  readonly dir: string;
  readonly limits: SubmitLimits;
  /** Path of a unix socket of the build API. */
  readonly socket: () => Promise<string>;
  /** Status messages of a build, once it has come, to its end. */
  readonly status: (ref: string, signal: AbortSignal) => AsyncIterable<Uint8Array>;
  readonly counts: (ref: string) => { readonly total: number; readonly cached: number };
  /** Called last. */
  readonly close: () => Promise<void>;
}

const UNPACK = taskRef<UnpackOrder, Unpacked>(new URL('./unpack-task.ts', import.meta.url), 'unpack');
const MAX_ENTRIES = 500_000;
const RETRY_AFTER_S = 2;

export class Submissions implements AsyncDisposable {
  readonly #parts: SubmitParts;
  readonly #thread = new SubmitThread();
  readonly #open = new Map<string, Submission>();
  readonly #rates = new Map<string, { tokens: number; atMs: number }>();
  #taken = 0;

  constructor(parts: SubmitParts) {
    this.#parts = parts;
  }

  /** A listener to the builder's events. */
  emit(event: BuildEvent): void {
    this.#open.get(event.build)?.saw(event);
  }

  /**
   * Resolves when the build has been handed to the builder. Rejects with a Refusal 429 or 413, or `invalid-input` for an upload that is
   * not taken; then nothing is left.
   */
  async submit(order: BuildOrder, signal: AbortSignal): Promise<SubmittedBuild> {
    const { limits } = this.#parts;
    if (this.#taken >= limits.maxBuilds) throw busy(`${limits.maxBuilds} submitted builds are under way`, RETRY_AFTER_S);
    this.#countRate(order.actor);
    this.#taken += 1;
    await using undo = new AsyncDisposableStack();
    undo.defer(() => {
      this.#taken -= 1;
    });
    await mkdir(this.#parts.dir, { recursive: true, mode: 0o700 });
    const dir = await mkdtemp(join(this.#parts.dir, 'build-'));
    undo.defer(() => rm(dir, { recursive: true, force: true, maxRetries: 3 }));
    const workerOrder = await prepare(order, dir, this.#parts, signal);
    const socket = await this.#parts.socket();
    signal.throwIfAborted();
    const submission = new Submission(this.#parts, workerOrder.ref);
    this.#open.set(submission.ref, submission);
    undo.defer(() => void this.#open.delete(submission.ref));
    submission.start(
      this.#thread.run(socket, workerOrder, submission.signal).then((response) => ({ response, download: workerOrder.download })),
      undo.move(),
    );
    return submission;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#open.values()].map((submission) => submission[Symbol.asyncDispose]()));
    await this.#thread[Symbol.asyncDispose]();
    await this.#parts.close();
  }

  /** A bucket of a minute's worth per caller. */
  #countRate(actor: string): void {
    const { perMinute } = this.#parts.limits;
    const nowMs = nsToMs(this.#parts.clock.nowNs());
    const bucket = this.#rates.get(actor) ?? { tokens: perMinute, atMs: nowMs };
    const tokens = Math.min(perMinute, bucket.tokens + ((nowMs - bucket.atMs) / 60_000) * perMinute);
    if (tokens < 1) throw busy(`more than ${perMinute} builds a minute`, Math.max(1, Math.ceil(((1 - tokens) * 60) / perMinute)));
    this.#rates.set(actor, { tokens: tokens - 1, atMs: nowMs });
  }
}

const busy = (what: string, retryAfterS: number): Refusal =>
  new Refusal(429, 'exhausted', what, { retryAfterS, hint: 'wait as Retry-After says' }, { 'retry-after': String(retryAfterS) });

/** One build from being taken to its end. */
class Submission implements SubmittedBuild {
  readonly ref: string;
  readonly #parts: SubmitParts;
  readonly #controller = new AbortController();
  readonly #acceptedNs: bigint;
  readonly #times = new Map<string, bigint>();
  #resources: AsyncDisposable | undefined;
  #end: Promise<BuildEnd> | undefined;

  constructor(parts: SubmitParts, ref: string) {
    this.#parts = parts;
    this.ref = ref;
    this.#acceptedNs = parts.clock.nowNs();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }
  get end(): Promise<BuildEnd> {
    return this.#end ?? Promise.reject(new BuildError('internal', 'the build was not started'));
  }

  start(end: Promise<BuildEnd>, resources: AsyncDisposable): void {
    this.#resources = resources;
    this.#end = end;
    end.catch(() => {}).finally(() => this.#times.set('ended', this.#parts.clock.nowNs()));
  }

  saw({ type, atNs }: BuildEvent): void {
    if ((type === 'build-started' || type === 'first-artifact') && !this.#times.has(type)) this.#times.set(type, atNs);
  }

  async *news(signal: AbortSignal): AsyncIterable<BuildNews> {
    // A build that is refused never comes: its end ends the waiting.
    const over = new AbortController();
    this.end.catch(() => {}).finally(() => setTimeout(() => over.abort(), 5_000).unref());
    yield* newsOf(this.#parts.status(this.ref, AbortSignal.any([signal, over.signal])));
  }

  times(): BuildTimes {
    const since = (atNs: bigint): number => Math.max(0, Math.round(nsToMs(atNs - this.#acceptedNs)));
    const [started, artifact] = [this.#times.get('build-started'), this.#times.get('first-artifact')];
    return {
      ...(started !== undefined && { queuedMs: since(started) }),
      ...(artifact !== undefined && { firstArtifactMs: since(artifact) }),
      totalMs: since(this.#times.get('ended') ?? this.#parts.clock.nowNs()),
    };
  }

  counts(): { readonly total: number; readonly cached: number } {
    return this.#parts.counts(this.ref);
  }

  detach(): void {
    void this.end.catch(() => {}).finally(() => this[Symbol.asyncDispose]());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#controller.abort(new BuildError('cancelled', 'context canceled: the caller went away'));
    await this.end.catch(() => {});
    const resources = this.#resources;
    this.#resources = undefined;
    await resources?.[Symbol.asyncDispose]();
  }
}

/** Puts what was sent into `dir` and says how to build it. */
async function prepare(order: BuildOrder, dir: string, parts: SubmitParts, signal: AbortSignal): Promise<WorkerOrder> {
  const { options, upload, registryAuth } = order;
  const context = join(dir, 'context');
  const own = join(dir, 'dockerfile');
  const authDir = join(dir, 'auth');
  for (const folder of [context, own, authDir]) await mkdir(folder, { mode: 0o700 });
  if (upload !== undefined) await takeUpload(upload, dir, context, parts, signal);
  const auths = Object.entries(registryAuth).map(([host, { username, password }]) => [
    host,
    { auth: Buffer.from(`${username}:${password}`).toString('base64') },
  ]);
  await writeFile(join(authDir, 'config.json'), JSON.stringify({ auths: Object.fromEntries(auths) }), { mode: 0o600 });
  if (options.dockerfileText !== undefined) await writeFile(join(own, 'Dockerfile'), options.dockerfileText);
  if (upload === undefined && options.context === undefined && options.dockerfileText === undefined)
    throw new BuildError('invalid-input', 'there is nothing to build', {
      hint: 'send a tar archive as body, or a context URL or dockerfileText as JSON',
    });
  const isDownload = ['oci', 'docker', 'tar'].includes(options.output);
  return {
    ref: randomId(),
    dirs: { context, dockerfile: options.dockerfileText === undefined ? context : own },
    options: Object.fromEntries(frontendOptions(options)),
    exporters: exportersOf(options),
    cacheImports: options.cacheFrom,
    cacheExports: options.cacheTo,
    download: isDownload ? join(dir, 'download.tar') : undefined,
    authDir,
    sharedKey: dir,
    traceparent: order.traceparent,
  };
}

async function takeUpload(
  { body, sizeBytes }: NonNullable<BuildOrder['upload']>,
  dir: string,
  context: string,
  { pool, limits }: SubmitParts,
  signal: AbortSignal,
): Promise<void> {
  const { maxContextBytes: maxBytes } = limits;
  const tooLarge = (): Refusal =>
    new Refusal(
      413,
      'invalid-input',
      `context: larger than ${maxBytes} bytes`,
      { hint: 'leave out what the build does not need, or raise cooper.submit.max-context' },
      { connection: 'close' },
    );
  if (sizeBytes !== undefined && sizeBytes > maxBytes) throw tooLarge();
  const archive = join(dir, 'upload.tar');
  {
    await using file = await open(archive, 'wx', 0o600);
    let size = 0;
    for await (const chunk of body) {
      signal.throwIfAborted();
      size += chunk.byteLength;
      if (size > maxBytes) throw tooLarge();
      await file.write(chunk);
    }
    if (size === 0) throw new BuildError('invalid-input', 'context: the body is empty', { hint: 'send a tar archive' });
  }
  await pool.run(UNPACK, { archive, into: context, maxBytes, maxEntries: MAX_ENTRIES }, { signal });
  await rm(archive);
  if ((await readdir(context)).length === 0) throw new BuildError('invalid-input', 'context: the archive holds nothing');
}

function* frontendOptions(options: BuildOrder['options']): Generator<[string, string]> {
  yield ['filename', options.dockerfileText === undefined ? options.dockerfile : 'Dockerfile'];
  if (options.context !== undefined) yield ['context', options.context];
  if (options.context !== undefined && options.dockerfileText !== undefined) yield ['dockerfilekey', 'dockerfile'];
  if (options.target !== undefined) yield ['target', options.target];
  if (options.platform !== undefined) yield ['platform', options.platform];
  if (options.noCache) yield ['no-cache', ''];
  if (options.pull) yield ['image-resolve-mode', 'pull'];
  for (const [name, value] of Object.entries(options.buildArgs)) yield [`build-arg:${name}`, value];
  for (const [name, value] of Object.entries(options.labels)) yield [`label:${name}`, value];
}

function exportersOf({ output, names, push }: BuildOrder['options']): WorkerOrder['exporters'] {
  if (output === 'none') return [];
  const named = names.length > 0 && output !== 'tar' ? { name: names.join(',') } : {};
  return [{ type: output, attributes: { ...named, ...(push && { push: 'true' }) } }];
}
