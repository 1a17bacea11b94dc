/**
 * Control groups of steps. Each running step gets a slot, `<parent>/<tag>/<n>`, and the runtime puts the container in a group below it:
 * the runtime removes its own group with the container, so what the step used is read from the slot. A slot is used by one step at a
 * time. Version 1 (also hybrid) and version 2 are read; where there is neither or they cannot be written, CPU time comes from the
 * process itself and memory is 0.
 */
import { accessSync, constants, existsSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { StepUsage } from '../events.ts';
import type { ChildExit } from './sys/ports.ts';

export type CgroupLayout = 'unified' | 'v1' | 'none';

export interface CgroupSlot {
  /** For the runtime spec's `cgroupsPath`, with the container's id added; undefined without control groups. */
  readonly path: string | undefined;
  /** Directory that names the container's processes; may not exist yet. Undefined without control groups. */
  containerDir(id: string): string | undefined;
  /** What the step used, once the runtime has ended. `memoryLimit` 0 is none. */
  usage(exit: ChildExit, memoryLimit: number): StepUsage;
  release(): void;
}

const KILL_HIERARCHIES = ['pids', 'freezer', 'memory', 'systemd', 'unified'];

export interface CgroupOptions {
  /** Tells the groups of one run of one daemon from all others. */
  readonly tag: string;
  /** Told each directory under which containers will be, before the first is. */
  readonly onBase?: (dir: string) => void;
  readonly mountPoint?: string;
}

export class Cgroups {
  readonly layout: CgroupLayout;
  readonly #options: CgroupOptions;
  readonly #mountPoint: string;
  readonly #busy = new Set<string>();
  /** `<parent>/<tag>` of every parent that was used. */
  readonly #bases = new Set<string>();
  /** Version 1: the hierarchy whose cgroup.procs is read. */
  readonly #procs: string;

  constructor(options: CgroupOptions) {
    this.#options = options;
    this.#mountPoint = options.mountPoint ?? '/sys/fs/cgroup';
    const writable = (...parts: string[]): boolean => isWritable(join(this.#mountPoint, ...parts));
    this.#procs =
      KILL_HIERARCHIES.find((name) => existsSync(join(this.#mountPoint, name, 'cgroup.procs')) && writable(name)) ?? '';
    if (existsSync(join(this.#mountPoint, 'cgroup.controllers'))) this.layout = writable() ? 'unified' : 'none';
    else this.layout = this.#procs === '' ? 'none' : 'v1';
  }

  acquire(parent: string): CgroupSlot {
    const base = join('/', parent, this.#options.tag);
    this.#announce(base);
    let n = 0;
    while (this.#busy.has(`${base}/${n}`)) n += 1;
    const path = `${base}/${n}`;
    this.#busy.add(path);
    const baseline = this.#prepare(path);
    const without = this.layout === 'none';
    return {
      path: without ? undefined : path,
      containerDir: (id) => (without ? undefined : join(this.#killDirectory(path), id)),
      usage: (exit, memoryLimit) => this.#usage(path, baseline, exit, memoryLimit),
      release: () => {
        // A new group per step is the only way to a fresh memory.peak before Linux 6.12; in version 1 the peak can be reset.
        if (this.layout === 'unified') removeGroup(join(this.#mountPoint, path));
        this.#busy.delete(path);
      },
    };
  }

  /** Removes the groups of this run. */
  close(): void {
    for (const base of this.#bases) for (const dir of this.#directories(base)) removeGroup(dir);
    this.#bases.clear();
  }

  /** Removes the groups of an earlier run, once its processes are gone. `dir` is what `onBase` was told. */
  removeLeft(dir: string): void {
    const prefix = this.#killDirectory('/');
    if (this.layout !== 'none' && dir.startsWith(prefix))
      for (const each of this.#directories(dir.slice(prefix.length))) removeGroup(each);
  }

  #announce(base: string): void {
    if (this.layout === 'none' || this.#bases.has(base)) return;
    this.#bases.add(base);
    this.#options.onBase?.(this.#killDirectory(base));
  }

  #killDirectory(path: string): string {
    return join(this.#mountPoint, this.layout === 'v1' ? this.#procs : '', path);
  }

  /** CPU time so far in a reused slot; its memory peak is set back. */
  #prepare(path: string): bigint {
    if (this.layout !== 'v1') return 0n;
    try {
      writeFileSync(join(this.#mountPoint, 'memory', path, 'memory.max_usage_in_bytes'), '0', { flag: 'r+' });
    } catch {
      return 0n; // not made yet
    }
    return number(read(join(this.#mountPoint, 'cpuacct', path, 'cpuacct.usage')));
  }

  #usage(path: string, baseline: bigint, exit: ChildExit, memoryLimit: number): StepUsage {
    const file = (...parts: string[]): string | undefined => read(join(this.#mountPoint, ...parts));
    // Not rusage's memory: a spawned process begins with the peak of the one that spawned it, so that would be the daemon's own.
    const ofProcess = { cpuNs: BigInt(exit.userUs + exit.systemUs) * 1000n, peakMemoryBytes: 0 };
    if (this.layout === 'unified') {
      const cpu = field(file(path, 'cpu.stat'), 'usage_usec');
      const peak = number(file(path, 'memory.peak'));
      return {
        cpuNs: cpu === undefined ? ofProcess.cpuNs : cpu * 1000n,
        peakMemoryBytes: Number(peak),
        oomKilled: (field(file(path, 'memory.events'), 'oom_kill') ?? 0n) > 0n,
      };
    }
    if (this.layout === 'none') return { ...ofProcess, oomKilled: false };
    const cpu = number(file('cpuacct', path, 'cpuacct.usage'));
    const peak = Number(number(file('memory', path, 'memory.max_usage_in_bytes')));
    return {
      cpuNs: cpu > baseline ? cpu - baseline : ofProcess.cpuNs,
      peakMemoryBytes: peak,
      oomKilled: memoryLimit > 0 && exit.status === 128 + 9 && reachedLimit(peak, memoryLimit),
    };
  }

  #directories(path: string): string[] {
    if (this.layout === 'none') return [];
    if (this.layout === 'unified') return [join(this.#mountPoint, path)];
    return readdirSync(this.#mountPoint).map((hierarchy) => join(this.#mountPoint, hierarchy, path));
  }
}

/**
 * Version 1 counts OOM kills in the victim's own group, which is gone with the container. A step that was killed and whose memory had
 * grown to the limit, but for the pages the kernel charges in advance, was killed for that.
 */
function reachedLimit(peak: number, limit: number): boolean {
  return peak >= limit - 64 * 4096 * 4;
}

/** Ids of all processes in a group and below it; none when it does not exist. */
export function processesIn(dir: string): number[] {
  const text = read(join(dir, 'cgroup.procs'));
  if (text === undefined) return [];
  const own = text.split('\n').filter(Boolean).map(Number);
  return [...own, ...subgroups(dir).flatMap((name) => processesIn(join(dir, name)))];
}

/** Sends SIGKILL to everything in a group and below it; how many processes there were. */
export function killGroupMembers(dir: string): number {
  const pids = processesIn(dir).filter((pid) => pid > 0);
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // gone already
    }
  }
  return pids.length;
}

/** Removes a group without processes, groups below it first. */
export function removeGroup(dir: string): void {
  for (const name of subgroups(dir)) removeGroup(join(dir, name));
  try {
    rmdirSync(dir);
  } catch {
    // missing, or a process of it has not been reaped yet
  }
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function subgroups(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch {
    return [];
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
const number = (text: string | undefined): bigint => (/^\d+\s*$/.test(text ?? '') ? BigInt((text ?? '').trim()) : 0n);
function field(text: string | undefined, name: string): bigint | undefined {
  const value = new RegExp(`^${name} (\\d+)$`, 'm').exec(text ?? '')?.[1];
  return value === undefined ? undefined : BigInt(value);
}
