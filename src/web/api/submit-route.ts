/**
 * `POST /api/v1/builds`: a build over HTTP, for whoever has no build client. The answer is progress as lines of JSON, or the tarball that
 * was asked for, or 202 at once. A caller who goes away takes the build along, unless it was detached.
 */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import * as z from 'zod';
import { BuildError, type ErrorSource } from '../../core/errors.ts';
import { Refusal, statusOf } from '../http/refusal.ts';
import { readsOn } from './log-stream.ts';
import type { Call } from './route.ts';
import { type Route, route } from './route.ts';
import { type BuildNews, type BuildOptions, buildOptions, registryAuth, type SubmittedBuild } from './submit.ts';

const UPLOADS = /^application\/(x-tar|tar|gzip|x-gzip|zstd|octet-stream)\b/i;
const STALLED_UPLOAD_MS = 30_000;
const CONTEXT_LINES = 2;

export const SUBMIT_ROUTE: Route = route({
  method: 'POST',
  path: '/builds',
  summary: 'Builds: a tar archive as body, or a URL or a Dockerfile as JSON.',
  query: z.strictObject({
    options: z.optional(
      z.string().max(65_536).describe('with a tar archive as body: what the body would say otherwise, as JSON'),
    ),
  }),
  body: buildOptions,
  act: 'build.submit',
  isUpload: ({ headers }) => UPLOADS.test(headers['content-type'] ?? ''),
  answer: [
    'Lines of JSON (`application/x-ndjson`): `accepted` with the `ref`; then `step` (`step`, `name`, `state`: started, cached, done, failed), `log` (`step`,',
    '`stream`, `text`) and `warning`; last `result` (`ref`, `response`, `times`, `steps`) or `error` (`ref`, `error` with `kind`, `message`, `hint` and `source`:',
    'file, line and the text there). With `output` oci, docker or tar the answer is the tarball, and a failure has a status: 422 when the input is wrong.',
    'With `detach`: 202 and `{"ref"}`. `X-Cooper-Build` names the build. 413: the context is larger than `cooper.submit.max-context`; 429 with `Retry-After`:',
    'more than `cooper.submit.max-builds` at once or `cooper.submit.max-per-minute`. An upload is `application/x-tar`, plain, gzip or zstd; devices, links and names that lead',
    'out of it are refused. `X-Registry-Auth` is base64 of `{"HOST": {"username", "password"}}`; credentials of the machine are never used.',
    'When the caller goes away the build is cancelled.',
  ].join(' '),
  handle: async ({ query, body }, context, call) => {
    const { submit } = context.providers.writes;
    if (submit === undefined) throw new BuildError('unsupported', 'this daemon takes no builds over HTTP');
    const isUpload = SUBMIT_ROUTE.isUpload?.(call.request) === true;
    if (!isUpload && query.options !== undefined)
      throw new BuildError('invalid-input', 'query.options: only with an archive as body', {
        hint: 'put the options into the body',
      });
    const options = isUpload ? optionsOf(query.options) : body;
    check(options, isUpload);
    const { headers } = call.request;
    const { 'content-length': length, traceparent } = headers;
    call.request.setTimeout(STALLED_UPLOAD_MS, () => call.request.destroy());
    const order = {
      options,
      upload: isUpload
        ? {
            body: call.request.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>,
            sizeBytes: length === undefined ? undefined : Number(length),
          }
        : undefined,
      registryAuth: parsed(registryAuth, 'X-Registry-Auth', decoded(headers['x-registry-auth'])),
      traceparent: typeof traceparent === 'string' ? traceparent : undefined,
      actor: call.actor,
    };
    const build = await submit(order, call.signal);
    call.request.setTimeout(0);
    await answer(build, options, call);
    return undefined;
  },
});

async function answer(build: SubmittedBuild, options: BuildOptions, call: Call): Promise<void> {
  const { response } = call;
  response.setHeader('x-cooper-build', build.ref);
  if (options.detach) {
    build.detach();
    return void response.status(202).json({ ref: build.ref });
  }
  await using _build = build; // whoever goes takes the build along
  const gone = (): void => void build[Symbol.asyncDispose]();
  call.signal.addEventListener('abort', gone, { once: true });
  try {
    if (['oci', 'docker', 'tar'].includes(options.output)) await sendDownload(build, call);
    else await sendProgress(build, call);
  } finally {
    call.signal.removeEventListener('abort', gone);
  }
}

