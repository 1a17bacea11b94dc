/** Which OCI runtime runs the steps, and why. */
import { accessSync, constants, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError } from '../../core/errors.ts';
import type { CgroupLayout } from './cgroups.ts';
import type { Sys } from './sys/ports.ts';

/** A path names a binary that takes runc's or crun's arguments. */
export type RuntimeChoice = 'auto' | 'runc' | 'crun' | `/${string}`;
export interface RuntimeInfo {
  readonly name: 'runc' | 'crun';
  readonly path: string;
  readonly version: string;
  readonly seccomp: boolean;
  /** One sentence for `doctor` and the log. */
  readonly reason: string;
}

const SEARCH = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/**
 * `auto` takes crun where control groups are unified, the only layout it supports, and runc everywhere else.
 * @throws BuildError `unavailable` when no usable runtime is installed; the hint is the command that installs one.
 */
export async function findRuntime(choice: RuntimeChoice, layout: CgroupLayout, sys: Sys): Promise<RuntimeInfo> {
  const crunFits = layout === 'unified';
  const order = choice === 'auto' ? (crunFits ? (['crun', 'runc'] as const) : (['runc'] as const)) : ([choice] as const);
  if (choice === 'crun' && layout === 'v1') {
    throw new BuildError('unavailable', 'crun does not support hybrid control groups', {
      hint: 'set the runtime to runc or auto, or boot with systemd.unified_cgroup_hierarchy=1',
    });
  }
  for (const wanted of order) {
    const path = wanted.startsWith('/') ? wanted : SEARCH.map((dir) => join(dir, wanted)).find(isExecutable);
    if (path === undefined || !isExecutable(path)) continue;
    const text = await output(sys, path, ['--version']);
    const version = /version (\S+)/.exec(text)?.[1];
    if (version === undefined) continue;
    const name = text.startsWith('crun') ? 'crun' : 'runc';
    const seccomp = /libseccomp|\+SECCOMP/.test(text) && kernelHasSeccomp();
    return { name, path, version, seccomp, reason: reasonFor(name, choice, layout) };
  }
  throw new BuildError('unavailable', `no OCI runtime found: ${order.join(' or ')} is needed to run steps`, {
    hint: 'apt-get install runc',
  });
}

function reasonFor(name: string, choice: RuntimeChoice, layout: CgroupLayout): string {
  if (choice !== 'auto') return `${name} as configured`;
  if (name === 'crun') return 'crun, the faster one: control groups are unified';
  return layout === 'unified' ? 'runc: crun is not installed' : 'runc: crun needs unified control groups';
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

const kernelHasSeccomp = (): boolean => /^Seccomp:/m.test(readFileSync('/proc/self/status', 'utf8'));

async function output(sys: Sys, file: string, args: readonly string[]): Promise<string> {
  const child = sys.spawn({ file, args: [file, ...args], env: [`PATH=${SEARCH.join(':')}`], stdout: 'pipe' });
  let text = '';
  for await (const chunk of child.stdout ?? []) text += String(chunk);
  await child.exited;
  return text;
}
