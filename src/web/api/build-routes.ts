/** Calls about builds and their steps. */
import * as z from 'zod';
import { BuildError } from '../../core/errors.ts';
import { compare } from './compare.ts';
import { sendLogEvents, sendLogText } from './log-stream.ts';
import * as model from './model.ts';
import { type ApiContext, type Route, route } from './route.ts';
import { HISTORY_BUILDS, runsOf, summarise } from './step-history.ts';

const ref = z.string().min(1).max(256);
const OF_BUILD = z.strictObject({ ref });
const digest = z
  .string()
  .max(128)
  .regex(/^[a-z0-9]+:[0-9a-f]+$/, 'a vertex digest, as in steps[].digest');
const ONE_STEP = z.strictObject({ step: z.optional(digest.describe('only the output of this step')) });
const FOLLOWED = ONE_STEP.extend({ kind: z.optional(z.enum(['log', 'warning']).describe('only output, or only warnings')) });
const MAX_LISTED = 500;

export const BUILD_ROUTES: readonly Route[] = [
  route({
    path: '/builds',
    summary: 'Running builds, then finished ones, newest first.',
    query: z.strictObject({
      limit: z.coerce.number().int().min(1).max(MAX_LISTED).default(50),
      after: z.optional(ref.describe('the page after this build')),
      state: z.optional(model.buildState),
      text: z.optional(z.string().max(200).describe('part of ref, name, repository or error')),
    }),
    answer: z.object({ builds: z.array(model.buildSummary) }),
    handle: ({ query }, { providers }) => ({ builds: providers.builds(query) }),
  }),
  route({
    path: '/builds/:ref',
    summary: 'One build.',
    params: OF_BUILD,
    answer: model.buildDetail,
    handle: ({ params }, context) => buildOf(params.ref, context),
  }),
  route({
    path: '/builds/:ref/steps',
    summary: 'Its steps: when they ran, why they were not cached, what they used, and the critical path.',
    params: OF_BUILD,
    answer: model.steps,
    handle: ({ params }, context) => stepsOf(params.ref, context),
  }),
  route({
    path: '/builds/:ref/explain',
    summary: 'Why steps of a finished build were not cached: first causes, what changed, and which steps follow from each.',
    params: OF_BUILD,
    query: z.strictObject({ against: z.optional(ref.describe('the build to compare with; absent: the nearest earlier one')) }),
    answer: model.explanation,
    handle: async ({ params, query }, { providers }) => {
      const { against } = query;
      return found(
        await providers.explain(params.ref, against),
        against === undefined ? params.ref : `${params.ref} or ${against}`,
      );
    },
  }),
  route({
    path: '/builds/:ref/live',
    summary: 'Follows a build and its steps to the end.',
    params: OF_BUILD,
    answer:
      'Server-sent events as of /live. Keys: `build`, `totals`, and the id of each step. `end` when nothing will change any more.',
    handle: async ({ params }, context, { response }) => {
      await buildOf(params.ref, context);
      context.live.watchBuild(params.ref, response);
    },
  }),
  route({
    path: '/builds/:ref/logs',
    summary: 'Output of its steps; of a running build, until it ends.',
    params: OF_BUILD,
    query: ONE_STEP,
    answer: 'Text.',
    handle: ({ params, query }, context, { response, signal }) =>
      sendLogText(logsOf(params.ref, context, signal), response, { step: query.step }, signal),
  }),
  route({
    path: '/builds/:ref/logs/live',
    summary: 'Output and warnings, from the first line on, then as they come.',
    params: OF_BUILD,
    query: FOLLOWED,
    answer: 'Server-sent events: `lines` with an array of {kind, step, atMs, text, stream, url, place}, then `end`.',
    handle: ({ params, query }, context, { response, signal }) => {
      const lines = logsOf(params.ref, context, signal);
      context.live.take(response);
      return sendLogEvents(lines, response, query, signal);
    },
  }),
  route({
    path: '/builds/:ref/trace',
    summary: 'Its spans.',
    params: OF_BUILD,
    answer: z.object({ spans: z.array(z.looseObject({ name: z.string(), traceId: z.string(), spanId: z.string() })) }),
    handle: async ({ params }, { providers }) => ({ spans: found(await providers.traceJson(params.ref), params.ref) }),
  }),
  route({
    method: 'POST',
    path: '/builds/:ref/cancel',
    summary: 'Stops a build that waits or runs; its client sees the reason.',
    params: OF_BUILD,
    body: z.strictObject({ reason: z.string().max(200).default('') }),
    act: 'build.cancel',
    answer: z.object({ cancelled: z.literal(true) }),
    handle: ({ params, body }, { providers }) => {
      const { cancelBuild } = providers.writes;
      if (cancelBuild === undefined) throw new BuildError('unsupported', 'this daemon has no function for this call');
      if (!cancelBuild(params.ref, body.reason)) throw new BuildError('not-found', `no build ${params.ref} is running`);
      return { cancelled: true };
    },
  }),
  route({
    path: '/compare',
    summary: 'Two builds side by side, step by step.',
    query: z.strictObject({ a: ref, b: z.optional(ref.describe('absent: A against the build of the same name before it')) }),
    answer: model.comparison,
    handle: ({ query }, context) => compareBuilds(query.a, query.b, context),
  }),
  route({
    path: '/steps',
    summary: `Steps across the newest ${HISTORY_BUILDS} builds, the one that cost most time first.`,
    query: z.strictObject({ limit: z.coerce.number().int().min(1).max(MAX_LISTED).default(100) }),
    answer: z.object({ builds: z.int(), steps: z.array(model.stepSummary) }),
    handle: async ({ query }, context) => {
      const builds = await newestBuilds(context);
      return { builds: builds.length, steps: summarise(builds).slice(0, query.limit) };
    },
  }),
  route({
    path: '/steps/history',
    summary: `One step, by its name, in the newest ${HISTORY_BUILDS} builds.`,
    query: z.strictObject({ name: z.string().min(1).max(2000) }),
    answer: z.object({ runs: z.array(model.stepRun) }),
    handle: async ({ query }, context) => ({ runs: runsOf(query.name, await newestBuilds(context)) }),
  }),
];

