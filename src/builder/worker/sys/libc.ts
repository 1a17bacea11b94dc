/** The C library's functions as typed JavaScript ones. Prototypes only; what they are for is in native.ts and native-spawn.ts. */
import { createRequire } from 'node:module';
import type * as Koffi from 'koffi';

/** A pointer to bytes: a Buffer, or null. Paths are NUL-terminated text or Buffers that end with a NUL. */
type Bytes = Uint8Array | null;
type Path = string | Uint8Array;

export interface Libc {
  readonly koffi: typeof Koffi;
  errno(): number;
  mount(source: string, target: string, type: string | null, flags: number, data: string | null): number;
  umount2(target: string, flags: number): number;
  lsetxattr(path: Path, name: string, value: Bytes, size: number, flags: number): number;
  lgetxattr(path: Path, name: string, value: Bytes, size: number): number;
  llistxattr(path: Path, list: Bytes, size: number): number;
  lremovexattr(path: Path, name: string): number;
  /** `dev` as glibc's makedev packs it. */
  mknod(path: Path, mode: number, dev: bigint): number;
  utimensat(dirfd: number, path: Path, times: BigInt64Array, flags: number): number;
  flock(fd: number, operation: number): number;
  prctl(option: number, a: number, b: number, c: number, d: number): number;
  pipe2(fds: Int32Array, flags: number): number;
  wait4(pid: number, status: Int32Array, options: number, rusage: BigInt64Array): number;
  posix_spawnp(
    pid: Int32Array,
    file: string,
    actions: Uint8Array,
    attributes: Uint8Array,
    argv: readonly (string | null)[],
    envp: readonly (string | null)[],
  ): number;
  actionsInit(actions: Uint8Array): number;
  actionsDestroy(actions: Uint8Array): number;
  actionsAddDup2(actions: Uint8Array, from: number, to: number): number;
  actionsAddOpen(actions: Uint8Array, fd: number, path: string, flags: number, mode: number): number;
  actionsAddChdir(actions: Uint8Array, path: string): number;
  attributesInit(attributes: Uint8Array): number;
  attributesDestroy(attributes: Uint8Array): number;
  attributesSetFlags(attributes: Uint8Array, flags: number): number;
  attributesSetGroup(attributes: Uint8Array, group: number): number;
  attributesSetMask(attributes: Uint8Array, set: Uint8Array): number;
  attributesSetDefault(attributes: Uint8Array, set: Uint8Array): number;
  /** Runs in a thread of libuv. Undefined where the C library has none (musl). */
  readonly mallocTrim: (() => Promise<void>) | undefined;
  pidfdOpen(pid: number): number;
  fsopen(type: string, flags: number): number;
  fsconfig(fd: number, command: number, key: string | null, value: string | null, aux: number): number;
  fsmount(fd: number, flags: number, attributes: number): number;
  moveMount(fd: number, target: string, flags: number): number;
}

// Numbers above 423 are the same on every architecture (kernel, Documentation/process/adding-syscalls.rst).
const SYS = { moveMount: 429, fsopen: 430, fsconfig: 431, fsmount: 432, pidfdOpen: 434 } as const;
const AT_FDCWD = -100;

/** Undefined when koffi has no build for this platform or the C library lacks a function we cannot do without. */
export function loadLibc(): Libc | undefined {
  let koffi: typeof Koffi;
  try {
    koffi = createRequire(import.meta.url)('koffi') as typeof Koffi;
    return bind(koffi);
  } catch {
    return undefined;
  }
}

function bind(koffi: typeof Koffi): Libc {
  const lib = koffi.load(null);
  const f = (prototype: string): never => lib.func(prototype) as never;
  const call = (...types: string[]): ((...args: unknown[]) => number) => lib.func('syscall', 'long', ['long', ...types]);
  const pidfdOpen = call('int', 'uint');
  const fsopen = call('str', 'uint');
  const fsconfig = call('int', 'uint', 'str', 'str', 'int');
  const fsmount = call('int', 'uint', 'uint');
  const moveMount = call('int', 'str', 'int', 'str', 'uint');
  return {
    koffi,
    errno: () => koffi.errno(),
    mount: f('int mount(const char *source, const char *target, const char *type, ulong flags, const char *data)'),
    umount2: f('int umount2(const char *target, int flags)'),
    lsetxattr: f('int lsetxattr(const void *path, const char *name, const void *value, size_t size, int flags)'),
    lgetxattr: f('int64_t lgetxattr(const void *path, const char *name, void *value, size_t size)'),
    llistxattr: f('int64_t llistxattr(const void *path, void *list, size_t size)'),
    lremovexattr: f('int lremovexattr(const void *path, const char *name)'),
    mknod: f('int mknod(const void *path, uint mode, uint64_t dev)'),
    utimensat: f('int utimensat(int dirfd, const void *path, const void *times, int flags)'),
    flock: f('int flock(int fd, int operation)'),
    prctl: f('int prctl(int option, ulong a, ulong b, ulong c, ulong d)'),
    pipe2: f('int pipe2(void *fds, int flags)'),
    wait4: f('int wait4(int pid, void *status, int options, void *rusage)'),
    posix_spawnp: f(
      'int posix_spawnp(void *pid, const char *file, const void *actions, const void *attr, const char **argv, const char **envp)',
    ),
    actionsInit: f('int posix_spawn_file_actions_init(void *actions)'),
    actionsDestroy: f('int posix_spawn_file_actions_destroy(void *actions)'),
    actionsAddDup2: f('int posix_spawn_file_actions_adddup2(void *actions, int from, int to)'),
    actionsAddOpen: f('int posix_spawn_file_actions_addopen(void *actions, int fd, const char *path, int flags, uint mode)'),
    actionsAddChdir: f('int posix_spawn_file_actions_addchdir_np(void *actions, const char *path)'),
    attributesInit: f('int posix_spawnattr_init(void *attr)'),
    attributesDestroy: f('int posix_spawnattr_destroy(void *attr)'),
    attributesSetFlags: f('int posix_spawnattr_setflags(void *attr, short flags)'),
    attributesSetGroup: f('int posix_spawnattr_setpgroup(void *attr, int group)'),
    attributesSetMask: f('int posix_spawnattr_setsigmask(void *attr, const void *set)'),
    attributesSetDefault: f('int posix_spawnattr_setsigdefault(void *attr, const void *set)'),
    mallocTrim: optionalTrim(lib),
    pidfdOpen: (pid) => pidfdOpen(SYS.pidfdOpen, pid, 0),
    fsopen: (type, flags) => fsopen(SYS.fsopen, type, flags),
    fsconfig: (fd, command, key, value, aux) => fsconfig(SYS.fsconfig, fd, command, key, value, aux),
    fsmount: (fd, flags, attributes) => fsmount(SYS.fsmount, fd, flags, attributes),
    moveMount: (fd, target, flags) => moveMount(SYS.moveMount, fd, '', AT_FDCWD, target, flags),
  };
}

function optionalTrim(lib: Koffi.LibraryHandle): (() => Promise<void>) | undefined {
  let trim: Koffi.KoffiFunc<(pad: number) => number>;
  try {
    trim = lib.func('int malloc_trim(size_t pad)');
  } catch {
    return undefined;
  }
  return () => new Promise((resolve) => trim.async(0, () => resolve()));
}
