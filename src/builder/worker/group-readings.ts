/**
 * What the kernel says of a control group: CPU, memory, IO, processes and pressure, read from version 2 or version 1 (also hybrid)
 * files. A figure the kernel does not show is absent, never 0. Sizes are bytes, times nanoseconds, all counted since the group was made.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Pressure, ResourcePressure } from '../events.ts';

export interface GroupReading {
  readonly cpuNs?: bigint;
  readonly throttledNs?: bigint;
  readonly memoryBytes?: number;
  readonly peakMemoryBytes?: number;
  readonly readBytes?: bigint;
  readonly writeBytes?: bigint;
  readonly processes?: number;
  readonly pressure?: ResourcePressure;
}

/** Where the files of one slot are; version 1 has a directory per resource. */
export interface GroupFiles {
  readonly layout: 'unified' | 'v1';
  /** The group of a resource: `cpu`, `memory`, ... In version 2 all are one. */
  dir(resource: 'cpu' | 'cpuacct' | 'memory' | 'blkio' | 'pids' | 'unified'): string;
}

export function readGroup(files: GroupFiles): GroupReading {
  return files.layout === 'unified' ? readUnified(files.dir('unified')) : readVersion1(files);
}

function readUnified(dir: string): GroupReading {
  const cpu = read(join(dir, 'cpu.stat'));
  const usage = fieldOf(cpu, 'usage_usec');
  const throttled = fieldOf(cpu, 'throttled_usec');
  const io = unifiedIo(read(join(dir, 'io.stat')));
  return present({
    cpuNs: usage === undefined ? undefined : usage * 1000n,
    throttledNs: throttled === undefined ? undefined : throttled * 1000n,
    memoryBytes: numberIn(dir, 'memory.current'),
    peakMemoryBytes: numberIn(dir, 'memory.peak'),
    readBytes: io?.read,
    writeBytes: io?.write,
    processes: numberIn(dir, 'pids.current'),
    pressure: pressureIn(dir),
  });
}

/** In a hybrid hierarchy pressure is kept by the version 2 tree, when the runtime puts containers there too. */
function readVersion1(files: GroupFiles): GroupReading {
  const cpu = numberIn(files.dir('cpuacct'), 'cpuacct.usage');
  const io = legacyIo(read(join(files.dir('blkio'), 'blkio.throttle.io_service_bytes_recursive')));
  return present({
    cpuNs: cpu === undefined ? undefined : BigInt(cpu),
    throttledNs: fieldOf(read(join(files.dir('cpu'), 'cpu.stat')), 'throttled_time'),
    memoryBytes: numberIn(files.dir('memory'), 'memory.usage_in_bytes'),
    peakMemoryBytes: numberIn(files.dir('memory'), 'memory.max_usage_in_bytes'),
    readBytes: io?.read,
    writeBytes: io?.write,
    processes: numberIn(files.dir('pids'), 'pids.current'),
    pressure: pressureIn(files.dir('unified')),
  });
}

function pressureIn(dir: string): ResourcePressure | undefined {
  const found = present({
    cpu: parsePressure(read(join(dir, 'cpu.pressure'))),
    memory: parsePressure(read(join(dir, 'memory.pressure'))),
    io: parsePressure(read(join(dir, 'io.pressure'))),
  });
  return Object.keys(found).length === 0 ? undefined : found;
}

/** Lines `some avg10=0.12 avg60=... avg300=... total=USEC`, https://docs.kernel.org/accounting/psi.html. Averages become ratios 0-1. */
export function parsePressure(text: string | undefined): Pressure | undefined {
  const line = (kind: string) => new RegExp(`^${kind} avg10=([\\d.]+) .*total=(\\d+)$`, 'm').exec(text ?? '');
  const [some, full] = [line('some'), line('full')];
  if (some === null) return undefined;
  const of = (match: RegExpExecArray | null) => ({
    avg10: Number(match?.[1] ?? 0) / 100,
    totalNs: BigInt(match?.[2] ?? 0) * 1000n,
  });
  return { some: of(some), full: of(full) };
}

/** `8:0 rbytes=1 wbytes=2 rios=...`, a line per device. */
function unifiedIo(text: string | undefined): { readonly read: bigint; readonly write: bigint } | undefined {
  if (text === undefined) return undefined;
  return { read: sumOf(text, /\brbytes=(\d+)/g), write: sumOf(text, /\bwbytes=(\d+)/g) };
}
/** `253:0 Read 1` and `253:0 Write 2`, per device. */
function legacyIo(text: string | undefined): { readonly read: bigint; readonly write: bigint } | undefined {
  if (text === undefined) return undefined;
  return { read: sumOf(text, /^\S+ Read (\d+)$/gm), write: sumOf(text, /^\S+ Write (\d+)$/gm) };
}

const sumOf = (text: string, pattern: RegExp): bigint =>
  [...text.matchAll(pattern)].reduce((sum, [, value = '0']) => sum + BigInt(value), 0n);

function numberIn(dir: string, file: string): number | undefined {
  const text = read(join(dir, file));
  return text !== undefined && /^\d+\s*$/.test(text) ? Number(text) : undefined;
}

/** `name value` on a line of its own. */
export function fieldOf(text: string | undefined, name: string): bigint | undefined {
  const value = new RegExp(`^${name} (\\d+)$`, 'm').exec(text ?? '')?.[1];
  return value === undefined ? undefined : BigInt(value);
}

export function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

type Present<T> = { readonly [K in keyof T]?: Exclude<T[K], undefined> };
function present<T extends object>(values: T): Present<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Present<T>;
}
