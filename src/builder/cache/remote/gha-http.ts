/** Requests to the GitHub Actions cache service and to the signed addresses it hands out. undici is loaded by the first of them. */
import type { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { throwIfAborted } from '../../../core/abort.ts';
import type { BuildError } from '../../../core/errors.ts';
import type { BlobContent, StoreDeps } from './ports.ts';
import { type Range, sendRange } from './store-body.ts';
import { failureOf, heard, networkCode, readWhole, storeError } from './store-errors.ts';

export type HeaderMap = Readonly<Record<string, string>>;
export interface GhaRequest {
  /** For messages: `gha host: reserving index-main-1`. Addresses never get into one: they are signed. */
  readonly what: string;
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH';
  readonly url: string;
  readonly headers?: HeaderMap;
  readonly body?: Uint8Array | string | { readonly content: BlobContent; readonly range: Range };
}
export interface GhaAnswer {
  readonly status: number;
  readonly headers: HeaderMap;
  readonly body: Readable;
}

const MAX_ANSWER_BYTES = 1024 * 1024;

export class GhaHttp implements AsyncDisposable {
  readonly #deps: StoreDeps;
  #dispatcher: Promise<Dispatcher> | undefined;

  constructor(deps: StoreDeps) {
    this.#deps = deps;
  }

  /** Any status is an answer. Its body must be read or destroyed. @throws BuildError `unavailable` when there is none. */
  async send(request: GhaRequest, signal: AbortSignal): Promise<GhaAnswer> {
    try {
      throwIfAborted(signal);
      const { body } = request;
      if (typeof body !== 'object' || body instanceof Uint8Array) return await this.#exchange(request, body, {}, signal);
      const length = { 'content-length': String(body.range.length) };
      return await sendRange(body.content, body.range, signal, (stream, own) => this.#exchange(request, stream, length, own));
    } catch (thrown) {
      throw this.failure(request.what, thrown, signal);
    }
  }

  /** The answer as JSON; undefined when it is empty. @throws BuildError for a status above 299, but for those that `accept` takes. */
  async json(
    request: GhaRequest,
    signal: AbortSignal,
    accept: (status: number, body: Json) => boolean = () => false,
  ): Promise<Json> {
    const answer = await this.send(request, signal);
    let text: string;
    try {
      text = Buffer.from(await readWhole(answer.body, MAX_ANSWER_BYTES, request.what, signal)).toString();
    } catch (thrown) {
      throw this.failure(request.what, thrown, signal);
    }
    const body = parseJson(text);
    if (answer.status >= 300 && !accept(answer.status, body ?? {})) throw this.refused(request.what, answer, body);
    if (text.trim() !== '' && body === undefined) throw storeError(request.what, { status: answer.status }, this.#deps.nowMs());
    return { ...body, status: answer.status };
  }

  /** Like `send`, but a status above 299 rejects. */
  async succeed(request: GhaRequest, signal: AbortSignal): Promise<GhaAnswer> {
    const answer = await this.send(request, signal);
    if (answer.status < 300) return answer;
    discard(answer);
    throw this.refused(request.what, answer, undefined);
  }

  refused(what: string, answer: Pick<GhaAnswer, 'status' | 'headers'>, body: Json | undefined): BuildError {
    const code = body?.typeKey ?? body?.code ?? answer.headers['x-ms-error-code'];
    const failure = {
      status: answer.status,
      code: typeof code === 'string' ? code : undefined,
      retryAfter: answer.headers['retry-after'],
    };
    return storeError(what, failure, this.#deps.nowMs());
  }

  failure(what: string, thrown: unknown, signal: AbortSignal): BuildError {
    return failureOf(thrown, signal, () => storeError(what, { code: networkCode(thrown) }, this.#deps.nowMs()));
  }

  async #exchange(
    { method, url, headers }: GhaRequest,
    body: Dispatcher.DispatchOptions['body'],
    more: HeaderMap,
    signal: AbortSignal,
  ): Promise<GhaAnswer> {
    const { origin, pathname, search } = new URL(url);
    this.#dispatcher ??= openDispatcher(this.#deps);
    const dispatcher = await this.#dispatcher;
    const answer = await dispatcher.request({
      origin,
      path: pathname + search,
      method,
      headers: { 'user-agent': this.#deps.userAgent, ...headers, ...more },
      body: body ?? null,
      signal,
    });
    return { status: answer.statusCode, headers: flat(answer.headers), body: heard(answer.body) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const dispatcher = await this.#dispatcher?.catch(() => undefined);
    await dispatcher?.destroy();
  }
}

/** Ends an answer whose body is of no interest. */
export function discard({ body }: GhaAnswer): void {
  body.destroy(); // which it reports as an error; see `heard`
}

export type Json = Readonly<Record<string, unknown>>;

function parseJson(text: string): Json | undefined {
  try {
    const value: unknown = JSON.parse(text.replace(/^\uFEFF/, '')); // error answers of the service begin with a byte order mark
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
  } catch {
    return undefined;
  }
}

async function openDispatcher({ env }: StoreDeps): Promise<Dispatcher> {
  const { EnvHttpProxyAgent } = await import('undici');
  const httpProxy = env.HTTP_PROXY ?? env.http_proxy;
  const httpsProxy = env.HTTPS_PROXY ?? env.https_proxy;
  return new EnvHttpProxyAgent({
    ...(httpProxy === undefined ? {} : { httpProxy }),
    ...(httpsProxy === undefined ? {} : { httpsProxy }),
    noProxy: env.NO_PROXY ?? env.no_proxy ?? '',
    connections: 16, // per origin
  });
}

function flat(headers: Record<string, string | string[] | undefined>): HeaderMap {
  const entries = Object.entries(headers).flatMap(([name, value]): [string, string][] =>
    value === undefined ? [] : [[name.toLowerCase(), Array.isArray(value) ? value.join(', ') : value]],
  );
  return Object.fromEntries(entries);
}
