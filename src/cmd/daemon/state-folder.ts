/** The folder a daemon keeps everything in: held by one daemon at a time, in a layout it knows. */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Sys } from '../../builder/worker/sys/ports.ts';
import { BuildError } from '../../core/errors.ts';

/** One daemon per root: the lock is the kernel's and goes with the process. */
export function lockRoot(sys: Sys, root: string): Disposable {
  const lock = sys.lockFile(join(root, 'lock'));
  if (lock.held) return lock.lock;
  throw new BuildError('unavailable', `the state folder ${root} is held by the daemon with process id ${lock.pid}`, {
    hint: 'stop it, or start this one with another --root',
  });
}

const LAYOUT = '1';

/** @throws BuildError `invalid-input` for a state folder of another layout. */
export function checkLayout(root: string): void {
  const file = join(root, 'VERSION');
  if (!existsSync(file)) {
    writeFileSync(file, `${LAYOUT}\n`);
    return;
  }
  const found = readFileSync(file, 'utf8').trim();
  if (found !== LAYOUT) {
    throw new BuildError('invalid-input', `the state folder ${root} has layout ${found}, this daemon knows ${LAYOUT}`, {
      hint: 'use the version that wrote it, or another --root',
    });
  }
}

/** The worker's id: made once per state folder. */
export function identityOf(root: string): string {
  const file = join(root, 'worker-id');
  if (!existsSync(file)) writeFileSync(file, randomBytes(13).toString('hex').slice(0, 25));
  return readFileSync(file, 'utf8').trim();
}

/**
 * The folder for what exists only while something is under way, emptied of what a killed daemon left in it. Its mounts went with its
 * mount namespace; an entry below which something is mounted all the same stays, since nothing may be deleted through a mount.
 */
export function openTemp(root: string): string {
  const dir = join(root, 'tmp');
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '');
  for (const name of readdirSync(dir)) {
    const path = join(dir, name);
    if (!mounts.some((point) => point === path || point.startsWith(`${path}/`))) rmSync(path, { recursive: true, force: true });
  }
  return dir;
}
