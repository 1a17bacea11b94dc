/**
 * What a daemon that was killed leaves running. Two nets: a watcher process that outlives the daemon and kills the containers of its run
 * at once, and a sweep at the next start for when the watcher was killed too. Both find containers by the control groups of the run; the
 * directories that hold them are listed in a file on disk, since the run's own directory is a tmpfs that goes with the mount namespace.
 */
import { appendFileSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Cgroups, killGroupMembers } from './cgroups.ts';
import type { Child, Sys } from './sys/ports.ts';

const GROUPS = '.groups';
const SWEEP_MS = 5_000; // a killed process is gone in milliseconds unless it hangs in the kernel
const SWEEP_STEP_MS = 5;

/** The list of one run: directories of control groups, one a line. */
export const groupsFile = (runDir: string): string => `${runDir}${GROUPS}`;

export function recordGroups(runDir: string, dir: string): void {
  appendFileSync(groupsFile(runDir), `${dir}\n`);
}

/**
 * Starts the watcher of one run of the daemon. A line on its stdin ends it; when `read` meets the end instead, we are gone, and it kills
 * until no container of the run has had a process for a second (one may just be starting), at most 10 s. Without control groups containers are known by the pid files in their bundles.
 */
export function startWatcher(runDir: string, sys: Sys): Child {
  const script = `trap '' HUP INT TERM
read -r word && exit 0
i=0 quiet=0
while [ $i -lt 200 ]; do
  found=
  for procs in $(sed 's|$|/*/*/cgroup.procs|' "$1" 2>/dev/null) "$2"/*/pid; do
    [ -e "$procs" ] || continue
    while read -r pid || [ -n "$pid" ]; do kill -9 "$pid" 2>/dev/null && found=1; done < "$procs" 2>/dev/null
  done
  if [ -n "$found" ]; then quiet=0; else quiet=$((quiet + 1)); fi
  [ $quiet -lt 20 ] || exit 0
  i=$((i + 1))
  sleep 0.05
done`;
  return sys.spawn({
    file: '/bin/sh',
    args: ['cooper-watch', '-c', script, 'cooper-watch', groupsFile(runDir), runDir],
    env: ['PATH=/usr/bin:/bin'],
    stdin: 'pipe',
    newGroup: true,
  });
}

/** Kills what earlier runs in `dir` left running and removes their directories and groups. How many processes there were. */
export async function sweepLeftovers(dir: string, cgroups: Cgroups, sys: Sys): Promise<number> {
  let killed = 0;
  const names = namesIn(dir);
  for (const name of names.filter((each) => each.endsWith(GROUPS))) {
    for (const group of readFileSync(join(dir, name), 'utf8').split('\n').filter(Boolean)) killed += await endAll(group, cgroups);
    rmSync(join(dir, name));
  }
  for (const run of names.filter((each) => !each.endsWith(GROUPS))) {
    for (const state of namesIn(join(dir, run, 'state'))) unmountAll(join(dir, run, 'state', state), sys);
    sys.unmount(join(dir, run));
    rmSync(join(dir, run), { recursive: true, force: true });
  }
  return killed;
}

async function endAll(group: string, cgroups: Cgroups): Promise<number> {
  const first = killGroupMembers(group);
  for (let waited = 0; waited < SWEEP_MS && killGroupMembers(group) > 0; waited += SWEEP_STEP_MS) await sleep(SWEEP_STEP_MS);
  cgroups.removeLeft(group);
  return first;
}

/** runc binds a copy of itself into its state directory for the moment of a start. */
function unmountAll(dir: string, sys: Sys): void {
  for (const name of namesIn(dir)) if (name.startsWith('runc.')) sys.unmount(join(dir, name));
}

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}
