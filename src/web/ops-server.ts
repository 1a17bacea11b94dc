/**
 * The operator's HTTP port: metrics, probes, SLOs and the read-only API, and at `/` one page for people. Express is loaded when the
 * server opens. Nothing here waits for a build, a disk or a lock: probes and pages answer from memory or from what they are given.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Express, NextFunction, Request, Response } from 'express';
import { BuildError, ERROR_KINDS, type ErrorKind } from '../core/errors.ts';
import { holderOfTcpPort } from '../core/socket-holder.ts';
import type { OpsProviders } from './ops-providers.ts';
import { statusPage } from './status-page.ts';

export interface OpsServer extends AsyncDisposable {
  /** `http://127.0.0.1:8470`, with the port the system chose when 0 was asked for. */
  readonly url: string;
}

const MAX_LISTED = 500;
const RECENT_BUILDS = 20;

/**
 * Opens the port. Rejects with `unavailable` and the address when something else holds it. Disposing stops accepting, lets
 * answers that are under way finish for a second, then closes every connection.
 */
export async function openOpsServer(
  address: { readonly host: string; readonly port: number },
  providers: OpsProviders,
): Promise<OpsServer> {
  const { default: express } = await import('express');
  const server = createServer(
    { requestTimeout: 30_000, headersTimeout: 10_000, keepAliveTimeout: 75_000 },
    application(express(), providers),
  );
  server.maxConnections = 256;
  await listen(server, address);
  const { port } = server.address() as AddressInfo;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return { url: `http://${host}:${port}`, [Symbol.asyncDispose]: () => close(server) };
}

function application(app: Express, providers: OpsProviders): Express {
  app.disable('x-powered-by');
  app.set('etag', false);
  app.set('query parser', 'simple');
  app.use(securityHeaders);
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
  app.get('/api/v1/builds', async (request, response) => {
    response.json({ builds: await providers.builds(limitOf(request.query.limit)) });
  });
  app.get('/api/v1/builds/:ref', async (request, response) => {
    response.json(found(await providers.build(request.params.ref), request.params.ref));
  });
  app.get('/api/v1/builds/:ref/explain', async (request, response) => {
    const { against } = request.query;
    const explanation = await providers.explain(request.params.ref, typeof against === 'string' ? against : undefined);
    response.json(found(explanation, typeof against === 'string' ? `${request.params.ref} or ${against}` : request.params.ref));
  });
  app.get('/api/v1/builds/:ref/trace', async (request, response) => {
    response.json({ spans: found(await providers.trace(request.params.ref), request.params.ref) });
  });
  app.get('/api/v1/gc/plan', async (_request, response) => void response.json(await providers.gcPlan()));
  app.get('/', async (_request, response) => {
    const [slo, builds] = await Promise.all([providers.slo(), providers.builds(RECENT_BUILDS)]);
    response
      .type('html')
      .send(statusPage({ version: providers.version, addresses: providers.addresses(), ready: providers.ready(), slo, builds }));
  });
  app.use((request: Request) => {
    throw new BuildError('not-found', `there is nothing at ${request.path}`, { hint: 'see / for what this port serves' });
  });
  app.use((error: unknown, _request: Request, response: Response, _next: NextFunction) =>
    sendError(error, response, providers.onError),
  );
  return app;
}

/** Nothing of this port may be framed, sniffed, cached or sent elsewhere; the page needs no script and no other host. */
function securityHeaders(_request: Request, response: Response, next: NextFunction): void {
  response.setHeader(
    'content-security-policy',
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  );
  response.setHeader('x-content-type-options', 'nosniff');
  response.setHeader('x-frame-options', 'DENY');
  response.setHeader('referrer-policy', 'no-referrer');
  response.setHeader('cross-origin-resource-policy', 'same-origin');
  response.setHeader('cache-control', 'no-store');
  next();
}

function readOnly(request: Request, response: Response, next: NextFunction): void {
  if (request.method === 'GET' || request.method === 'HEAD') return next();
  response.setHeader('allow', 'GET, HEAD');
  response
    .status(405)
    .json({ error: { kind: 'unsupported', message: `${request.method} is not served here; this port is read-only` } });
}

function limitOf(text: unknown): number {
  if (text === undefined) return 50;
  const limit = Number(text);
  if (Number.isInteger(limit) && limit >= 1 && limit <= MAX_LISTED) return limit;
  throw new BuildError('invalid-input', `limit must be a whole number from 1 to ${MAX_LISTED}`);
}

function found<T>(value: T | undefined, ref: string): T {
  if (value === undefined)
    throw new BuildError('not-found', `there is no build ${ref}`, { hint: '/api/v1/builds lists those that are kept' });
  return value;
}

const HTTP_STATUS: Partial<Record<ErrorKind, number>> = {
  'invalid-input': 400,
  'not-found': 404,
  denied: 403,
  unsupported: 501,
  'timed-out': 504,
  exhausted: 503,
  unavailable: 503,
};

/** Errors of ours are logged and shown without their cause; errors of the caller are only shown. */
function sendError(thrown: unknown, response: Response, onError: (error: unknown) => void): void {
  const isBadUrl = thrown instanceof URIError || (thrown as { status?: number }).status === 400;
  const error = isBadUrl ? new BuildError('invalid-input', 'the path cannot be decoded') : BuildError.from(thrown);
  if (ERROR_KINDS[error.kind].fault !== 'user') onError(thrown);
  if (response.headersSent) return void response.destroy();
  const message = error.kind === 'internal' ? "internal error; the daemon's log has the details" : error.message;
  const { hint } = error.detail;
  response
    .status(HTTP_STATUS[error.kind] ?? 500)
    .json({ error: { kind: error.kind, message, ...(hint !== undefined && { hint }) } });
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