async function sendProgress(build: SubmittedBuild, { response, signal }: Call): Promise<void> {
  const send = async (line: object): Promise<boolean> => {
    response.write(`${JSON.stringify(line)}\n`);
    return await readsOn(response, signal);
  };
  response.setHeader('content-type', 'application/x-ndjson');
  response.flushHeaders();
  await send({ type: 'accepted', ref: build.ref });
  build.end.catch(() => {});
  try {
    for await (const line of build.news(signal) as AsyncIterable<BuildNews>) if (!(await send(line))) return;
  } catch {
    // progress is lost, or the build was refused before it had any: its end says which
  }
  await send(await lastLine(build));
  response.end();
}

async function lastLine(build: SubmittedBuild): Promise<object> {
  const { ref } = build;
  try {
    const { response } = await build.end;
    return { type: 'result', ref, response, times: build.times(), steps: build.counts() };
  } catch (thrown) {
    return { type: 'error', ref, error: errorOf(BuildError.from(thrown)), times: build.times(), steps: build.counts() };
  }
}

async function sendDownload(build: SubmittedBuild, { response }: Call): Promise<void> {
  try {
    const { download } = await build.end;
    if (download === undefined) throw new BuildError('internal', 'the build has left nothing to download');
    response.setHeader('content-type', 'application/x-tar');
    response.setHeader('content-length', (await stat(download)).size);
    await pipeline(createReadStream(download), response);
  } catch (thrown) {
    if (response.headersSent) return void response.destroy();
    const error = BuildError.from(thrown);
    response.status(error.fault === 'user' ? 422 : statusOf(error)).json({ ref: build.ref, error: errorOf(error) });
  }
}

function errorOf({ kind, message, detail: { hint, source } }: BuildError): object {
  return {
    kind,
    message: kind === 'internal' ? "internal error; the daemon's log has the details" : message,
    ...(hint !== undefined && { hint }),
    ...(source !== undefined && { source: placeOf(source) }),
  };
}

/** The file, the line, and the lines around it. */
function placeOf({ filename, data, ranges }: ErrorSource): object {
  const line = Math.min(...ranges.map(({ start }) => start.line));
  if (!Number.isFinite(line)) return { file: filename };
  const last = Math.max(...ranges.map(({ end }) => end.line), line);
  const first = Math.max(1, line - CONTEXT_LINES);
  const lines = new TextDecoder().decode(data).split('\n');
  const shown = lines.slice(first - 1, Math.min(lines.length, last + CONTEXT_LINES, first + 50));
  return { file: filename, line, endLine: last, excerpt: shown.map((text, at) => ({ line: first + at, text })) };
}

function optionsOf(query: string | undefined): BuildOptions {
  let value: unknown;
  try {
    value = JSON.parse(query ?? '{}');
  } catch (cause) {
    throw new BuildError('invalid-input', `query.options: ${(cause as Error).message}`, { hint: 'JSON, percent-encoded' });
  }
  return parsed(buildOptions, 'query.options', value);
}

function check({ output, names, push, context }: BuildOptions, isUpload: boolean): void {
  if (isUpload && context !== undefined)
    throw new BuildError('invalid-input', 'options.context: there is an archive already', { hint: 'send one or the other' });
  if (push && (output !== 'image' || names.length === 0))
    throw new BuildError('invalid-input', 'options.push: needs output "image" and a name', {
      hint: '{"output": "image", "names": ["registry.example/app:1"], "push": true}',
    });
}

function parsed<T extends z.ZodType>(schema: T, where: string, value: unknown): z.infer<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues
    .slice(0, 5)
    .map(({ path, message }) => `${[where, ...path].join('.')}: ${message.slice(0, 200)}`);
  throw new BuildError('invalid-input', problems.join('; '), { hint: 'docs/api.md says what this call takes' });
}

function decoded(header: string | string[] | undefined): unknown {
  if (header === undefined) return {};
  try {
    return JSON.parse(Buffer.from(String(header), 'base64').toString('utf8'));
  } catch {
    throw new Refusal(400, 'invalid-input', 'X-Registry-Auth: not base64 of JSON'); // never the text: it holds passwords
  }
}
