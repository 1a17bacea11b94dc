/** Go's os.FileMode bits, which travel in Stat.mode, and the kernel's st_mode (buildkit-wire.md 4.2; https://pkg.go.dev/io/fs#FileMode). */
import { constants } from 'node:fs';

export const GO_MODE = {
  DIR: 0x8000_0000,
  SYMLINK: 1 << 27,
  DEVICE: 1 << 26,
  PIPE: 1 << 25,
  SOCKET: 1 << 24,
  SETUID: 1 << 23,
  SETGID: 1 << 22,
  CHAR_DEVICE: 1 << 21,
  STICKY: 1 << 20,
  IRREGULAR: 1 << 19,
} as const;

const TYPE_BITS =
  (GO_MODE.DIR | GO_MODE.SYMLINK | GO_MODE.DEVICE | GO_MODE.PIPE | GO_MODE.SOCKET | GO_MODE.CHAR_DEVICE | GO_MODE.IRREGULAR) >>>
  0;

export const isDirectory = (mode: number): boolean => (mode & GO_MODE.DIR) !== 0;
export const isSymlink = (mode: number): boolean => (mode & GO_MODE.SYMLINK) !== 0;
export const isDevice = (mode: number): boolean => (mode & GO_MODE.DEVICE) !== 0;
export const isPipe = (mode: number): boolean => (mode & GO_MODE.PIPE) !== 0;
/** A regular file: no type bit at all. A hard link is one too; its `linkname` tells. */
export const isRegular = (mode: number): boolean => (mode & TYPE_BITS) === 0;

/** Permission bits with set-uid, set-gid and sticky where chmod(2) and tar have them. */
export function permissionsOf(mode: number): number {
  let bits = mode & 0o777;
  if ((mode & GO_MODE.SETUID) !== 0) bits |= 0o4000;
  if ((mode & GO_MODE.SETGID) !== 0) bits |= 0o2000;
  if ((mode & GO_MODE.STICKY) !== 0) bits |= 0o1000;
  return bits;
}

/** Go bits of an st_mode. Sockets lose their type bit, as fsutil sends them. */
export function goModeOf(stMode: number): number {
  let mode = stMode & 0o777;
  if ((stMode & 0o4000) !== 0) mode |= GO_MODE.SETUID;
  if ((stMode & 0o2000) !== 0) mode |= GO_MODE.SETGID;
  if ((stMode & 0o1000) !== 0) mode |= GO_MODE.STICKY;
  switch (stMode & constants.S_IFMT) {
    case constants.S_IFDIR:
      mode |= GO_MODE.DIR;
      break;
    case constants.S_IFLNK:
      mode |= GO_MODE.SYMLINK;
      break;
    case constants.S_IFCHR:
      mode |= GO_MODE.DEVICE | GO_MODE.CHAR_DEVICE;
      break;
    case constants.S_IFBLK:
      mode |= GO_MODE.DEVICE;
      break;
    case constants.S_IFIFO:
      mode |= GO_MODE.PIPE;
      break;
  }
  return mode >>> 0;
}

/** st_mode of a device or pipe for mknod(2). */
export function nodeModeOf(mode: number): number {
  const type = isPipe(mode) ? constants.S_IFIFO : (mode & GO_MODE.CHAR_DEVICE) !== 0 ? constants.S_IFCHR : constants.S_IFBLK;
  return type | permissionsOf(mode);
}
