/** Sys by direct system calls. Each call reads errno right after the C function returns; nothing may come between the two. */
import { closeSync, lchownSync, readSync } from 'node:fs';
import { type Libc, loadLibc } from './libc.ts';
import { spawnNative } from './native-spawn.ts';
import { overlayOptions } from './overlay-options.ts';
import { diskStats, killGroup, lockWith } from './portable.ts';
import type { MountSpec, OverlaySpec, Sys, SysPath } from './ports.ts';
import { errnoName, SysError } from './sys-error.ts';

const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;
const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const LOCK_EX_NB = 2 | 4;
const PR_SET_CHILD_SUBREAPER = 36;
const OPTIONS_PAGE_BYTES = 4095;
const FSCONFIG_VALUE_BYTES = 255; // strndup_user(value, 256) in fs/fsopen.c
const XATTR_LIST_MAX = 65536;

/** Undefined where koffi or a needed C function is missing. */
export function openNative(): Sys | undefined {
  const libc = loadLibc();
  return libc === undefined ? undefined : nativeSys(libc);
}

function nativeSys(libc: Libc): Sys {
  const check = (result: number, call: string, path: SysPath): number => {
    if (result >= 0) return result;
    throw new SysError(call, String(path), errnoName(libc.errno()));
  };
  const list = Buffer.alloc(XATTR_LIST_MAX);
  const value = Buffer.alloc(XATTR_LIST_MAX); // XATTR_SIZE_MAX is 64 KiB too
  /** As `check`, but undefined when attributes are missing or not supported. */
  const optional = (result: number, call: string, path: SysPath): number | undefined => {
    if (result >= 0) return result;
    const code = errnoName(libc.errno());
    if (code === 'ENODATA' || code === 'ENOTSUP' || code === 'EOPNOTSUPP') return undefined;
    throw new SysError(call, String(path), code);
  };
  return {
    kind: 'native',
    mount: (spec) => mount(libc, spec),
    mountOverlay: (spec) => mountOverlay(libc, spec),
    unmount(target) {
      if (libc.umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW) === 0) return true;
      const code = errnoName(libc.errno());
      if (code === 'EINVAL' || code === 'ENOENT') return false;
      throw new SysError('umount2', target, code);
    },
    setXattr: (path, name, bytes) => {
      check(libc.lsetxattr(cPath(path), name, bytes, bytes.byteLength, 0), `lsetxattr ${name}`, path);
    },
    getXattr(path, name) {
      const size = optional(libc.lgetxattr(cPath(path), name, value, value.length), `lgetxattr ${name}`, path);
      return size === undefined ? undefined : Buffer.from(value.subarray(0, size));
    },
    listXattr(path) {
      const size = optional(libc.llistxattr(cPath(path), list, list.length), 'llistxattr', path) ?? 0;
      return size === 0 ? [] : list.toString('utf8', 0, size - 1).split('\0');
    },
    removeXattr: (path, name) => {
      check(libc.lremovexattr(cPath(path), name), `lremovexattr ${name}`, path);
    },
    makeNode: (path, mode, major, minor) => {
      check(libc.mknod(cPath(path), mode, makedev(major, minor)), 'mknod', path);
    },
    setTimes: (path, atimeNs, mtimeNs) => {
      const times = new BigInt64Array([...timespec(atimeNs), ...timespec(mtimeNs)]);
      check(libc.utimensat(AT_FDCWD, cPath(path), times, AT_SYMLINK_NOFOLLOW), 'utimensat', path);
    },
    changeOwner: (path, uid, gid) => lchownSync(path, uid, gid),
    spawn: (spec) => spawnNative(libc, spec),
    killGroup,
    diskStats,
    lockFile: (path) =>
      lockWith(path, (fd) => {
        if (libc.flock(fd, LOCK_EX_NB) === 0) return true;
        const code = errnoName(libc.errno());
        if (code === 'EWOULDBLOCK' || code === 'EAGAIN') return false;
        throw new SysError('flock', path, code);
      }),
    trimMemory: async () => await libc.mallocTrim?.(),
    becomeSubreaper: () => {
      check(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 'prctl', 'PR_SET_CHILD_SUBREAPER');
    },
  };
}

