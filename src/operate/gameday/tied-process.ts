/** Programs of a stand: their output goes to a file, and they die with us, also when we are killed. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { BuildError } from '../../core/errors.ts';

export interface TiedProcess extends AsyncDisposable {
  readonly pid: number;
  readonly child: ChildProcess;
  logTail(): string;
}

let tie: readonly string[] | undefined;
/** setpriv asks the kernel to send SIGKILL when the parent is gone, and then becomes the program: same process id. */
const tieWords = (): readonly string[] => {
  tie ??= spawnSync('setpriv', ['--pdeathsig', 'KILL', 'true']).status === 0 ? ['setpriv', '--pdeathsig', 'KILL'] : [];
  return tie;
};

export function startTied(logFile: string, command: readonly string[]): TiedProcess {
  const log = openSync(logFile, 'a');
  const [program = '', ...args] = [...tieWords(), ...command];
  const child = spawn(program, args, { stdio: ['ignore', log, log], detached: true });
  closeSync(log);
  child.on('error', () => undefined);
  return {
    pid: child.pid ?? -1,
    child,
    logTail: () => readFileSync(logFile, 'utf8').slice(-2_000),
    async [Symbol.asyncDispose]() {
      if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
      const exit = once(child, 'exit');
      child.kill('SIGCONT'); // it may have been frozen
      child.kill('SIGTERM');
      await Promise.race([exit, sleep(8_000, undefined, { ref: false })]);
      child.kill('SIGKILL');
      await exit;
    },
  };
}

/** Until the URL answers 200. Rejects with the end of the program's log when it does not. */
export async function answering(what: string, url: string, program: TiedProcess, timeoutMs = 40_000): Promise<void> {
  const untilMs = Date.now() + timeoutMs;
  for (;;) {
    const ok = await fetch(url, { signal: AbortSignal.timeout(2_000) }).then(
      (response) => response.ok,
      () => false,
    );
    if (ok) return;
    const over = program.child.exitCode !== null || program.child.signalCode !== null;
    if (over || Date.now() > untilMs) throw new BuildError('unavailable', `${what} did not come up: ${program.logTail()}`);
    await sleep(50);
  }
}
