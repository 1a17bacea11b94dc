/**
 * `local://<name>`: a directory of the client (buildkit-wire.md sections 3.2 and 3.3). Its last state is kept under a key of its own,
 * so the next build transfers what changed; each build gets a frozen snapshot of it.
 */
import type { Clock } from '../../core/clock.ts';
import { digestOf } from '../../core/digest.ts';
import { BuildError, GRPC } from '../../core/errors.ts';
import { goJson, parseJson } from '../registry/go-json.ts';
import { SingleFlight } from '../registry/single-flight.ts';
import type { Session, Sessions } from '../session/ports.ts';
import type { Snapshot, Snapshots } from '../snapshot/ports.ts';
import type { OpContext } from '../solver/ports.ts';
import type { SourceInstance, SourceKind } from './source.ts';

export interface LocalSourceDeps {
  readonly clock: Clock;
  readonly sessions: Sessions;
  readonly snapshots: Snapshots;
}

interface LocalRequest {
  readonly name: string;
  /** Empty: any session of the build. */
  readonly sessionId: string;
  readonly includePatterns: readonly string[] | undefined;
  readonly excludePatterns: readonly string[] | undefined;
  readonly followPaths: readonly string[] | undefined;
  readonly sharedKeyHint: string;
  readonly differ: 'none' | 'metadata';
}

export function localSource(deps: LocalSourceDeps): SourceKind {
  const transfers = new SingleFlight<SharedSnapshot>();
  return {
    schemes: ['local'],
    open({ op: { attrs }, locator }) {
      if (attrs['local.metadatatransfer'] !== undefined && /^(1|t|true)$/i.test(attrs['local.metadatatransfer']))
        throw new BuildError('unsupported', 'local sources with metadata transfer are not supported');
      const differ = attrs['local.differ'] ?? '';
      if (!['', 'none', 'metadata'].includes(differ)) throw new BuildError('invalid-input', `invalid local.differ ${differ}`);
      const [prefix, prefixed] = splitOnce(attrs['local.session'] ?? '');
      return new LocalInstance(deps, transfers, {
        name: prefixed === undefined ? locator : `${prefix}-${locator}`,
        sessionId: prefixed ?? prefix,
        includePatterns: parseTexts(attrs, 'local.includepattern'),
        excludePatterns: parseTexts(attrs, 'local.excludepatterns'),
        followPaths: parseTexts(attrs, 'local.followpaths'),
        sharedKeyHint: attrs['local.sharedkeyhint'] ?? '',
        differ: differ === 'none' ? 'none' : 'metadata',
      });
    },
  };
}

/** `name:id` names a session of another client of the same build. */
function splitOnce(session: string): [string, string | undefined] {
  const colon = session.indexOf(':');
  return colon === -1 ? [session, undefined] : [session.slice(0, colon), session.slice(colon + 1)];
}

const DIFF_COPY = '/moby.filesync.v1.FileSync/DiffCopy';

class LocalInstance implements SourceInstance {
  readonly #deps: LocalSourceDeps;
  readonly #transfers: SingleFlight<SharedSnapshot>;
  readonly #request: LocalRequest;

  constructor(deps: LocalSourceDeps, transfers: SingleFlight<SharedSnapshot>, request: LocalRequest) {
    this.#deps = deps;
    this.#transfers = transfers;
    this.#request = request;
  }

  async cacheKey(context: OpContext): Promise<{ readonly key: string; readonly done: boolean; readonly ephemeral: boolean }> {
    const sessionId = this.#request.sessionId || context.sessions()[0];
    if (sessionId === undefined) throw new BuildError('not-found', 'could not access local files without session');
    return { key: `session:${this.#request.name}:${digestOf(this.#description(sessionId))}`, done: true, ephemeral: true };
  }

