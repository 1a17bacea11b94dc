/** The route table: every call of the ops API. docs/api.md is written from it; a new call is one entry. */
import * as z from 'zod';
import { BuildError } from '../../core/errors.ts';
import { openApiOf } from './api-description.ts';
import { BUILD_ROUTES } from './build-routes.ts';
import { statusOf } from './live.ts';
import * as model from './model.ts';
import { type Route, route } from './route.ts';
import { readRunbook } from './runbook.ts';
import { SLO_ROUTES } from './slo-routes.ts';
import { SUBMIT_ROUTE } from './submit-route.ts';

const name = z
  .string()
  .min(1)
  .max(128)
  .regex(/^[\w.-]+$/, 'letters, digits, dot, dash and underscore');

const DAEMON_ROUTES: readonly Route[] = [
  route({
    path: '/status',
    summary: 'Readiness, builds, slots, cache, remote cache breakers and the last canary in one answer.',
    answer: model.status,
    handle: (_input, { providers, tokens }) => statusOf(providers, tokens !== undefined),
  }),
  route({
    path: '/live',
    summary: 'Follows status, newest builds, objectives and alerts.',
    answer:
      'Server-sent events: `all` with `{"set": {key: value}, "gone": []}`, then `change` with what changed. Keys: `status`, `builds`, `slo`, `alerts`.',
    handle: (_input, { live }, { response }) => live.watchDaemon(response),
  }),
  route({
    path: '/slo',
    summary: 'The objectives as they are judged now; the same as /slo.',
    answer: model.sloReport,
    handle: (_input, { providers }) => providers.slo(),
  }),
  route({
    path: '/slo/:name/series',
    summary: 'What an objective counted over its period, in equal parts: burn and burn-down charts are drawn from it.',
    params: z.strictObject({ name }),
    query: z.strictObject({ parts: z.coerce.number().int().min(2).max(1000).default(168) }),
    answer: model.sloSeries,
    handle: ({ params, query }, { providers }) => {
      const series = providers.sloSeries(params.name, query.parts);
      if (series === undefined)
        throw new BuildError('not-found', `there is no objective ${params.name}`, { hint: '/api/v1/slo lists them' });
      return series;
    },
  }),
  route({
    path: '/alerts',
    summary: 'What fires now, as far as the daemon judges it itself; rules that need Prometheus are not among them.',
    answer: z.object({ alerts: z.array(model.alert) }),
    handle: async (_input, { providers }) => ({ alerts: await providers.alerts() }),
  }),
  route({
    path: '/runbooks/:name',
    summary: 'A runbook, rendered.',
    params: z.strictObject({ name }),
    answer: model.runbook,
    handle: ({ params }, { providers }) => readRunbook(params.name, providers.runbook),
  }),
  route({
    path: '/openapi.json',
    summary: 'This table as OpenAPI 3.1.',
    answer: 'An OpenAPI document.',
    handle: (_input, { providers }) => openApiOf(ROUTES, providers.version),
  }),
  route({
    method: 'POST',
    path: '/drain',
    summary: 'Takes no new builds from now on and reports not ready; builds that run go on. Only a restart undoes it.',
    act: 'drain',
    answer: z.object({ draining: z.literal(true) }),
    handle: (_input, { providers }) => {
      needed(providers.writes.drain)();
      return { draining: true };
    },
  }),
];

const CACHE_ROUTES: readonly Route[] = [
  route({
    path: '/cache',
    summary: 'Size by kind, limit, disk, growth, garbage collection policies and last runs.',
    answer: model.cache,
    handle: (_input, { providers }) => providers.cache(),
  }),
  route({
    path: '/cache/records',
    summary: 'Cache records, largest first.',
    query: z.strictObject({ limit: z.coerce.number().int().min(1).max(1000).default(100) }),
    answer: z.object({ total: z.int(), records: z.array(model.cacheRecord) }),
    handle: async ({ query }, { providers }) => {
      const records = await providers.cacheRecords();
      return { total: records.length, records: records.slice(0, query.limit) };
    },
  }),
  route({
    path: '/gc/plan',
    summary: 'What a run of the garbage collection policies would remove now, in order. Removes nothing.',
    answer: model.gcPlan,
    handle: (_input, { providers }) => providers.gcPlan(),
  }),
  route({
    method: 'POST',
    path: '/gc/run',
    summary: 'Runs the garbage collection policies now.',
    act: 'gc.run',
    answer: model.gcRun,
    handle: (_input, { providers }, { signal }) => needed(providers.writes.collect)(signal),
  }),
  route({
    method: 'POST',
    path: '/cache/prune',
    summary: 'Removes cache records that nothing uses, whatever the policies say.',
    body: z.strictObject({
      all: z.boolean().default(false).describe('also internal, frontend and shared records'),
      filters: z.array(z.string().max(1000)).max(32).default([]).describe('only records that match one of these'),
      keepSeconds: z.number().min(0).max(1e9).default(0).describe('records used within this time stay'),
      keepBytes: z.number().min(0).max(1e18).default(0).describe('stop when no more than this is used; 0: no bound'),
    }),
    act: 'cache.prune',
    answer: z.object({ removed: z.int(), bytes: z.number() }),
    handle: ({ body }, { providers }, { signal }) => needed(providers.writes.prune)(body, signal),
  }),
];

export const ROUTES: readonly Route[] = [...DAEMON_ROUTES, ...SLO_ROUTES, SUBMIT_ROUTE, ...BUILD_ROUTES, ...CACHE_ROUTES];

function needed<T>(write: T | undefined): T {
  if (write === undefined) throw new BuildError('unsupported', 'this daemon has no function for this call');
  return write;
}
