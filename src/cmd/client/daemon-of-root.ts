/** Finds the daemon that holds a state folder, and what it was started with, from the lock and /proc. */
import { readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';
import { join } from 'node:path';

export interface RunningDaemon {
  readonly pid: number;
  /** Arguments after `daemon`; undefined when the process cannot be looked into. */
  readonly argv: readonly string[] | undefined;
  readonly env: Readonly<Record<string, string>> | undefined;
}

/** Undefined when nobody holds the lock of this state folder. Takes no lock itself. */
export function daemonOfRoot(root: string): RunningDaemon | undefined {
  const pid = Number(textOf(join(root, 'lock')));
  if (!Number.isInteger(pid) || pid <= 0) return undefined;
  const argv = textOf(`/proc/${pid}/cmdline`)?.split('\0').slice(0, -1);
  if (argv === undefined || !(holds(pid, root) ?? argv.includes('daemon'))) return undefined;
  const at = argv.indexOf('daemon');
  const env = textOf(`/proc/${pid}/environ`)
    ?.split('\0')
    .flatMap((pair): [string, string][] =>
      pair.includes('=') ? [[pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]] : [],
    );
  return { pid, argv: at === -1 ? undefined : argv.slice(at + 1), env: env === undefined ? undefined : Object.fromEntries(env) };
}

/** Process ids are used again: the lock is held only by who has the file open. Undefined when that cannot be seen. */
function holds(pid: number, root: string): boolean | undefined {
  try {
    const lock = realpathSync(join(root, 'lock'));
    return readdirSync(`/proc/${pid}/fd`).some((fd) => linkOf(`/proc/${pid}/fd/${fd}`) === lock);
  } catch {
    return undefined;
  }
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined; // closed meanwhile
  }
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
