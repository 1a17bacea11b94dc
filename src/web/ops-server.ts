/**
 * The operator's HTTP port: metrics, probes, SLOs, the ops API, and at `/` the page for people. Express is loaded when the server
 * opens, the API and the page when they are first asked for. Probes and metrics answer from memory: they wait for no build, disk or lock.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Express, NextFunction, Request, Response } from 'express';
import { BuildError } from '../core/errors.ts';
import { holderOfTcpPort } from '../core/socket-holder.ts';
import type { Api } from './api/router.ts';
import { hostGuard, securityHeaders } from './http/guards.ts';
import { Refusal, sendError } from './http/refusal.ts';
import { Tokens } from './http/tokens.ts';
import type { OpsProviders } from './ops-providers.ts';
import { PageServer } from './page/serve.ts';

export interface OpsServer extends AsyncDisposable {
  /** `http://127.0.0.1:8470`, with the port the system chose when 0 was asked for. */
  readonly url: string;
}

export interface OpsServerOptions {
  readonly host: string;
  readonly port: number;
  /** Names this port answers to besides addresses and localhost. */
  readonly allowedHosts?: readonly string[];
  /** File with the tokens that allow changes; without it the port is read-only. */
  readonly tokenFile?: string | undefined;
}

/**
 * Opens the port. Rejects with `unavailable` and the address when something else holds it, `invalid-input` for a token file that
 * cannot be used. Disposing stops accepting, ends live views, lets answers that are under way finish for a second, then closes every
 * connection.
 */
export async function openOpsServer(options: OpsServerOptions, providers: OpsProviders): Promise<OpsServer> {
  const { default: express } = await import('express');
  const tokens = options.tokenFile === undefined ? undefined : new Tokens(options.tokenFile);
  const api = new LazyApi(providers, tokens);
  // A large upload takes its time: reading a body is bounded where it is read, by size and by how long nothing comes.
  const server = createServer(
    { requestTimeout: 3_600_000, headersTimeout: 10_000, keepAliveTimeout: 75_000 },
    application(express(), options, providers, api),
  );
  server.maxConnections = 256;
  await listen(server, options);
  const { port } = server.address() as AddressInfo;
  const host = options.host.includes(':') ? `[${options.host}]` : options.host;
  return {
    url: `http://${host}:${port}`,
    [Symbol.asyncDispose]: async () => {
      const closed = close(server);
      await api[Symbol.asyncDispose]();
      await closed;
    },
  };
}

function application(app: Express, options: OpsServerOptions, providers: OpsProviders, api: LazyApi): Express {
  const page = new PageServer();
  app.disable('x-powered-by');
  app.set('etag', false);
  app.set('query parser', 'simple');
  app.use(securityHeaders);
  app.use(hostGuard(options.host, options.allowedHosts ?? []));
  app.use('/api/v1', async (request, response) => await (await api.get()).handle(request, response));
  app.use(readOnly);

  app.get('/metrics', async (request, response) => {
    const { contentType, body } = await providers.scrape(String(request.headers.accept ?? ''));
    response.setHeader('content-type', contentType);
    response.end(body);
  });
  app.get('/livez', (_request, response) => void response.json({ live: true }));
  app.get('/readyz', (_request, response) => {
    const checks = providers.ready();
    const ready = checks.every((check) => check.ok);
    response.status(ready ? 200 : 503).json({ ready, pid: process.pid, checks });
  });
  app.get('/slo', async (_request, response) => void response.json(await providers.slo()));
  app.get('/', (request, response) => page.index(request, response));
  app.get('/assets/:name', (request, response) => page.asset(request.params.name, request, response));
  app.use((request: Request) => {
    throw new BuildError('not-found', `there is nothing at ${request.path}`, { hint: 'see / for what this port serves' });
  });
  app.use((error: unknown, _request: Request, response: Response, _next: NextFunction) =>
    sendError(error, response, providers.onError),
  );
  return app;
}

/** The API with its schemas, loaded with the first call. */
class LazyApi implements AsyncDisposable {
  readonly #providers: OpsProviders;
  readonly #tokens: Tokens | undefined;
  #api: Promise<Api> | undefined;

  constructor(providers: OpsProviders, tokens: Tokens | undefined) {
    this.#providers = providers;
    this.#tokens = tokens;
  }

  get(): Promise<Api> {
    this.#api ??= import('./api/router.ts').then(({ createApi }) => createApi(this.#providers, this.#tokens));
    return this.#api;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    (await this.#api)?.[Symbol.dispose]();
  }
}

function readOnly(request: Request, _response: Response, next: NextFunction): void {
  if (request.method === 'GET' || request.method === 'HEAD') return next();
  throw new Refusal(
    405,
    'unsupported',
    `${request.method} is not served here`,
    { hint: 'what can be changed is below /api/v1' },
    { allow: 'GET, HEAD' },
  );
}

async function listen(server: Server, { host, port }: { readonly host: string; readonly port: number }): Promise<void> {
  const bound = new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, exclusive: true }, resolve);
  });
  try {
    await bound;
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const hint = 'choose another address for the operations port';
    if (code !== 'EADDRINUSE')
      throw new BuildError('unavailable', `cannot listen on ${host}:${port}: ${message}`, { hint }, { cause });
    const holder = (await holderOfTcpPort(port)) ?? 'another process';
    throw new BuildError('unavailable', `the operations port ${host}:${port} is held by ${holder}`, { hint }, { cause });
  }
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => server.closeAllConnections(), 1000);
    server.close(() => {
      clearTimeout(timer);
      resolve();
    });
    server.closeIdleConnections();
  });
}