  async fetch(context: OpContext): Promise<Snapshot> {
    const { sessionId } = this.#request;
    const ids = sessionId === '' ? context.sessions() : [sessionId];
    try {
      return await this.#fetchFrom(ids, context);
    } catch (thrown) {
      const error = BuildError.from(thrown);
      const gone = error.kind === 'not-found' && error.message.includes('no active session');
      if (sessionId === '' || !gone) throw error;
      return await this.#fetchFrom(context.sessions(), context); // the session named in the source has ended; another may do
    }
  }

  #fetchFrom(ids: readonly string[], context: OpContext): Promise<Snapshot> {
    return this.#deps.sessions.any(ids, context.signal, async (session) => {
      if (!session.supports(DIFF_COPY))
        throw new BuildError('unsupported', 'no local sources enabled', { grpcCode: GRPC.UNKNOWN });
      const key = `${session.id} ${this.#request.name} ${this.#request.sharedKeyHint} ${this.#description(session.id)}`;
      const label = `transferring ${this.#request.name}:`;
      const line = context.progress.status(label, { name: 'transferring' });
      const startedAtNs = this.#deps.clock.nowNs();
      let current = 0;
      const onProgress = (bytes: number): void => {
        current += bytes;
        line.update(current);
      };
      const work = async (signal: AbortSignal, report: (bytes: number) => void): Promise<SharedSnapshot> =>
        await this.#shared(await this.#transfer(session, context.traceparent, signal, report), signal);
      const shared = await this.#transfers.run(key, context.signal, work, onProgress);
      line.done();
      context.progress.phase('transfer', startedAtNs);
      return shared.take();
    });
  }

  /** When everybody has gone meanwhile, nobody is left to own the snapshot. */
  async #shared(snapshot: Snapshot, signal: AbortSignal): Promise<SharedSnapshot> {
    if (!signal.aborted) return new SharedSnapshot(snapshot);
    await snapshot[Symbol.asyncDispose]();
    throw BuildError.from(signal.reason);
  }

  async #transfer(
    session: Session,
    traceparent: string | undefined,
    signal: AbortSignal,
    onProgress: (bytes: number) => void,
  ): Promise<Snapshot> {
    const { name, sharedKeyHint, includePatterns, excludePatterns, followPaths, differ } = this.#request;
    const record = { description: `local source for ${name}`, recordType: 'source.local' } as const;
    const key = `${name}:${sharedKeyHint}:${session.sharedKey}`;
    await using directory = await this.#deps.snapshots.openNamed(key, 'private', { ...record, signal });
    const received = await session.receiveFiles({
      dirName: name,
      includePatterns: includePatterns ?? [],
      excludePatterns: excludePatterns ?? [],
      followPaths: followPaths ?? [],
      destination: directory.dir,
      differ,
      ...(traceparent === undefined ? {} : { traceparent }),
      signal,
      onProgress,
    });
    return await directory.snapshot({ ...record, received });
  }

  /** What makes two transfers the same, in the form BuildKit gives it. */
  #description(sessionId: string): string {
    const { includePatterns, excludePatterns, followPaths } = this.#request;
    return goJson({
      SessionID: sessionId,
      IncludePatterns: includePatterns ?? null,
      ExcludePatterns: excludePatterns ?? null,
      FollowPaths: followPaths ?? null,
    });
  }
}

/**
 * One transfer's snapshot, handed to every step that waited for it. The first taker gets the reference itself, the others their own;
 * takers arrive in the turn in which the transfer settles, before the flight is forgotten.
 */
class SharedSnapshot {
  #snapshot: Snapshot;
  #taken = false;
  constructor(snapshot: Snapshot) {
    this.#snapshot = snapshot;
  }
  take(): Snapshot {
    if (this.#taken) return this.#snapshot.clone() as Snapshot;
    this.#taken = true;
    return this.#snapshot;
  }
}

function parseTexts(attrs: Readonly<Record<string, string>>, name: string): readonly string[] | undefined {
  const text = attrs[name];
  if (text === undefined) return undefined;
  const list = parseJson(text, name);
  if (list === null) return undefined;
  if (!Array.isArray(list) || list.some((item) => typeof item !== 'string'))
    throw new BuildError('invalid-input', `${name} is not a list of texts`);
  return list as string[];
}
