/**
 * Whether a step lost a process for lack of memory, which one, and whose limit it was. Version 2 groups count such kills; everywhere
 * the kernel's log names the process and the group (`oom-kill:constraint=...`), where we may read it. Looked at only when a step failed.
 */
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { totalmem } from 'node:os';
import type { OomKill } from '../events.ts';
import { fieldOf, read } from './group-readings.ts';
import type { ChildExit } from './sys/ports.ts';

export interface OomCase {
  readonly exit: ChildExit;
  /** Group of the container, as the kernel's log spells it; it was never used before. Undefined without groups. */
  readonly group: string | undefined;
  readonly peakBytes: number;
  /** Of the step itself; 0 is none. */
  readonly limitBytes: number;
  /** `memory.events` of the slot (version 2). */
  readonly events: string | undefined;
  /** Limit of a group above the step's, by the path in the kernel's log. */
  readonly limitOf: (group: string) => number | undefined;
  /** Kills on this machine before the step could have had one, from `killsOnMachine`. */
  readonly killsBefore: bigint;
}

/** A line of the kernel's log that is about a kill. */
export interface KernelKill {
  readonly process: string;
  /** The group whose limit was reached; undefined when the machine's memory was used up. */
  readonly limited: string | undefined;
  readonly victim: string;
}

const ROOM_FOR_CHARGES = 64 * 4096 * 4; // the kernel charges pages in advance, so a killed step may stay that far below its limit
const MAX_RECORD = 8192;
const MAX_RECORDS = 20_000;

export function oomKillOf(given: OomCase, kernelKills: () => readonly KernelKill[] = readKernelKills): OomKill | undefined {
  const { exit, events, peakBytes, limitBytes } = given;
  if (exit.status === 0) return undefined;
  const counted = fieldOf(events, 'oom_kill');
  const suspected = counted === undefined ? killsOnMachine() > given.killsBefore : counted > 0n;
  if (!suspected) return undefined;
  const kills = given.group === undefined ? [] : kernelKills();
  const kill = lastKillIn(kills, given.group ?? '');
  if (kill !== undefined) return fromKernel(given, kill);
  if (counted !== undefined) return verdict((fieldOf(events, 'oom') ?? 0n) > 0n && limitBytes > 0 ? 'step' : 'daemon', given);
  // No count of our own. A log that tells of others' kills clears this step; without one, only a step that was killed can be the one.
  if (kills.length > 0 || exit.status !== 128 + 9) return undefined;
  return verdict(limitBytes > 0 && peakBytes >= limitBytes - ROOM_FOR_CHARGES ? 'step' : 'daemon', given);
}

function fromKernel(given: OomCase, { process, limited }: KernelKill): OomKill {
  const isOwn = given.limitBytes > 0 && given.group !== undefined && limited?.endsWith(given.group) === true;
  const limitBytes = isOwn ? given.limitBytes : limited === undefined ? totalmem() : given.limitOf(limited);
  return {
    scope: isOwn ? 'step' : 'daemon',
    process,
    peakBytes: given.peakBytes,
    ...(limitBytes === undefined ? {} : { limitBytes }),
  };
}

const verdict = (scope: OomKill['scope'], { peakBytes, limitBytes }: OomCase): OomKill => ({
  scope,
  peakBytes,
  ...(scope === 'step' ? { limitBytes } : {}),
});

/** Inside a container the log shows paths from the host's root, so ours may be a part of them. */
function lastKillIn(kills: readonly KernelKill[], group: string): KernelKill | undefined {
  return kills.findLast(({ victim }) => victim.endsWith(group) || victim.includes(`${group}/`));
}

/** Kills of the whole machine since it started; 0 where it is not told. */
export const killsOnMachine = (): bigint => fieldOf(read('/proc/vmstat'), 'oom_kill') ?? 0n;

/** `oom-kill:constraint=CONSTRAINT_MEMCG,...,oom_memcg=/a,task_memcg=/a/b,task=cc1plus,pid=1,uid=0` */
export function parseKernelKill(line: string): KernelKill | undefined {
  const found = /oom-kill:constraint=(\w+),.*?(?:oom_memcg=([^,]*),)?task_memcg=([^,]*),task=(.*),pid=\d+,uid=\d+/.exec(line);
  if (found === null) return undefined;
  const [, constraint, limited, victim = '', process = ''] = found;
  return { process, victim, limited: constraint === 'CONSTRAINT_MEMCG' ? limited : undefined };
}

/** All kills that the kernel's log still holds, oldest first; none where it cannot be read. */
export function readKernelKills(): KernelKill[] {
  const kills: KernelKill[] = [];
  let file: number;
  try {
    file = openSync('/dev/kmsg', constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return kills;
  }
  try {
    const record = Buffer.alloc(MAX_RECORD);
    for (let count = 0; count < MAX_RECORDS; count += 1) {
      const kill = parseKernelKill(record.toString('utf8', 0, nextRecord(file, record)));
      if (kill !== undefined) kills.push(kill);
    }
  } catch {
    // EAGAIN: the end
  } finally {
    closeSync(file);
  }
  return kills;
}

/** Each read gives one record; EPIPE says that the next ones were overwritten, and reading goes on after them. */
function nextRecord(file: number, record: Buffer): number {
  try {
    return readSync(file, record, 0, record.length, null);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EPIPE') return 0;
    throw error;
  }
}
