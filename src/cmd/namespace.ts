/**
 * The daemon lives in a mount namespace of its own: overlay mounts are invisible to the host and vanish with the last process of the
 * daemon, however it ends. Without root it also lives in a user namespace, in which it may mount. Entered by replacing this process
 * before anything is loaded, so the process id stays what the service manager knows.
 */
import { accessSync, constants } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { BuildError } from '../core/errors.ts';

const INSIDE = 'COOPER_INSIDE_NAMESPACE';

/** True inside the user namespace of an unprivileged daemon. */
export const isRootless = (env: NodeJS.ProcessEnv): boolean => env[INSIDE] === 'user';

/** Returns when the process is already inside; otherwise replaces the process and does not return. */
export function enterNamespace(uid: number, env: NodeJS.ProcessEnv): void {
  if (env[INSIDE] !== undefined) return;
  const unshare = ['/usr/bin/unshare', '/bin/unshare'].find(isExecutable);
  if (unshare === undefined || process.execve === undefined) {
    throw new BuildError('unavailable', 'the daemon needs unshare(1) for its own mount namespace', {
      hint: 'install util-linux',
    });
  }
  const options =
    uid === 0
      ? ['--mount', '--propagation', 'slave']
      : ['--user', '--map-root-user', ...(canMapRange() ? ['--map-auto'] : []), '--mount'];
  const self = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  // Threads load TypeScript of their own when they start; compiled code kept on disk takes that from 500 ms to 60.
  const compileCache =
    env.NODE_COMPILE_CACHE ?? join(env.XDG_CACHE_HOME ?? (uid === 0 ? '/var/cache' : join(homedir(), '.cache')), 'cooper');
  process.execve(unshare, [unshare, ...options, '--', ...self], {
    ...(env as Record<string, string>),
    NODE_COMPILE_CACHE: compileCache,
    // Threads of glibc keep heaps of their own, which it never hands back whole; with two the daemon idles 10 MB smaller and builds as fast.
    MALLOC_ARENA_MAX: env.MALLOC_ARENA_MAX ?? '2',
    [INSIDE]: uid === 0 ? 'mount' : 'user',
  });
}

/** newuidmap and newgidmap give an unprivileged user the id range of /etc/subuid; without them only its own id is mapped. */
const canMapRange = (): boolean => ['/usr/bin/newuidmap', '/usr/bin/newgidmap'].every(isExecutable);

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
