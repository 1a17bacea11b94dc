/**
 * Requests to the route table: finds the entry, checks where the call comes from and who makes it, parses every input, and answers.
 * Loaded with the first call: an idle daemon holds no schemas.
 */
import type { Request, Response } from 'express';
import type * as z from 'zod';
import { BuildError } from '../../core/errors.ts';
import { refuseCrossOrigin } from '../http/guards.ts';
import { Refusal } from '../http/refusal.ts';
import type { Tokens } from '../http/tokens.ts';
import type { OpsProviders, WriteRecord } from '../ops-providers.ts';
import { Live } from './live.ts';
import type { ApiContext, Call, Route } from './route.ts';
import { ROUTES } from './routes.ts';
import { StepCache } from './step-history.ts';
import { stepsOf } from './step-view.ts';

export interface Api extends Disposable {
  handle(request: Request, response: Response): Promise<void>;
}

const MAX_BODY_BYTES = 64 * 1024;
const STALLED_BODY_MS = 10_000;

export function createApi(providers: OpsProviders, tokens: Tokens | undefined): Api {
  const steps = new StepCache(async (ref) => {
    const spans = await providers.trace(ref);
    return spans === undefined ? undefined : stepsOf(spans);
  });
  const live = new Live(providers, tokens !== undefined, (ref) => steps.of(ref));
  const context: ApiContext = { providers, steps, live, tokens };
  return {
    handle: (request, response) => handle(request, response, context),
    [Symbol.dispose]: () => {
      live[Symbol.dispose]();
      steps[Symbol.dispose]();
    },
  };
}

async function handle(request: Request, response: Response, context: ApiContext): Promise<void> {
  const { route, params } = match(request);
  const gone = new AbortController();
  response.once('close', () => {
    gone.abort(new BuildError('cancelled', 'the caller went away'));
    context.providers.used();
  });
  const call: Call = { request, response, signal: gone.signal, actor: '' };
  if (route.act !== undefined) return await write(route, route.act, params, context, call);
  if (request.method === 'HEAD' && typeof route.answer === 'string') return void response.end(); // would never end otherwise
  const answer = await route.handle({ params, query: parse(route.query, queryOf(request), 'query'), body: {} }, context, call);
  if (answer !== undefined && !response.headersSent) response.json(answer);
}

/** @throws BuildError `not-found` for an unknown path, Refusal 405 for a known one with another method. */
function match(request: Request): { readonly route: Route; readonly params: Readonly<Record<string, unknown>> } {
  const path = request.path.split('/').slice(1);
  const method = request.method === 'HEAD' ? 'GET' : request.method;
  const found = ROUTES.flatMap((route) => {
    const values = valuesOf(route.path.split('/').slice(1), path);
    return values === undefined ? [] : [{ route, values }];
  });
  if (found.length === 0)
    throw new BuildError('not-found', `there is nothing at ${request.baseUrl}${request.path}`, {
      hint: 'docs/api.md and /api/v1/openapi.json list the calls',
    });
  const hit = found.find(({ route }) => route.method === method);
  if (hit === undefined) {
    const allow = found.map(({ route }) => (route.method === 'GET' ? 'GET, HEAD' : route.method)).join(', ');
    throw new Refusal(405, 'unsupported', `${request.method} is not served here`, { hint: `use ${allow}` }, { allow });
  }
  return { route: hit.route, params: parse(hit.route.params, hit.values, 'path') };
}

function valuesOf(pattern: readonly string[], path: readonly string[]): Record<string, string> | undefined {
  if (pattern.length !== path.length) return undefined;
  const values: Record<string, string> = {};
  for (const [at, part] of pattern.entries()) {
    const given = path[at] ?? '';
    if (part.startsWith(':')) values[part.slice(1)] = decodeURIComponent(given);
    else if (part !== given) return undefined;
  }
  return values;
}

/** Query parameters; one that is given twice is refused, because the reader and the writer might mean different ones. */
function queryOf(request: Request): Record<string, string> {
  const given = new URL(request.originalUrl, 'http://localhost').searchParams;
  const names = [...given.keys()];
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice !== undefined)
    throw new BuildError('invalid-input', `query.${twice}: given more than once`, { hint: 'give it once' });
  return Object.fromEntries(given);
}

/** @throws BuildError `invalid-input`: `query.limit: Too big: expected number to be <=500`. */
function parse(schema: z.ZodObject, value: unknown, where: 'path' | 'query' | 'body'): Record<string, unknown> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues
    .slice(0, 5)
    .map((issue) => `${[where, ...issue.path].join('.')}: ${issue.message.slice(0, 200)}`);
  const known = Object.keys(schema.shape);
  throw new BuildError('invalid-input', problems.join('; '), {
    hint: known.length === 0 ? `this call takes nothing in its ${where}` : `the ${where} of this call takes: ${known.join(', ')}`,
  });
}

async function write(
  route: Route,
  act: string,
  params: Readonly<Record<string, unknown>>,
  context: ApiContext,
  call: Call,
): Promise<void> {
  const { request, response } = call;
  const from = request.socket.remoteAddress ?? ''; // the socket may be gone when the outcome is known
  let actor: string | undefined;
  const report = (outcome: WriteRecord['outcome'], reason?: string): void =>
    context.providers.audit({
      act,
      target: Object.values(params).join(' '),
      actor,
      from,
      outcome,
      ...(reason === undefined ? {} : { reason }),
    });
  try {
    refuseCrossOrigin(request);
    if (context.tokens === undefined)
      throw new Refusal(403, 'denied', 'this port is read-only', {
        hint: 'name a file with tokens in cooper.ops.token-file to allow changes',
      });
    actor = context.tokens.authenticate(request);
    const input = {
      params,
      query: parse(route.query, queryOf(request), 'query'),
      body: parse(route.body, route.isUpload?.(request) === true ? {} : await bodyOf(request), 'body'),
    };
    const answer = await route.handle(input, context, { ...call, actor });
    report('done');
    if (!response.headersSent) response.json(answer);
  } catch (thrown) {
    const { message } = BuildError.from(thrown);
    report(thrown instanceof Refusal && thrown.kind === 'denied' ? 'denied' : 'failed', message);
    throw thrown;
  }
}

/** A JSON object; nothing at all is an empty one. */
async function bodyOf(request: Request): Promise<unknown> {
  request.setTimeout(STALLED_BODY_MS, () => request.destroy());
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += chunk.byteLength;
    if (size > MAX_BODY_BYTES)
      throw new Refusal(413, 'invalid-input', `body: larger than ${MAX_BODY_BYTES} bytes`, {}, { connection: 'close' });
    chunks.push(chunk);
  }
  request.setTimeout(0);
  if (size === 0) return {};
  if (!/^application\/json\b/i.test(request.headers['content-type'] ?? ''))
    throw new Refusal(415, 'invalid-input', 'body: not JSON', { hint: 'send it with content-type: application/json' });
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch (cause) {
    throw new BuildError('invalid-input', `body: ${(cause as Error).message}`, { hint: 'send one JSON object' });
  }
}
