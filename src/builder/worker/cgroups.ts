/**
 * Control groups of steps. Each running step gets a slot, `<parent>/<tag>/<n>`, and the runtime puts the container in a group below it:
 * the runtime removes its own group with the container, so what the step used is read from the slot. A slot is used by one step at a
 * time. Version 1 (also hybrid) and version 2 are read; where there is neither or they cannot be written, CPU time comes from the
 * process itself and memory is 0.
 */
import { accessSync, constants, existsSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Pressure, ResourcePressure, StepUsage } from '../events.ts';
import { type GroupFiles, type GroupReading, read, readGroup } from './group-readings.ts';
import { killsOnMachine, oomKillOf } from './oom.ts';
import type { ChildExit } from './sys/ports.ts';

export type CgroupLayout = 'unified' | 'v1' | 'none';

export interface CgroupSlot {
  /** For the runtime spec's `cgroupsPath`, with the container's id added; undefined without control groups. */
  readonly path: string | undefined;
  /** Directory that names the container's processes; may not exist yet. Undefined without control groups. */
  containerDir(id: string): string | undefined;
  /** What the step uses now, counted from where it began; undefined without control groups. */
  reading(): GroupReading | undefined;
  /** What the step used, once the runtime has ended. `id` is the container's; `memoryLimit` 0 is none. */
  usage(exit: ChildExit, id: string, memoryLimit: number): StepUsage;
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
  /** OOM kills of the machine that are accounted for; a higher count makes a failed step suspect. */
  #killsSeen = killsOnMachine();

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
    const reading = (): GroupReading | undefined => {
      const files = this.#files(path);
      return files === undefined ? undefined : since(readGroup(files), baseline);
    };
    return {
      path: without ? undefined : path,
      containerDir: (id) => (without ? undefined : join(this.#killDirectory(path), id)),
      reading,
      usage: (exit, id, memoryLimit) => this.#usage(path, reading(), exit, id, memoryLimit),
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

  /** What a reused slot has counted so far; its memory peak is set back. Version 2 slots are new each time. */
  #prepare(path: string): GroupReading {
    if (this.layout !== 'v1') return {};
    try {
      writeFileSync(join(this.#mountPoint, 'memory', path, 'memory.max_usage_in_bytes'), '0', { flag: 'r+' });
    } catch {
      return {}; // not made yet
    }
    const files = this.#files(path);
    return files === undefined ? {} : readGroup(files);
  }

  #files(path: string): GroupFiles | undefined {
    if (this.layout === 'none') return undefined;
    const layout = this.layout;
    return { layout, dir: (resource) => join(this.#mountPoint, layout === 'unified' ? '' : resource, path) };
  }

  #usage(path: string, last: GroupReading | undefined, exit: ChildExit, id: string, memoryLimit: number): StepUsage {
    const memoryDir = join(this.#mountPoint, this.layout === 'v1' ? 'memory' : '');
    // Not rusage's memory: a spawned process begins with the peak of the one that spawned it, so that would be the daemon's own.
    const { peakMemoryBytes = 0, cpuNs, throttledNs, readBytes, writeBytes, pressure } = last ?? {};
    const ofProcess = BigInt(exit.userUs + exit.systemUs) * 1000n;
    const oom = oomKillOf({
      exit,
      group: this.layout === 'none' ? undefined : join(path, id),
      peakBytes: peakMemoryBytes,
      limitBytes: memoryLimit,
      events: this.layout === 'unified' ? read(join(memoryDir, path, 'memory.events')) : undefined,
      limitOf: (group) =>
        numberOrUndefined(read(join(memoryDir, group, this.layout === 'v1' ? 'memory.limit_in_bytes' : 'memory.max'))),
      killsBefore: this.#killsSeen,
    });
    if (exit.status !== 0) this.#killsSeen = killsOnMachine();
    return {
      cpuNs: cpuNs === undefined || cpuNs === 0n ? ofProcess : cpuNs,
      peakMemoryBytes,
      oomKilled: oom !== undefined,
      ...(oom === undefined ? {} : { oom }),
      ...(memoryLimit > 0 ? { memoryLimitBytes: memoryLimit } : {}),
      ...(throttledNs === undefined ? {} : { throttledNs }),
      ...(readBytes === undefined ? {} : { readBytes }),
      ...(writeBytes === undefined ? {} : { writeBytes }),
      ...(pressure === undefined ? {} : { pressure }),
    };
  }

  #directories(path: string): string[] {
    if (this.layout === 'none') return [];
    if (this.layout === 'unified') return [join(this.#mountPoint, path)];
    return readdirSync(this.#mountPoint).map((hierarchy) => join(this.#mountPoint, hierarchy, path));
  }
}

/** Counters of a slot that was used before, from where this step began. */
function since(now: GroupReading, base: GroupReading): GroupReading {
  const grown = (value: bigint | undefined, from: bigint | undefined): bigint | undefined =>
    value === undefined || from === undefined || value < from ? value : value - from;
  const [cpuNs, throttledNs] = [grown(now.cpuNs, base.cpuNs), grown(now.throttledNs, base.throttledNs)];
  const [readBytes, writeBytes] = [grown(now.readBytes, base.readBytes), grown(now.writeBytes, base.writeBytes)];
  return {
    ...now,
    ...(cpuNs === undefined ? {} : { cpuNs }),
    ...(throttledNs === undefined ? {} : { throttledNs }),
    ...(readBytes === undefined ? {} : { readBytes }),
    ...(writeBytes === undefined ? {} : { writeBytes }),
    ...(now.pressure === undefined ? {} : { pressure: pressureSince(now.pressure, base.pressure) }),
  };
}

/** Averages need no beginning; totals do. */
function pressureSince(now: ResourcePressure, base: ResourcePressure = {}): ResourcePressure {
  const line = (value: Pressure['some'], from: Pressure['some'] | undefined): Pressure['some'] => ({
    avg10: value.avg10,
    totalNs: from === undefined || value.totalNs < from.totalNs ? value.totalNs : value.totalNs - from.totalNs,
  });
  const entries = Object.entries(now).map(([resource, { some, full }]: [string, Pressure]) => {
    const before = base[resource as keyof ResourcePressure];
    return [resource, { some: line(some, before?.some), full: line(full, before?.full) }];
  });
  return Object.fromEntries(entries) as ResourcePressure;
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

const numberOrUndefined = (text: string | undefined): number | undefined =>
  text !== undefined && /^\d+\s*$/.test(text) ? Number(text) : undefined;
