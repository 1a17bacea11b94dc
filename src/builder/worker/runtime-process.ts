/** One call of the OCI runtime: it runs the container in the foreground and ends with it. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BuildError } from '../../core/errors.ts';
import { killGroupMembers } from './cgroups.ts';
import { outputBuffer } from './output.ts';
import type { SandboxSpec } from './ports.ts';
import type { RuntimeInfo } from './runtime.ts';
import type { Child, ChildExit, Sys } from './sys/ports.ts';

export interface RuntimeCall {
  readonly runtime: RuntimeInfo;
  readonly id: string;
  /** Directory that holds config.json; the log goes there. */
  readonly bundle: string;
  readonly stateDir: string;
  /** Directory of the control group that names the container's processes; undefined where there are no control groups. */
  readonly group: string | undefined;
  readonly onOutput: SandboxSpec['onOutput'];
  readonly signal: AbortSignal;
}

const KILL_STEP_MS = 5;
const KILL_RUNTIME_AFTER_MS = 3_000; // the runtime ends by itself as soon as its container is dead; if not, it hangs
const GIVE_UP_AFTER_MS = 15_000;
const MAX_LOG_BYTES = 64 * 1024;
const ENV = ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'];

/** Resolves when the runtime has ended and all output was delivered. On abort everything in the container is killed first. */
export async function callRuntime(call: RuntimeCall, sys: Sys): Promise<ChildExit> {
  const { runtime, id, bundle, stateDir } = call;
  const child = sys.spawn({
    file: runtime.path,
    args: [
      ...[runtime.name, '--root', stateDir, '--log', logOf(bundle), '--log-format', 'json'],
      ...['run', '--bundle', bundle, '--pid-file', pidFileOf(bundle), id],
    ],
    env: ENV,
    stdout: 'pipe',
    stderr: 'pipe',
    newGroup: true,
  });
  const output = outputBuffer(call.onOutput);
  const drained = Promise.all([drain(child.stdout, 1, output.push), drain(child.stderr, 2, output.push)]);
  using _killer = killOnAbort(call, child);
  const exit = await child.exited;
  await drained;
  output.flush();
  return exit;
}

/** The process's status as shells tell it: 128 and the number for a signal. */
export const statusOf = ({ status, signal }: ChildExit): number => status ?? 128 + (signal ?? 0);

/**
 * Throws when the runtime failed, and not the process it ran: then its log holds an error, or it never got as far as writing down the
 * process's id. Whose fault a step's failure is hangs on this.
 */
export function throwRuntimeFailure(bundle: string, exit: ChildExit): void {
  const message = lastError(logOf(bundle));
  if (message === undefined && exit.status !== undefined) {
    if (existsSync(pidFileOf(bundle))) return;
    const text = `the OCI runtime ended with status ${exit.status} before it had started the process`;
    throw new BuildError('internal', text, { exitCode: exit.status });
  }
  if (message === undefined) throw new BuildError('internal', `the OCI runtime was killed by signal ${exit.signal}`);
  throw new BuildError(isUsersFault(message) ? 'invalid-input' : 'internal', message, { exitCode: statusOf(exit) });
}

const logOf = (bundle: string): string => join(bundle, 'log.json');
const pidFileOf = (bundle: string): string => join(bundle, 'pid');

function drain(source: Child['stdout'], stream: 1 | 2, push: (stream: 1 | 2, data: Uint8Array) => void): Promise<void> {
  if (source === undefined) return Promise.resolve();
  return new Promise((resolve) => {
    source.on('data', (chunk: Buffer) => push(stream, chunk));
    source.on('error', () => resolve());
    source.on('close', () => resolve());
  });
}

/**
 * On abort kills every process of the container; its first one takes the rest of its pid namespace with it, and the runtime then
 * cleans up and ends. The group may not exist yet or fill again while the runtime starts, so it is done until the runtime has ended,
 * which is when the caller disposes this.
 */
function killOnAbort({ signal, group, bundle }: RuntimeCall, child: Child): Disposable {
  let stopped = false;
  const kill = async (): Promise<void> => {
    for (let waited = 0; !stopped && waited < GIVE_UP_AFTER_MS; waited += KILL_STEP_MS) {
      if (group === undefined) killByPidFile(pidFileOf(bundle));
      else killGroupMembers(group);
      if (waited >= KILL_RUNTIME_AFTER_MS) child.kill('SIGKILL');
      await sleep(KILL_STEP_MS);
    }
  };
  const onAbort = (): void => void kill();
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  return {
    [Symbol.dispose]: () => {
      stopped = true;
      signal.removeEventListener('abort', onAbort);
    },
  };
}

function killByPidFile(path: string): void {
  try {
    process.kill(Number(readFileSync(path, 'utf8')), 'SIGKILL');
  } catch {
    // not written yet, or gone already
  }
}

/** The last error of the runtime's log. */
function lastError(log: string): string | undefined {
  let text: string;
  try {
    text = readFileSync(log, 'utf8').slice(-MAX_LOG_BYTES);
  } catch {
    return undefined;
  }
  const errors = text.split('\n').flatMap((line) => {
    try {
      const { level, msg } = JSON.parse(line) as { level?: string; msg?: string };
      return level === 'error' && msg !== undefined ? [msg] : [];
    } catch {
      return [];
    }
  });
  return errors.at(-1);
}

/** A command that is not there or cannot be run, a working directory the user may not enter, a mount of a file onto a directory. */
function isUsersFault(message: string): boolean {
  return (
    /exec(utable)?\b.*(not found|no such file|permission denied|exec format error|is a directory|not a directory)/i.test(
      message,
    ) ||
    /chdir to cwd/i.test(message) ||
    /mount a directory onto a file/i.test(message)
  );
}
