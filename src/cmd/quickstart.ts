/**
 * `npm start`: a daemon on its defaults, the shipped example built cold and again from the cache, the objectives, the trace of the
 * build, and where to look next. Stays until Ctrl-C, which drains the daemon.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, copyFileSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError } from '../core/errors.ts';
import { formatSloTable, type SloReport } from '../slo/report.ts';
import { parseArguments, textOf } from './args.ts';
import { build } from './client/build.ts';
import { contextBuild } from './client/build-command.ts';
import { connectTo, getOpsJson } from './client/endpoint.ts';
import { formatWaterfall, type WaterfallSpan } from './client/waterfall.ts';
import { defaultsFor } from './defaults.ts';
import { openDisplay } from './progress/open-display.ts';

const EXAMPLE = join(import.meta.dirname, '..', '..', 'examples', 'hello');
const START_MS = 30_000;
const FLAGS = [
  { name: 'root', kind: 'text', value: 'DIR', doc: 'state folder' },
  { name: 'addr', kind: 'text', value: 'ADDRESS', doc: 'address of the build API' },
  { name: 'ops-addr', kind: 'text', value: 'HOST:PORT', doc: 'address of the ops server' },
  { name: 'progress', kind: 'text', value: 'MODE', doc: 'auto, plain, tty or rawjson' },
  { name: 'once', kind: 'switch', doc: 'stop after the example instead of waiting for Ctrl-C' },
] as const;

export async function run(argv: readonly string[]): Promise<number> {
  const args = parseArguments(argv, FLAGS);
  const defaults = defaultsFor(process.getuid?.() ?? -1, process.env);
  const root = textOf(args, 'root') ?? defaults.root;
  const address = textOf(args, 'addr') ?? defaults.address;
  const ops = textOf(args, 'ops-addr') ?? defaults.opsAddress;
  const stop = stopRequest();
  await using daemon = await startDaemon({ root, address, ops });
  const context = exampleContext();
  const show = async (title: string): Promise<string> => {
    console.log(`\n== ${title}`);
    await using client = await connectTo(address);
    const { ref } = await build(client, {
      ...contextBuild(context),
      exporters: [{ type: 'image', attributes: new Map([['name', 'localhost/cooper-example:latest']]) }],
      entitlements: [],
      display: openDisplay(textOf(args, 'progress') ?? 'auto', process.stdout),
      signal: stop.signal,
    });
    return ref;
  };
  const cold = await show('the example, cold');
  await show('the example again: everything from the cache');
  console.log(`\n== service level objectives\n${formatSloTable(await getOpsJson<SloReport>(ops, '/slo'))}`);
  const { spans } = await getOpsJson<{ readonly spans: readonly WaterfallSpan[] }>(ops, `/api/v1/builds/${cold}/trace`);
  console.log(
    `\n== the cold build as a trace\n${formatWaterfall(spans, { width: process.stdout.columns ?? 110, phases: false })}`,
  );
  console.log(`
== where to look
  page              http://${ops}/          SLOs, alerts, builds, cache
  metrics           http://${ops}/metrics
  objectives        http://${ops}/slo          cooper slo status
  this trace        cooper trace ${cold}
  docker buildx     docker buildx create --name cooper --driver remote ${address} && docker buildx build --builder cooper .
  buildctl          buildctl --addr ${address} build --frontend dockerfile.v0 --local context=. --local dockerfile=.
  daemon log        ${daemon.logFile}
`);
  if (args.switches.get('once') === true) return 0;
  console.log('The daemon is running; Ctrl-C drains it and stops.');
  await Promise.race([stop.requested, daemon.exited]);
  if (!stop.signal.aborted) throw new BuildError('internal', `the daemon ended by itself:\n${daemon.logTail()}`);
  console.log('\ndraining');
  return 0;
}

/** The first Ctrl-C asks to stop; while a build runs it cancels it. */
function stopRequest(): { readonly signal: AbortSignal; readonly requested: Promise<void> } {
  const controller = new AbortController();
  const requested = new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => {
        controller.abort(new BuildError('cancelled', 'context canceled'));
        resolve();
      });
    }
  });
  return { signal: controller.signal, requested };
}

interface ChildDaemon extends AsyncDisposable {
  readonly logFile: string;
  readonly exited: Promise<unknown>;
  logTail(): string;
}

/** A daemon in a process of its own. Rejects with what it logged when it does not come up, for example who holds the root or the port. */
async function startDaemon({
  root,
  address,
  ops,
}: {
  readonly root: string;
  readonly address: string;
  readonly ops: string;
}): Promise<ChildDaemon> {
  mkdirSync(root, { recursive: true, mode: 0o711 });
  const logFile = join(root, 'daemon.log');
  const log = openSync(logFile, 'w', 0o600);
  const main = join(import.meta.dirname, import.meta.filename.endsWith('.ts') ? 'main.ts' : 'main.js');
  const child = spawn(
    process.execPath,
    [main, 'daemon', '--root', root, '--addr', address, '--ops-addr', ops, '--log-format', 'text'],
    {
      stdio: ['ignore', log, log],
      detached: true, // a Ctrl-C of the terminal reaches us only; we tell the daemon
    },
  );
  closeSync(log);
  const exited = once(child, 'exit');
  const running = (): boolean => child.exitCode === null && child.signalCode === null;
  const logTail = (): string => readFileSync(logFile, 'utf8').trim().split('\n').slice(-12).join('\n');
  const daemon: ChildDaemon = {
    logFile,
    exited,
    logTail,
    [Symbol.asyncDispose]: async () => {
      if (!running()) return;
      child.kill('SIGTERM');
      await exited;
    },
  };
  const untilMs = Date.now() + START_MS;
  while (Date.now() < untilMs) {
    if (!running()) throw new BuildError('unavailable', `the daemon did not start:\n${logTail()}`);
    // Another daemon may answer on that port; ours then ends and says so.
    const answer = await getOpsJson<{ readonly ready: boolean; readonly pid: number }>(ops, '/readyz').catch(() => undefined);
    if (answer?.ready === true && answer.pid === child.pid && running()) return daemon;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await daemon[Symbol.asyncDispose]();
  throw new BuildError('timed-out', `the daemon was not ready after ${START_MS / 1000} s:\n${logTail()}`);
}

/** The example with the machine's static busybox in it. */
function exampleContext(): string {
  const busybox = ['/usr/bin/busybox', '/bin/busybox'].find((path) => existsSync(path));
  if (busybox === undefined)
    throw new BuildError('not-found', 'the example needs a static busybox', { hint: 'apt-get install busybox-static' });
  const target = join(EXAMPLE, 'busybox');
  if (!existsSync(target)) copyFileSync(busybox, target);
  return EXAMPLE;
}
