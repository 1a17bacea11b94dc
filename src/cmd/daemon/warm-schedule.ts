/** Warms the cache on a schedule: runs `cooper cache warm` as a process of its own, so that nothing it does can hold up the daemon. */
import { spawn } from 'node:child_process';
import type { Logger } from '../../telemetry/logs.ts';

export interface WarmConfig {
  /** List of targets; undefined: nothing is warmed. */
  readonly file: string | undefined;
  readonly periodMs: number;
}

const FIRST_MS = 5_000; // the daemon is ready by then
const MAX_OUTPUT = 4_096;

/** `command` is the program and arguments up to `cache warm`. One run at a time; a run that takes longer than the period skips a beat. */
export function scheduleWarmUp(
  { file, periodMs }: WarmConfig,
  command: readonly string[],
  address: string,
  log: Logger,
): Disposable {
  let child: ReturnType<typeof spawn> | undefined;
  const start = (): void => {
    if (child !== undefined || file === undefined) return;
    const [program = '', ...args] = command;
    child = spawn(program, [...args, 'cache', 'warm', file, '--addr', address], { stdio: ['ignore', 'ignore', 'pipe'] });
    let errors = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(0, MAX_OUTPUT);
    });
    child.on('error', (error) => {
      child = undefined;
      log.warn('cache warm-up could not be started', { error });
    });
    child.on('close', (code) => {
      child = undefined;
      if (code !== 0 && code !== null) log.warn('cache warm-up failed', { code, errors });
    });
  };
  if (file === undefined) return { [Symbol.dispose]() {} };
  const first = setTimeout(start, FIRST_MS);
  const timer = setInterval(start, Math.min(periodMs, 2 ** 31 - 1));
  first.unref();
  timer.unref();
  return {
    [Symbol.dispose]() {
      clearTimeout(first);
      clearInterval(timer);
      child?.kill('SIGTERM');
    },
  };
}
