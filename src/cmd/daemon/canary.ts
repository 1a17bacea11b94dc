/**
 * Canary builds: a small build the daemon makes of itself through its own build API, so that there is an answer to "would a build work
 * now?" when nobody builds. A new random file per run goes from the session through a COPY, a RUN (where the host has a static busybox)
 * and two exporters, and what comes back is compared; only the layer with busybox is ever taken from the cache. docs/adr/0010.
 */
import { createHash, randomBytes } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import type { RpcClient } from '../../builder/rpc/client.ts';
import { fileSendService } from '../../builder/session/attachables/file-send.ts';
import { abortable } from '../../core/abort.ts';
import { BuildError } from '../../core/errors.ts';
import { findStaticBinary } from './static-binary.ts';

export interface CanaryConfig {
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** A failing canary makes the daemon not ready. */
  readonly readiness: boolean;
}
export type CanaryResult = 'success' | 'failure' | 'error' | 'timeout';
export interface CanaryParts {
  readonly config: CanaryConfig;
  /** A folder of ours; made anew. */
  readonly dir: string;
  /** A connection to the build API of this daemon. */
  readonly connect: () => Promise<RpcClient>;
  /** Users' builds wait for a slot: the canary lets them go first, once. */
  readonly isBusy: () => boolean;
  /** Removes the records that earlier canaries left. */
  readonly tidy: (description: string) => Promise<void>;
  readonly onEnd: (result: CanaryResult, seconds: number, error: BuildError | undefined) => void;
}
export interface CanaryState {
  readonly runs: number;
  readonly last?: {
    readonly result: CanaryResult;
    readonly error?: string;
    readonly endedAtMs: number;
    readonly seconds: number;
  };
  readonly lastSuccessAtMs?: number;
  readonly failuresInARow: number;
  /** False where the host has no static busybox: then no process is run. */
  readonly runsProcess: boolean;
}
export interface Canary extends AsyncDisposable {
  readonly state: CanaryState;
}

const MARK = 'cooper-canary';
const TIDY_EVERY = 12;

/** Builds every `intervalMs` from one interval after now. Disposing stops, and waits for a build that runs. */
export function startCanary(parts: CanaryParts): Canary {
  const shell = findStaticBinary(['/bin/busybox', '/usr/bin/busybox', '/usr/local/bin/busybox']);
  const closing = new AbortController();
  let state: CanaryState = { runs: 0, failuresInARow: 0, runsProcess: shell !== undefined };
  let yielded = false;
  let running: Promise<void> = Promise.resolve();
  const tick = (): void => {
    if (closing.signal.aborted) return;
    yielded = !yielded && parts.isBusy();
    running = (yielded ? Promise.resolve() : once()).finally(schedule);
  };
  const once = async (): Promise<void> => {
    const startedMs = performance.now();
    const limit = AbortSignal.timeout(parts.config.timeoutMs);
    let error: BuildError | undefined;
    try {
      const signal = AbortSignal.any([limit, closing.signal]);
      await abortable(canaryBuild(parts, shell, signal), signal);
    } catch (thrown) {
      error = BuildError.from(thrown);
    }
    if (closing.signal.aborted) return; // stopped by us: says nothing
    const seconds = (performance.now() - startedMs) / 1000;
    const result = resultOf(error, limit.aborted);
    state = nextState(state, result, error, seconds);
    parts.onEnd(result, seconds, error);
    if (state.runs % TIDY_EVERY === 0) await parts.tidy(MARK).catch(() => {}); // garbage collection takes them some day
  };
  let timer: NodeJS.Timeout;
  const schedule = (): void => {
    timer = setTimeout(tick, parts.config.intervalMs);
    timer.unref();
  };
  schedule();
  return {
    get state() {
      return state;
    },
    async [Symbol.asyncDispose]() {
      closing.abort();
      clearTimeout(timer);
      await running;
      clearTimeout(timer);
      rmSync(parts.dir, { recursive: true, force: true });
    },
  };
}

