/**
 * `http://` and `https://`: one file from a web server, or from the client itself (`http://buildkit-session/<id>`). Keyed by its
 * content, so a changed file at the same address is a new one, and an unchanged one is asked for but not fetched.
 */
import { chmod, chown, constants, copyFile, utimes } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { type Digest, digestOf, parseDigest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { ContentStore, Lease } from '../content/ports.ts';
import type { SourceOp } from '../proto/gen/pb/ops_pb.ts';
import { type GoValue, goJson } from '../registry/go-json.ts';
import type { HeaderMap } from '../registry/http.ts';
import type { Sessions } from '../session/ports.ts';
import type { Snapshot, Snapshots } from '../snapshot/ports.ts';
import type { OpContext } from '../solver/ports.ts';
import type { FetchedHead, HttpFetch } from './http-fetch.ts';
import type { HttpMemory } from './http-memory.ts';
import type { SourceInstance, SourceKey, SourceKind, SourceRequest } from './source.ts';

export interface HttpSourceDeps {
  readonly content: ContentStore;
  readonly snapshots: Snapshots;
  readonly sessions: Sessions;
  readonly http: HttpFetch;
  readonly memory: HttpMemory;
  /** A secret of the build's clients; undefined when none has it. */
  readonly readSecret: (sessions: readonly string[], id: string, signal: AbortSignal) => Promise<Uint8Array | undefined>;
}

interface HttpOptions {
  readonly url: URL;
  readonly filename: string;
  /** 0: the default. */
  readonly perm: number;
  readonly uid: number;
  readonly gid: number;
  readonly checksum: Digest | undefined;
  readonly authHeaderSecret: string;
  /** Sorted by name. */
  readonly headers: readonly { readonly name: string; readonly value: string }[];
}
/** What the address holds now. */
export interface HttpFile {
  readonly digest: Digest;
  readonly filename: string;
  readonly lastModified: Date | undefined;
}

type HttpContext = Pick<OpContext, 'sessions' | 'progress' | 'signal'>;

const SESSION_HOST = 'buildkit-session';
const DEFAULT_PERM = 0o600;
const USER_HEADERS: Readonly<Record<string, string>> = { accept: 'Accept', 'user-agent': 'User-Agent' };

export function httpSource(deps: HttpSourceDeps): SourceKind {
  return { schemes: ['http', 'https'], open: (request) => new HttpInstance(deps, parseOptions(request)) };
}

/** What a source of these schemes holds, for who asks before the build does; the build then finds it remembered. */
export async function describeHttpFile(deps: HttpSourceDeps, op: SourceOp, context: HttpContext): Promise<HttpFile> {
  const [scheme = '', locator = ''] = splitScheme(op.identifier);
  return await new HttpInstance(deps, parseOptions({ op, scheme, locator })).describe(context);
}

function splitScheme(identifier: string): readonly string[] {
  const at = identifier.indexOf('://');
  return [identifier.slice(0, at), identifier.slice(at + 3)];
}

class HttpInstance implements SourceInstance {
  readonly #deps: HttpSourceDeps;
  readonly #options: HttpOptions;
  #resolved: HttpFile | undefined;
  /** The body that was fetched to find the key. */
  #body: HeldBody | undefined;

  constructor(deps: HttpSourceDeps, options: HttpOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  async cacheKey(context: HttpContext): Promise<SourceKey> {
    const { checksum, url, filename } = this.#options;
    // A pin is enough for a key: nothing is fetched when the result is known already.
    this.#resolved ??=
      checksum === undefined
        ? await this.#resolve(context)
        : { digest: checksum, filename: fileName(url, filename, undefined), lastModified: undefined };
    return { key: this.#keyOf(this.#resolved), done: true, pin: this.#resolved.digest };
  }

  async describe(context: HttpContext): Promise<HttpFile> {
    return await this.#resolve(context);
  }

  async fetch(context: HttpContext): Promise<Snapshot> {
    const expected = this.#resolved ?? (await this.#resolve(context));
    let resolved = expected;
    if ((await this.#deps.content.info(expected.digest)) === undefined) {
      resolved = await this.#download(await this.#get(context), context);
      if (resolved.digest !== expected.digest) throw await this.#mismatch(resolved.digest, expected.digest);
    }
    const snapshot = await this.#place(resolved);
    await this.#body?.release(); // the snapshot holds the file now
    this.#body = undefined;
    return snapshot;
  }

  /** Asks the server what it has; fetches the body unless it is known. */
  async #resolve(context: HttpContext): Promise<HttpFile> {
    const { memory } = this.#deps;
    const { url, filename, checksum } = this.#options;
    const known = memory.find(this.#addressKey());
    if (known !== undefined) {
      const head = await this.#send('HEAD', context, { 'if-none-match': known.etag, 'accept-encoding': 'gzip' });
      head.body.destroy();
      const etag = etagOf(head) ?? (head.status === 304 ? known.etag : undefined);
      if ((head.status === 200 || head.status === 304) && etag === known.etag)
        return { digest: known.digest, filename: fileName(url, filename, head), lastModified: dateOf(known.lastModified) };
    }
    const resolved = await this.#download(await this.#get(context), context);
    if (checksum !== undefined && resolved.digest !== checksum) throw await this.#mismatch(resolved.digest, checksum);
    return resolved;
  }

  async #get(context: HttpContext): Promise<FetchedHead> {
    const head = await this.#send('GET', context, { 'accept-encoding': 'gzip' });
    if (head.status >= 200 && head.status < 300) return head;
    head.body.destroy();
    throw statusError(head.status, this.#options.url);
  }

  async #send(method: 'GET' | 'HEAD', context: HttpContext, headers: HeaderMap): Promise<FetchedHead> {
    const { url } = this.#options;
    if (url.hostname === SESSION_HOST) return await this.#fromSession(context);
    const own = Object.fromEntries(this.#options.headers.map(({ name, value }) => [name.toLowerCase(), value]));
    const authorization = await this.#authorization(context);
    return await this.#deps.http.request(method, url, { ...own, ...headers, ...authorization }, context.signal);
  }

  async #fromSession(context: HttpContext): Promise<FetchedHead> {
    const { sessions } = this.#deps;
    const { pathname } = this.#options.url;
    const body = await sessions.any(context.sessions(), context.signal, async (session) =>
      session.pullUpload(pathname, context.signal),
    );
    return { status: 200, headers: {}, body: Object.assign(body, { destroy: () => undefined }) };
  }

  /** The header a client left for this host, or a token for it. Having neither is fine, unless the source names the secret. */
  async #authorization(context: HttpContext): Promise<HeaderMap> {
    const { url, authHeaderSecret } = this.#options;
    const host = url.hostname;
    const names =
      authHeaderSecret === ''
        ? [
            { id: `HTTP_AUTH_HEADER_${host}`, prefix: '' },
            { id: `HTTP_AUTH_TOKEN_${host}`, prefix: 'Bearer ' },
          ]
        : [{ id: authHeaderSecret, prefix: '' }];
    for (const { id, prefix } of names) {
      const value = await this.#deps.readSecret(context.sessions(), id, context.signal).catch((error: BuildError) => {
        if (authHeaderSecret !== '' || context.signal.aborted) throw error;
        return undefined; // optional
      });
      if (value !== undefined || authHeaderSecret !== '') context.progress.used('secret', id, value !== undefined);
      if (value !== undefined) return { authorization: `${prefix}${new TextDecoder().decode(value)}` };
    }
    if (authHeaderSecret !== '') throw new BuildError('not-found', `failed to retrieve HTTP auth secret ${authHeaderSecret}`);
    return {};
  }

  async #download(head: FetchedHead, context: HttpContext): Promise<HttpFile> {
    const { content, memory } = this.#deps;
    const { url, filename } = this.#options;
    const total = Number(head.headers['content-length'] ?? 0);
    const line = context.progress.status(fileName(url, filename, head), { name: 'downloading', ...(total > 0 ? { total } : {}) });
    const lease = content.lease();
    const { digest } = await content.put(
      plain(head, (current) => line.update(current)),
      { signal: context.signal },
    );
    lease.add(digest);
    this.#body = new HeldBody(content, digest, lease);
    line.done();
    const etag = etagOf(head);
    const lastModified = head.headers['last-modified'];
    if (etag !== undefined) memory.remember(this.#addressKey(), { etag, digest, lastModified });
    return { digest, filename: fileName(url, filename, head), lastModified: dateOf(lastModified) };
  }

  async #mismatch(got: Digest, expected: Digest): Promise<BuildError> {
    await this.#body?.release();
    return new BuildError('invalid-input', `digest mismatch for ${this.#options.url.href}: ${got} (expected: ${expected})`);
  }

  /** A root filesystem that holds the file and nothing else. */
  async #place({ digest, filename, lastModified }: HttpFile): Promise<Snapshot> {
    const { content, snapshots } = this.#deps;
    const { url, perm, uid, gid } = this.#options;
    await using mutable = await snapshots.prepare(undefined, { description: `http url ${url.href}` });
    const path = join(await mutable.mount(), filename);
    await copyFile(content.path(digest), path, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
    if (uid !== 0 || gid !== 0) await chown(path, uid, gid);
    await chmod(path, perm === 0 ? DEFAULT_PERM : perm);
    const time = lastModified ?? new Date(0);
    await utimes(path, time, time);
    return await mutable.commit();
  }

  /** What the server's answers are remembered under. */
  #addressKey(): Digest {
    const { url, filename, perm, uid, gid, authHeaderSecret, headers } = this.#options;
    return digestOf(goJson({ url: url.href, filename, perm, uid, gid, authHeaderSecret, headers: headers.map(goHeader) }));
  }

  #keyOf({ digest, filename, lastModified }: HttpFile): string {
    const { perm, uid, gid, authHeaderSecret, headers } = this.#options;
    return digestOf(
      goJson({
        Filename: filename,
        Perm: perm,
        UID: uid,
        GID: gid,
        Checksum: digest,
        LastModTime: lastModified?.toUTCString(),
        AuthHeaderSecret: authHeaderSecret === '' ? undefined : authHeaderSecret,
        Header: headers.length === 0 ? undefined : headers.map(goHeader),
      }),
    );
  }
}

