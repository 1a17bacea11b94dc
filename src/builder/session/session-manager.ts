/** Every session the daemon holds: accepts `Control.Session`, finds sessions for builds, and lets go of clients that have died. */
import { availableParallelism } from 'node:os';
import { abortable } from '../../core/abort.ts';
import { BuildError } from '../../core/errors.ts';
import type { CallContext } from '../rpc/handlers.ts';
import type { Metadata } from '../rpc/metadata.ts';
import { watchHealth } from './health.ts';
import type { Session, Sessions } from './ports.ts';
import { type SessionIdentity, TunnelSession, type TunnelStream } from './tunnel-session.ts';
import { SessionWorkers } from './worker/session-workers.ts';

export interface SessionManagerOptions {
  /** How long `get` waits for a session that has not connected: builds and their sessions arrive in any order. Default 5 s. */
  readonly lookUpMs?: number;
  /** Between health checks. Default 5 s. */
  readonly healthIntervalMs?: number;
  /** Threads at most. Default: one less than there are processors, at least one, at most four. */
  readonly threads?: number;
  /** A session is over: the client ended it, or was lost (its connection broke, it stopped answering). */
  readonly onEnded?: (end: 'closed' | 'lost') => void;
}

const MAX_THREADS = 4;
const MAX_ID_LENGTH = 256;
const FILE_SYNC = '/moby.filesync.v1.FileSync/DiffCopy';

export class SessionManager implements Sessions, AsyncDisposable {
  readonly #sessions = new Map<string, TunnelSession>();
  /** Called when a session of that id has connected. */
  readonly #waiting = new Map<string, Set<() => void>>();
  readonly #workers: SessionWorkers;
  readonly #lookUpMs: number;
  readonly #healthIntervalMs: number;
  readonly #onEnded: (end: 'closed' | 'lost') => void;

  constructor(options: SessionManagerOptions = {}) {
    this.#workers = new SessionWorkers(options.threads ?? Math.min(MAX_THREADS, Math.max(1, availableParallelism() - 1)));
    this.#lookUpMs = options.lookUpMs ?? 5_000;
    this.#healthIntervalMs = options.healthIntervalMs ?? 5_000;
    this.#onEnded = options.onEnded ?? (() => {});
  }

  /** Sessions connected now. */
  get active(): number {
    return this.#sessions.size;
  }
  /** Threads they use. */
  get threads(): number {
    return this.#workers.threads;
  }

  /**
   * Serves one `Control.Session` call: resolves when the client has closed its side, and the call then ends with OK.
   * @throws BuildError `invalid-input` without an id, or when a session of the same id is connected.
   */
  async accept(stream: TunnelStream, context: Pick<CallContext, 'headers' | 'signal' | 'sendHeaders'>): Promise<void> {
    const identity = identityOf(context.headers);
    if (this.#sessions.has(identity.id)) throw new BuildError('invalid-input', `session ${identity.id} already exists`);
    context.sendHeaders();
    const session = new TunnelSession(identity, stream, this.#workers);
    const onAbort = (): void => session.close(BuildError.from(context.signal.reason).wrap(`session ${session.id} has ended`));
    context.signal.addEventListener('abort', onAbort, { once: true });
    this.#sessions.set(session.id, session);
    for (const wake of this.#waiting.get(session.id) ?? []) wake();
    if (session.supports(FILE_SYNC)) session.warmUp(); // a client that offers files is about to build; others may only be looking
    const floorMs = healthTimeoutOf(context.headers);
    watchHealth(session, { intervalMs: this.#healthIntervalMs, ...(floorMs === undefined ? {} : { timeoutMs: floorMs }) });
    try {
      this.#onEnded(await session.run());
    } finally {
      context.signal.removeEventListener('abort', onAbort);
      this.#sessions.delete(session.id);
    }
  }

  async get(id: string, signal: AbortSignal): Promise<Session> {
    const key = withoutPrefix(id);
    const connected = this.#sessions.get(key);
    if (connected !== undefined) return connected;
    const arrived = Promise.withResolvers<void>();
    const timer = setTimeout(arrived.resolve, this.#lookUpMs);
    const waiting = this.#waiting.get(key) ?? new Set();
    this.#waiting.set(key, waiting.add(arrived.resolve));
    try {
      await abortable(arrived.promise, signal);
    } finally {
      clearTimeout(timer);
      waiting.delete(arrived.resolve);
      if (waiting.size === 0) this.#waiting.delete(key);
    }
    const session = this.#sessions.get(key);
    if (session === undefined) throw new BuildError('not-found', `no active session for ${key}: context deadline exceeded`);
    return session;
  }

  async any<T>(ids: readonly string[], signal: AbortSignal, use: (session: Session) => Promise<T>): Promise<T> {
    if (ids.length === 0) throw new BuildError('not-found', 'no active sessions');
    // Nobody waits for a session that has gone while another can answer; when none is here, the first to come will do.
    const connected = ids.map((id) => this.#sessions.get(withoutPrefix(id))).filter((session) => session !== undefined);
    if (connected.length === 0) return await use(await this.#first(ids, signal));
    let refusal: BuildError | undefined;
    for (const session of connected) {
      try {
        return await use(session);
      } catch (thrown) {
        const error = BuildError.from(thrown);
        if (signal.aborted || (error.kind !== 'not-found' && error.kind !== 'unsupported')) throw error;
        refusal ??= error;
      }
    }
    throw refusal ?? new BuildError('internal', 'no session was asked');
  }

  async #first(ids: readonly string[], signal: AbortSignal): Promise<Session> {
    try {
      return await Promise.any(ids.map((id) => this.get(id, signal)));
    } catch (error) {
      throw error instanceof AggregateError ? error.errors[0] : error;
    }
  }

  /** Closes every session and its thread. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const session of this.#sessions.values()) session.close(new BuildError('cancelled', 'the daemon is stopping'));
    await this.#workers[Symbol.asyncDispose]();
  }
}

/** Request headers of `Control.Session` (buildkit-wire.md 3.1). */
function identityOf(headers: Metadata): SessionIdentity {
  const id = headers.get('x-docker-expose-session-uuid') ?? '';
  if (id === '' || id.length > MAX_ID_LENGTH) {
    throw new BuildError('invalid-input', 'a session needs an id of at most 256 characters in x-docker-expose-session-uuid');
  }
  return {
    id,
    sharedKey: headers.get('x-docker-expose-session-sharedkey') ?? '',
    name: headers.get('x-docker-expose-session-name') ?? '',
    methods: headers.getAll('x-docker-expose-session-grpc-method'),
  };
}

function healthTimeoutOf(headers: Metadata): number | undefined {
  const ms = Number(headers.get('x-buildkit-session-health-custom-timeout') ?? Number.NaN);
  return Number.isFinite(ms) ? Math.max(1_000, ms) : undefined;
}

/** `prefix:id` names the session `id`. */
const withoutPrefix = (id: string): string => id.slice(id.indexOf(':') + 1);
