/**
 * The HTTP API of toxiproxy (version, proxies, toxics, populate, reset) over our proxies, and what it lacks:
 *
 *   POST /proxies/NAME/http    {"kind":"status","status":503}     DELETE takes it away
 *   POST /lease                {"ttl_ms":5000}                    unless it is renewed in time, everything is reset
 *
 * The lease is what heals a fault whose runner and keeper were both killed.
 */
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { FaultProxy } from './fault-proxy.ts';
import { HTTP_FAULT_KINDS, type HttpFault } from './http-faults.ts';
import { TOXIC_ATTRIBUTES, type Toxic } from './toxics.ts';

export interface ProxyService extends AsyncDisposable {
  readonly url: string;
  readonly proxies: ReadonlyMap<string, FaultProxy>;
}
class Refused extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}
type Body = Readonly<Record<string, unknown>>;

export async function startProxyService(listen: { readonly host: string; readonly port: number }): Promise<ProxyService> {
  const proxies = new Map<string, FaultProxy>();
  let lease: NodeJS.Timeout | undefined;
  const reset = async (): Promise<void> => {
    for (const proxy of proxies.values()) await proxy.reset();
  };
  const renew = (ttlMs: number): void => {
    clearTimeout(lease);
    lease = setTimeout(() => void reset(), ttlMs);
    lease.unref();
  };
  const server = http.createServer((request, response) => {
    void answer(request, { proxies, reset, renew }).then(
      ([status, body]) => {
        response.writeHead(status, { 'content-type': 'application/json' });
        response.end(body === undefined ? '' : JSON.stringify(body));
      },
      (error: Error) => {
        const status = error instanceof Refused ? error.status : 500;
        response.writeHead(status, { 'content-type': 'application/json' });
        response.end(JSON.stringify({ error: error.message, status }));
      },
    );
  });
  server.listen(listen.port, listen.host);
  await once(server, 'listening');
  return {
    url: `http://${listen.host}:${(server.address() as AddressInfo).port}`,
    proxies,
    async [Symbol.asyncDispose]() {
      clearTimeout(lease);
      server.closeAllConnections();
      server.close();
      for (const proxy of proxies.values()) await proxy[Symbol.asyncDispose]();
    },
  };
}

interface State {
  readonly proxies: Map<string, FaultProxy>;
  readonly reset: () => Promise<void>;
  readonly renew: (ttlMs: number) => void;
}

async function answer(request: http.IncomingMessage, state: State): Promise<[number, unknown?]> {
  const [first = '', name = '', part, toxic] =
    (request.url ?? '').split('?')[0]?.split('/').slice(1).map(decodeURIComponent) ?? [];
  const { method = 'GET' } = request;
  if (first === 'version') return [200, { version: '2.9.0' }];
  if (method === 'POST' && first === 'reset') return [204, await state.reset()];
  if (method === 'POST' && first === 'lease') {
    const ttlMs = Number((await bodyOf(request)).ttl_ms);
    if (!(ttlMs > 0)) throw new Refused(400, 'ttl_ms must be above 0');
    state.renew(ttlMs);
    return [204];
  }
  if (method === 'POST' && first === 'populate') {
    const list = (await jsonOf(request)) as readonly Body[];
    return [201, { proxies: await Promise.all(list.map((body) => create(state, body, true))) }];
  }
  if (first !== 'proxies') throw new Refused(404, `nothing at ${request.url}`);
  if (name === '') return method === 'POST' ? [201, await create(state, await bodyOf(request), false)] : [200, listing(state)];
  const proxy = state.proxies.get(name);
  if (proxy === undefined) throw new Refused(404, 'proxy not found');
  if (part === 'toxics')
    return await toxics(method, proxy, toxic, method === 'GET' || method === 'DELETE' ? {} : await bodyOf(request));
  if (part === 'http') {
    proxy.setHttpFault(method === 'DELETE' ? undefined : httpFaultOf(await bodyOf(request)));
    return [200, shown(proxy)];
  }
  if (method === 'DELETE') {
    state.proxies.delete(name);
    await proxy[Symbol.asyncDispose]();
    return [204];
  }
  if (method !== 'GET') {
    const { enabled } = await bodyOf(request);
    if (typeof enabled === 'boolean') await proxy.setEnabled(enabled);
  }
  return [200, shown(proxy)];
}