function nextState(before: CanaryState, result: CanaryResult, error: BuildError | undefined, seconds: number): CanaryState {
  const endedAtMs = Date.now();
  const last = { result, endedAtMs, seconds, ...(error === undefined ? {} : { error: error.message }) };
  const lastSuccess = result === 'success' ? endedAtMs : before.lastSuccessAtMs;
  return {
    runs: before.runs + 1,
    last,
    failuresInARow: result === 'success' ? 0 : before.failuresInARow + 1,
    runsProcess: before.runsProcess,
    ...(lastSuccess === undefined ? {} : { lastSuccessAtMs: lastSuccess }),
  };
}

function resultOf(error: BuildError | undefined, timedOut: boolean): CanaryResult {
  if (error === undefined) return 'success';
  if (timedOut || error.kind === 'timed-out') return 'timeout';
  return error.fault === 'user' ? 'failure' : 'error';
}

/** For /readyz: always there, so that an operator sees when it last worked. */
export function canaryCheck(
  { state }: Canary,
  { readiness }: CanaryConfig,
): { readonly name: string; readonly ok: boolean; readonly detail: string } {
  const { last, failuresInARow } = state;
  const failed = last !== undefined && last.result !== 'success';
  const at = (ms: number): string => new Date(ms).toISOString();
  const since =
    state.lastSuccessAtMs === undefined ? 'none has succeeded' : `the last success was at ${at(state.lastSuccessAtMs)}`;
  const detail =
    last === undefined
      ? 'no canary build yet'
      : failed
        ? `${last.result}, ${failuresInARow} in a row, ${since}: ${last.error ?? 'no reason was told'}`
        : `success at ${at(last.endedAtMs)} in ${last.seconds.toFixed(2)} s${state.runsProcess ? '' : ', without a RUN: no static busybox on this host'}`;
  return { name: 'canary build', ok: !(failed && readiness), detail };
}

/** One build, and the check of what came back. Rejects with what went wrong. The client is loaded with the first. */
async function canaryBuild(parts: CanaryParts, shell: string | undefined, signal: AbortSignal): Promise<void> {
  const [{ build }, { contextBuild }] = await Promise.all([import('../client/build.ts'), import('../client/build-command.ts')]);
  const { dir } = parts;
  const nonce = randomBytes(32).toString('hex');
  const [context, out] = [join(dir, 'context'), join(dir, 'out')];
  rmSync(out, { recursive: true, force: true });
  mkdirSync(context, { recursive: true, mode: 0o700 });
  writeFileSync(join(context, MARK), nonce);
  writeFileSync(join(context, 'Dockerfile'), dockerfile(shell !== undefined));
  const copy = join(context, 'busybox'); // left as it is, so that it is sent once
  if (shell !== undefined && !existsSync(copy)) copyFileSync(shell, copy);
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  await using client = await parts.connect();
  const request = contextBuild(context);
  await build(client, {
    ...request,
    services: [
      ...request.services,
      fileSendService(
        new Map([
          [0, { type: 'directory', path: out }],
          [1, { type: 'stream', writable: nowhere }],
        ]),
      ),
    ],
    exporters: [
      { type: 'local', attributes: new Map() },
      { type: 'oci', attributes: new Map() },
    ],
    entitlements: [],
    internal: true,
    display: { update: () => {}, end: () => {} },
    signal,
  });
  const expected = shell === undefined ? nonce : `${createHash('sha256').update(nonce).digest('hex')}  -\n`;
  const proof = readFileSync(join(out, 'proof'), 'utf8');
  if (proof !== expected) throw new BuildError('corrupt', 'the canary build gave back something else than it was given');
}

function dockerfile(withRun: boolean): string {
  if (!withRun) return `FROM scratch\nCOPY ${MARK} /proof\n`;
  return [
    'FROM scratch AS work',
    'COPY busybox /busybox',
    `COPY ${MARK} /nonce`,
    `RUN ["/busybox", "sh", "-c", "/busybox sha256sum - < /nonce > /proof # ${MARK}"]`,
    'FROM scratch',
    `COPY --from=work /proof /proof`,
    '',
  ].join('\n');
}