/** Koffi passes a string as NUL-terminated UTF-8 only where the type says `char *`; as `void *` it must be bytes. */
function cPath(path: SysPath): Buffer {
  if (typeof path === 'string') return Buffer.from(`${path}\0`);
  const bytes = Buffer.allocUnsafe(path.length + 1);
  path.copy(bytes);
  bytes[path.length] = 0;
  return bytes;
}

/** struct timespec; the fraction is positive even before 1970. */
function timespec(ns: bigint): [bigint, bigint] {
  const fraction = ((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  return [(ns - fraction) / 1_000_000_000n, fraction];
}

/** glibc's and musl's gnu_dev_makedev. */
function makedev(major: number, minor: number): bigint {
  const M = BigInt(major);
  const m = BigInt(minor);
  return ((M & 0xfffff000n) << 32n) | ((M & 0xfffn) << 8n) | ((m & 0xffffff00n) << 12n) | (m & 0xffn);
}

function mount(libc: Libc, spec: MountSpec): void {
  const { source, target, type, flags = 0, data = '' } = spec;
  if (libc.mount(source, target, type === '' ? null : type, flags, data === '' ? null : data) === 0) return;
  throw new SysError('mount', target, errnoName(libc.errno()), `${type === '' ? 'bind' : type} from ${source}`);
}

/**
 * The mount API of Linux 5.2 takes lower directories one by one (`lowerdir+`, Linux 6.7), so their number is not bound by the one
 * page of options that mount(2) takes. Older kernels answer EINVAL (or ENOSYS) and get mount(2).
 */
function mountOverlay(libc: Libc, spec: OverlaySpec): void {
  const data = overlayOptions(spec);
  const fits = Buffer.byteLength(data) <= OPTIONS_PAGE_BYTES;
  if (fits) {
    mount(libc, { type: 'overlay', source: 'overlay', target: spec.target, data });
    return;
  }
  const tooLong = [...spec.lowers, spec.upper ?? '', spec.work ?? ''].find(
    (path) => Buffer.byteLength(path) > FSCONFIG_VALUE_BYTES,
  );
  if (tooLong !== undefined) throw new SysError('fsconfig', tooLong, 'ENAMETOOLONG', `above ${FSCONFIG_VALUE_BYTES} bytes`);
  const fs = libc.fsopen('overlay', 1);
  if (fs < 0) throw new SysError('fsopen', 'overlay', errnoName(libc.errno()));
  try {
    configureOverlay(libc, fs, spec);
    const mounted = libc.fsmount(fs, 1, 0);
    if (mounted < 0) throw new SysError('fsmount', spec.target, errnoName(libc.errno()), messagesOf(fs));
    try {
      const moved = libc.moveMount(mounted, spec.target, 4);
      if (moved < 0) throw new SysError('move_mount', spec.target, errnoName(libc.errno()));
    } finally {
      closeSync(mounted);
    }
  } finally {
    closeSync(fs);
  }
}

function configureOverlay(libc: Libc, fs: number, spec: OverlaySpec): void {
  const SET_FLAG = 0;
  const SET_STRING = 1;
  const CREATE = 6;
  const set = (command: number, key: string | null, value: string | null): void => {
    if (libc.fsconfig(fs, command, key, value, 0) === 0) return;
    throw new SysError(`fsconfig ${key ?? 'create'}`, value ?? spec.target, errnoName(libc.errno()), messagesOf(fs));
  };
  for (const lower of spec.lowers) set(SET_STRING, 'lowerdir+', lower);
  if (spec.upper !== undefined) set(SET_STRING, 'upperdir', spec.upper);
  if (spec.work !== undefined) set(SET_STRING, 'workdir', spec.work);
  for (const option of spec.options ?? []) {
    const [key = '', value] = option.split('=', 2);
    if (value === undefined) set(SET_FLAG, key, null);
    else set(SET_STRING, key, value);
  }
  set(CREATE, null, null);
}

/** What the kernel says about a failed configuration, read from the context's own descriptor. */
function messagesOf(fs: number): string {
  const buffer = Buffer.alloc(4096);
  const lines: string[] = [];
  try {
    for (let size = readSync(fs, buffer); size > 0 && lines.length < 8; size = readSync(fs, buffer)) {
      lines.push(buffer.toString('utf8', 0, size).trim());
    }
  } catch {
    // ENODATA: no more messages
  }
  return lines.join('; ');
}
