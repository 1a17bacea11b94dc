/** HTTP downloads of unknown size for `http://` sources: redirects within bounds, bodies as streams. undici loads on first use. */
import type { Dispatcher } from 'undici';
import { BuildError } from '../../core/errors.ts';
import {
  DEFAULT_HTTP,
  type HeaderMap,
  headersAfterRedirect,
  networkError,
  type ProxySettings,
  redirectTarget,
} from '../registry/http.ts';

export interface FetchedHead {
  readonly status: number;
  readonly headers: HeaderMap;
  /** The body must be read to its end or destroyed. */
  readonly body: AsyncIterable<Uint8Array> & { destroy(): unknown };
}
export interface HttpFetch {
  /** Rejects with `unavailable` when no answer comes. Any status is an answer. */
  request(method: 'GET' | 'HEAD', url: URL, headers: HeaderMap, signal: AbortSignal): Promise<FetchedHead>;
}

export function createHttpFetch(proxy: ProxySettings = {}): HttpFetch {
  let dispatcher: Promise<Dispatcher> | undefined;
  const { connectTimeoutMs, idleTimeoutMs, maxRedirects } = DEFAULT_HTTP;
  const open = (): Promise<Dispatcher> => {
    dispatcher ??= import('undici').then(
      ({ EnvHttpProxyAgent }) =>
        new EnvHttpProxyAgent({
          ...proxy,
          connect: { timeout: connectTimeoutMs },
          headersTimeout: idleTimeoutMs,
          bodyTimeout: idleTimeoutMs,
        }),
    );
    return dispatcher;
  };
  return {
    async request(method, start, startHeaders, signal) {
      let url = start;
      let headers = startHeaders;
      for (let hops = 0; ; hops += 1) {
        const head = await exchange(await open(), method, url, headers, signal);
        const next = redirectTarget(head.status, head.headers, url);
        if (next === undefined) return head;
        head.body.destroy();
        if (hops >= maxRedirects) throw new BuildError('unavailable', `stopped after ${hops} redirects at ${url.origin}`);
        headers = headersAfterRedirect(headers, url, next);
        url = next;
      }
    },
  };
}

async function exchange(
  dispatcher: Dispatcher,
  method: 'GET' | 'HEAD',
  url: URL,
  headers: HeaderMap,
  signal: AbortSignal,
): Promise<FetchedHead> {
  try {
    const { origin, pathname, search } = url;
    const answer = await dispatcher.request({ origin, path: pathname + search, method, headers, signal });
    const flat = Object.entries(answer.headers).map(([name, value]) => [name.toLowerCase(), String(value ?? '')]);
    answer.body.on('error', () => undefined); // a body that is given up must not end the process
    return { status: answer.statusCode, headers: Object.fromEntries(flat) as HeaderMap, body: answer.body };
  } catch (error) {
    if (signal.aborted) throw BuildError.from(signal.reason);
    throw networkError(error, method, url);
  }
}