async function create(state: State, body: Body, replace: boolean): Promise<unknown> {
  const { name, listen = '127.0.0.1:0', upstream, enabled = true } = body;
  if (typeof name !== 'string' || typeof upstream !== 'string') throw new Refused(400, 'name and upstream are required');
  const old = state.proxies.get(name);
  if (old !== undefined && !replace) throw new Refused(409, 'proxy already exists');
  await old?.[Symbol.asyncDispose]();
  const proxy = await FaultProxy.start(name, String(listen), upstream);
  state.proxies.set(name, proxy);
  if (enabled === false) await proxy.setEnabled(false);
  return shown(proxy);
}

async function toxics(method: string, proxy: FaultProxy, name: string | undefined, body: Body): Promise<[number, unknown?]> {
  if (method === 'GET') return [200, proxy.toxics];
  if (method === 'DELETE') {
    if (!proxy.toxics.some((toxic) => toxic.name === name)) throw new Refused(404, 'toxic not found');
    proxy.setToxics(proxy.toxics.filter((toxic) => toxic.name !== name));
    return [204];
  }
  const toxic = toxicOf(body, name);
  if (name === undefined && proxy.toxics.some((one) => one.name === toxic.name)) throw new Refused(409, 'toxic already exists');
  proxy.setToxics([...proxy.toxics.filter((one) => one.name !== toxic.name), toxic]);
  return [200, toxic];
}

function toxicOf(body: Body, named: string | undefined): Toxic {
  const { type, stream = 'downstream', toxicity = 1, attributes = {} } = body;
  if (typeof type !== 'string' || !(type in TOXIC_ATTRIBUTES)) throw new Refused(400, `invalid toxic type "${String(type)}"`);
  if (stream !== 'upstream' && stream !== 'downstream')
    throw new Refused(400, 'stream was invalid, can be either upstream or downstream');
  return {
    name: named ?? (typeof body.name === 'string' ? body.name : `${type}_${stream}`),
    type: type as Toxic['type'],
    stream,
    toxicity: Number(toxicity),
    attributes: Object.fromEntries(Object.entries(attributes as Body).map(([key, value]) => [key, Number(value)])),
  };
}

function httpFaultOf(body: Body): HttpFault {
  const kind = HTTP_FAULT_KINDS.find((one) => one === body.kind);
  if (kind === undefined) throw new Refused(400, `kind must be one of ${HTTP_FAULT_KINDS.join(', ')}`);
  return {
    kind,
    ...(body.status !== undefined && { status: Number(body.status) }),
    ...(body.retryAfterS !== undefined && { retryAfterS: Number(body.retryAfterS) }),
    ...(typeof body.match === 'string' && { match: body.match }),
  };
}

const shown = (proxy: FaultProxy): Record<string, unknown> => ({
  name: proxy.name,
  listen: proxy.listen,
  upstream: proxy.upstream,
  enabled: proxy.enabled,
  toxics: proxy.toxics,
  ...(proxy.httpFault !== undefined && { http: proxy.httpFault }),
});
const listing = (state: State): unknown => Object.fromEntries([...state.proxies].map(([name, proxy]) => [name, shown(proxy)]));

const bodyOf = async (request: http.IncomingMessage): Promise<Body> => ((await jsonOf(request)) ?? {}) as Body;

async function jsonOf(request: http.IncomingMessage): Promise<unknown> {
  let text = '';
  for await (const chunk of request) {
    text += chunk;
    if (text.length > 1_000_000) throw new Refused(413, 'body too large');
  }
  try {
    return text === '' ? undefined : JSON.parse(text);
  } catch {
    throw new Refused(400, 'bad request body');
  }
}