function found<T>(value: T | undefined, build: string): T {
  if (value === undefined)
    throw new BuildError('not-found', `there is no build ${build}`, { hint: '/api/v1/builds lists those that are kept' });
  return value;
}

const buildOf = async (build: string, { providers }: ApiContext) => found(await providers.build(build), build);
const logsOf = (build: string, { providers }: ApiContext, signal: AbortSignal) => found(providers.logs(build, signal), build);

async function stepsOf(build: string, context: ApiContext): Promise<model.Steps> {
  await buildOf(build, context);
  const steps = await context.steps.of(build);
  if (steps === undefined)
    throw new BuildError('not-found', `the trace of build ${build} is not kept`, { hint: 'its log is at logs' });
  return steps;
}

async function newestBuilds({ providers, steps }: ApiContext) {
  const builds = [];
  for (const build of providers.builds({ limit: HISTORY_BUILDS })) {
    const of = await steps.of(build.ref);
    if (of !== undefined) builds.push({ build, steps: of });
  }
  return builds;
}

/** Without `b`, the build before `a` of the same name is A and `a` is B, so that the sentence reads forwards in time. */
async function compareBuilds(a: string, b: string | undefined, context: ApiContext): Promise<model.Comparison> {
  const [first, second] = b === undefined ? [await previousOf(a, context), a] : [a, b];
  const side = async (build: string) => {
    const {
      options,
      frontend: _f,
      exporters: _e,
      response: _r,
      logBytes: _l,
      resources: _s,
      ...rest
    } = await buildOf(build, context);
    return { summary: rest, options, rawOptions: context.providers.rawOptions(build), steps: await stepsOf(build, context) };
  };
  return compare(await side(first), await side(second));
}

async function previousOf(build: string, context: ApiContext): Promise<string> {
  const { name, repository } = await buildOf(build, context);
  const before = context.providers.builds({ limit: MAX_LISTED, after: build });
  const previous = before.find((other) => other.name === name && other.repository === repository && other.endedAt !== undefined);
  if (previous === undefined)
    throw new BuildError('not-found', `no earlier build of ${name} is kept to compare ${build} with`, {
      hint: 'name one with b=REF',
    });
  return previous.ref;
}
