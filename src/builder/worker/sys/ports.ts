/**
 * What the builder asks of the kernel that Node does not offer: mounts, extended attributes, device nodes, nanosecond times, cheap
 * process starts, file locks. This folder is the only one that makes native calls (koffi, loaded on first use); where koffi cannot
 * load, `fallback.ts` does the same with commands. All calls are synchronous and work in worker threads and on the main thread.
 * Failures are SysErrors that name the call and the path.
 */
import type { Readable, Writable } from 'node:stream';

/** A path as text, or as raw bytes for names that are not UTF-8. */
export type SysPath = string | Buffer;

/** `mountflags` of mount(2). */
export const MOUNT = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  REMOUNT: 32,
  NOATIME: 1024,
  BIND: 4096,
  REC: 16384,
  PRIVATE: 1 << 18,
  SLAVE: 1 << 19,
  RELATIME: 1 << 21,
} as const;

export interface MountSpec {
  /** `overlay`, `tmpfs`, `proc`, ...; empty for a bind or a remount. */
  readonly type: string;
  readonly source: string;
  readonly target: string;
  /** Bits of MOUNT. */
  readonly flags?: number;
  /** File system options, comma separated; at most 4095 bytes (the kernel's page). */
  readonly data?: string;
}

export interface OverlaySpec {
  /** Read-only directories, the highest first. Any number up to the kernel's 500. */
  readonly lowers: readonly string[];
  /** Writable directory and its empty companion on the same file system; without both the mount is read-only. */
  readonly upper?: string;
  readonly work?: string;
  readonly target: string;
  /** Further options: `volatile`, `index=off`, ... */
  readonly options?: readonly string[];
}

/** What a child gets as stdin, stdout or stderr: a new pipe, /dev/null, or an open file descriptor of ours. */
export type ChildStdio = 'pipe' | 'ignore' | number;

export interface SpawnSpec {
  /** Looked up in our own PATH unless it holds a slash. */
  readonly file: string;
  /** argv[0] first. */
  readonly args: readonly string[];
  /** `NAME=value`; nothing else is inherited. */
  readonly env: readonly string[];
  readonly cwd?: string;
  readonly stdin?: ChildStdio;
  readonly stdout?: ChildStdio;
  readonly stderr?: ChildStdio;
  /** The child leads a new process group, so that `killGroup(pid)` reaches everything it starts. */
  readonly newGroup?: boolean;
}

export interface ChildExit {
  /** Exit status, or undefined when a signal ended the process. */
  readonly status: number | undefined;
  readonly signal: number | undefined;
  /** CPU time of the child and what it waited for, in microseconds; 0 where the fall-back cannot tell. */
  readonly userUs: number;
  readonly systemUs: number;
  /** Highest resident memory, KiB; 0 where the fall-back cannot tell. */
  readonly maxRssKb: number;
}

export interface Child {
  readonly pid: number;
  readonly stdin: Writable | undefined;
  readonly stdout: Readable | undefined;
  readonly stderr: Readable | undefined;
  /** Settles when the process is gone and reaped; output may still be in the pipes. Never rejects. */
  readonly exited: Promise<ChildExit>;
  /** False when the process is gone already. */
  kill(signal: NodeJS.Signals): boolean;
}

export interface DiskStats {
  readonly totalBytes: number;
  /** Free for unprivileged users, as df prints it. */
  readonly freeBytes: number;
  readonly totalInodes: number;
  readonly freeInodes: number;
}

export interface Sys {
  /** `native`: system calls; `commands`: spawned tools, slower. */
  readonly kind: 'native' | 'commands';
  mount(spec: MountSpec): void;
  mountOverlay(spec: OverlaySpec): void;
  /** Detaches at once (MNT_DETACH); the mount ends with its last user. False when nothing was mounted there. */
  unmount(target: string): boolean;
  /** Extended attributes of the path itself, symlinks not followed. */
  setXattr(path: SysPath, name: string, value: Uint8Array): void;
  /** Undefined when the attribute is not set, or the file system has none. */
  getXattr(path: SysPath, name: string): Buffer | undefined;
  /** Names in the kernel's order; none where the file system has no attributes. */
  listXattr(path: SysPath): string[];
  removeXattr(path: SysPath, name: string): void;
  /** `mode` holds type and permission bits (S_IFCHR, S_IFBLK, S_IFIFO, S_IFREG, ...). */
  makeNode(path: SysPath, mode: number, major: number, minor: number): void;
  /** Nanoseconds since the epoch, of the path itself (utimensat with AT_SYMLINK_NOFOLLOW). */
  setTimes(path: SysPath, atimeNs: bigint, mtimeNs: bigint): void;
  changeOwner(path: SysPath, uid: number, gid: number): void;
  spawn(spec: SpawnSpec): Child;
  /** Signals a whole process group; false when it has no member left. */
  killGroup(group: number, signal: NodeJS.Signals): boolean;
  diskStats(path: string): DiskStats;
  /**
   * Takes an exclusive lock on a file (made when missing), without waiting, and writes our pid into it. The kernel drops the lock when
   * the process ends, however it ends. When somebody else holds it, tells who.
   */
  lockFile(path: string): { readonly held: true; readonly lock: Disposable } | { readonly held: false; readonly pid: number };
  /** Hands what the C heap has freed, in all threads, back to the kernel. Does nothing where the C library cannot. Never rejects. */
  trimMemory(): Promise<void>;
  /** Orphans of our children become our children, not init's, so that they can be seen and killed. */
  becomeSubreaper(): void;
}