const HOLD_MS = 10 * 60_000; // longer than a step waits between its key and its turn; a cached step never comes back for it

/** A body in the content store that belongs to no snapshot yet. It goes when it was used, or when nobody came for it. */
class HeldBody {
  readonly #content: ContentStore;
  readonly #digest: Digest;
  readonly #lease: Lease;
  readonly #timer: NodeJS.Timeout;

  constructor(content: ContentStore, digest: Digest, lease: Lease) {
    this.#content = content;
    this.#digest = digest;
    this.#lease = lease;
    this.#timer = setTimeout(() => void this.release().catch(() => undefined), HOLD_MS);
    this.#timer.unref();
  }

  async release(): Promise<void> {
    clearTimeout(this.#timer);
    this.#lease[Symbol.dispose]();
    await this.#content.remove(this.#digest);
  }
}

/** The file itself, whatever the server wrapped it in for the way; `onBytes` counts what came over the wire. */
function plain({ headers, body }: FetchedHead, onBytes: (current: number) => void): AsyncIterable<Uint8Array> {
  const wire = counted(body, onBytes);
  if (headers['content-encoding'] !== 'gzip') return wire;
  return pipeline(Readable.from(wire), createGunzip(), () => undefined); // the reader is told of an error by the stream itself
}

const goHeader = ({ name, value }: { readonly name: string; readonly value: string }): GoValue => ({ Name: name, Value: value });

function parseOptions({ op: { attrs }, scheme, locator }: Pick<SourceRequest, 'op' | 'scheme' | 'locator'>): HttpOptions {
  const text = `${scheme}://${locator}`;
  if (!URL.canParse(text)) throw new BuildError('invalid-input', `failed to parse ${text}: invalid URL`);
  const checksum = attrs['http.checksum'];
  if (attrs['http.sig.pubkey'] !== undefined || attrs['http.sig.signature'] !== undefined)
    throw new BuildError('unsupported', 'signature verification of http sources is not supported');
  const headers = Object.entries(attrs).flatMap(([key, value]) => {
    const name = key.startsWith('http.header.') ? USER_HEADERS[key.slice('http.header.'.length).toLowerCase()] : undefined;
    return name === undefined ? [] : [{ name, value }];
  });
  return {
    url: new URL(text),
    filename: attrs['http.filename'] ?? '',
    perm: number(attrs, 'http.perm') & 0o7777,
    uid: number(attrs, 'http.uid'),
    gid: number(attrs, 'http.gid'),
    checksum: checksum === undefined || checksum === '' ? undefined : parseDigest(checksum),
    authHeaderSecret: attrs['http.authheadersecret'] ?? '',
    headers: headers.sort((a, b) => (a.name < b.name ? -1 : 1)),
  };
}

/** A number as Go's strconv.ParseInt with base 0 reads it: `0644` is octal. */
function number(attrs: Readonly<Record<string, string>>, name: string): number {
  const text = attrs[name];
  if (text === undefined || text === '') return 0;
  if (/^0[0-7]*$/.test(text)) return Number.parseInt(text, 8);
  if (/^(?:0[oO][0-7]+|0[xX][0-9a-fA-F]+|[1-9]\d*)$/.test(text)) return Number(text);
  throw new BuildError('invalid-input', `invalid ${name}: "${text}"`);
}

/** The name asked for, else the server's, else the address's; never more than one path component. */
export function fileName(url: URL, asked: string, head: Pick<FetchedHead, 'headers'> | undefined): string {
  if (asked !== '') return safeName(asked);
  const offered = /filename\*?=(?:UTF-8'')?(?:"((?:[^"\\]|\\.)*)"|([^\s;]+))/i.exec(head?.headers['content-disposition'] ?? '');
  const name = offered?.[1]?.replace(/\\(.)/g, '$1') ?? offered?.[2] ?? '';
  if (name !== '' && !name.endsWith('/')) return safeName(name);
  return safeName(decodePath(url.pathname));
}
function safeName(text: string): string {
  const name = basename(text.trim());
  return name === '' || name === '.' || name === '..' || /[\x00-\x1f\x7f-\x9f]/.test(name) ? 'download' : name;
}
function decodePath(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

/** Weak and strong tags compare alike: the content key decides in the end. */
function etagOf({ headers }: FetchedHead): string | undefined {
  const etag = headers.etag?.replace(/^W\//, '');
  return etag === '' ? undefined : etag;
}
function dateOf(text: string | undefined): Date | undefined {
  const ms = Date.parse(text ?? '');
  return Number.isNaN(ms) ? undefined : new Date(ms);
}

async function* counted(body: AsyncIterable<Uint8Array>, onProgress: (current: number) => void): AsyncIterable<Uint8Array> {
  let current = 0;
  for await (const chunk of body) {
    current += chunk.byteLength;
    onProgress(current);
    yield chunk;
  }
}

function statusError(status: number, url: URL): BuildError {
  const text = `${url.origin}${url.pathname}: invalid response status ${status}`;
  if (status === 404 || status === 410) return new BuildError('not-found', text);
  if (status === 401 || status === 403) return new BuildError('denied', text);
  return new BuildError(status === 429 || status >= 500 ? 'unavailable' : 'unsupported', text);
}
