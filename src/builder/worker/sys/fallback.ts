/**
 * Sys by spawned tools (util-linux, coreutils, attr) for platforms where koffi cannot load. Correct, but a mount costs 25 ms and each
 * attribute a process. Tools are run synchronously; `env -i` is not needed as none of them reads untrusted environment.
 */
import { spawn, spawnSync } from 'node:child_process';
import { lchownSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { overlayOptions } from './overlay-options.ts';
import { diskStats, killGroup } from './portable.ts';
import type { Child, ChildExit, OverlaySpec, SpawnSpec, Sys, SysPath } from './ports.ts';
import { codeOf, SysError } from './sys-error.ts';

const FLAG_OPTIONS: readonly (readonly [number, string])[] = [
  [1, 'ro'],
  [2, 'nosuid'],
  [4, 'nodev'],
  [8, 'noexec'],
  [32, 'remount'],
  [1024, 'noatime'],
  [4096, 'bind'],
  [1 << 21, 'relatime'],
];
const S_IFMT = 0o170000;
const MS_BIND = 4096;
const MS_REC = 16384;
const PROPAGATION = [
  [1 << 18, 'private'],
  [1 << 19, 'slave'],
] as const;

export function openFallback(): Sys {
  return {
    kind: 'commands',
    mount({ type, source, target, flags = 0, data = '' }) {
      const change = PROPAGATION.find(([bit]) => (flags & bit) !== 0);
      if (change !== undefined) {
        tool('mount', [`--make-${(flags & MS_REC) === 0 ? '' : 'r'}${change[1]}`, target], target);
        return;
      }
      if ((flags & MS_BIND) !== 0 && (flags & MS_REC) !== 0) {
        tool('mount', ['--rbind', source, target], target);
        return;
      }
      const options = [
        ...FLAG_OPTIONS.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name),
        ...(data === '' ? [] : [data]),
      ];
      tool(
        'mount',
        [...(type === '' ? [] : ['-t', type]), ...(options.length === 0 ? [] : ['-o', options.join(',')]), source, target],
        target,
      );
    },
    mountOverlay,
    unmount(target) {
      const result = spawnSync('umount', ['-l', target], { encoding: 'utf8' });
      if (result.status === 0) return true;
      if (/not mounted|no mount point|not found|no such file/i.test(result.stderr)) return false;
      throw new SysError('umount', target, 'EIO', result.stderr.trim());
    },
    setXattr: (path, name, value) => {
      tool('setfattr', ['-h', '-n', name, '-v', `0x${Buffer.from(value).toString('hex')}`, '--', text(path)], path);
    },
    getXattr(path, name) {
      const result = spawnSync('getfattr', ['-h', '--only-values', '--absolute-names', '-n', name, '--', text(path)]);
      return result.status === 0 ? result.stdout : undefined;
    },
    listXattr(path) {
      const result = spawnSync('getfattr', ['-h', '-m', '-', '--absolute-names', '--', text(path)], { encoding: 'utf8' });
      if (result.status !== 0) return [];
      return result.stdout.split('\n').filter((line) => line !== '' && !line.startsWith('# file:'));
    },
    removeXattr: (path, name) => {
      tool('setfattr', ['-h', '-x', name, '--', text(path)], path);
    },
    makeNode,
    setTimes(path, atimeNs, mtimeNs) {
      const at = (ns: bigint): string => {
        const digits = (ns < 0n ? -ns : ns).toString().padStart(10, '0');
        return `@${ns < 0n ? '-' : ''}${digits.slice(0, -9)}.${digits.slice(-9)}`;
      };
      tool('touch', ['-h', '-c', '-a', '-d', at(atimeNs), '--', text(path)], path);
      tool('touch', ['-h', '-c', '-m', '-d', at(mtimeNs), '--', text(path)], path);
    },
    changeOwner: (path, uid, gid) => lchownSync(path, uid, gid),
    spawn: spawnPortable,
    killGroup,
    diskStats,
    lockFile,
    trimMemory: async () => {},
    becomeSubreaper() {}, // only prctl can; without it orphans go to init, as for any process
  };
}

const text = (path: SysPath): string => (typeof path === 'string' ? path : path.toString('utf8'));

function tool(
  name: string,
  args: readonly string[],
  path: SysPath,
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): void {
  const result = spawnSync(name, args, { encoding: 'utf8', ...options });
  if (result.error !== undefined) throw new SysError(name, text(path), codeOf(result.error) ?? 'ENOSYS');
  if (result.status !== 0) throw new SysError(name, text(path), codeIn(result.stderr), result.stderr.trim());
}

/** The errno behind a tool's message (strerror text, C locale or not is the same for these). */
function codeIn(message: string): string {
  if (/no space left/i.test(message)) return 'ENOSPC';
  if (/file exists/i.test(message)) return 'EEXIST';
  if (/no such file/i.test(message)) return 'ENOENT';
  if (/not permitted|must be superuser/i.test(message)) return 'EPERM';
  if (/not supported/i.test(message)) return 'ENOTSUP';
  return 'EIO';
}

/** `mount` runs inside the directory most layers share, with the common prefix cut, so that long chains still fit one page of options. */
function mountOverlay(spec: OverlaySpec): void {
  const cwd = commonDirectory([
    ...spec.lowers,
    ...(spec.upper === undefined ? [] : [spec.upper]),
    ...(spec.work === undefined ? [] : [spec.work]),
  ]);
  const cut = (path: string): string => path.slice(cwd.length);
  const data = overlayOptions({
    ...spec,
    lowers: spec.lowers.map(cut),
    ...(spec.upper === undefined ? {} : { upper: cut(spec.upper) }),
    ...(spec.work === undefined ? {} : { work: cut(spec.work) }),
  });
  // libmount's use of the new mount API refuses long values (255 bytes); the old call takes a page.
  tool('mount', ['-t', 'overlay', '-o', data, 'overlay', spec.target], spec.target, {
    cwd,
    env: { ...process.env, LIBMOUNT_FORCE_MOUNT2: 'always' },
  });
}

/** The longest directory, with its trailing slash, that holds all the paths. */
function commonDirectory(paths: readonly string[]): string {
  const [first = '/', ...rest] = paths;
  let length = first.lastIndexOf('/') + 1;
  for (const path of rest) {
    while (length > 1 && !path.startsWith(first.slice(0, length))) length = first.lastIndexOf('/', length - 2) + 1;
  }
  return first.slice(0, Math.max(1, length));
}

function makeNode(path: SysPath, mode: number, major: number, minor: number): void {
  const type = mode & S_IFMT;
  const permissions = `-m${(mode & 0o777).toString(8)}`;
  if (type === 0o100000 || type === 0) writeFileSync(path, '', { flag: 'wx', mode: mode & 0o7777 });
  else if (type === 0o010000) tool('mknod', [permissions, '--', text(path), 'p'], path);
  else tool('mknod', [permissions, '--', text(path), type === 0o060000 ? 'b' : 'c', String(major), String(minor)], path);
}

function spawnPortable(spec: SpawnSpec): Child {
  const env = Object.fromEntries(
    spec.env.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]),
  );
  const child = spawn(spec.file, spec.args.slice(1), {
    argv0: spec.args[0] ?? spec.file,
    env,
    stdio: [spec.stdin ?? 'ignore', spec.stdout ?? 'ignore', spec.stderr ?? 'ignore'],
    detached: spec.newGroup === true,
    ...(spec.cwd === undefined ? {} : { cwd: spec.cwd }),
  });
  const { promise, resolve } = Promise.withResolvers<ChildExit>();
  if (child.pid === undefined) {
    child.on('error', () => {});
    throw new SysError('spawn', spec.file, 'ENOENT', spec.cwd === undefined ? '' : `in ${spec.cwd}`);
  }
  child.on('exit', (status, signal) =>
    resolve({
      status: status ?? undefined,
      signal: signal === null ? undefined : constants.signals[signal],
      userUs: 0,
      systemUs: 0,
      maxRssKb: 0,
    }),
  );
  child.stdin?.on('error', () => {});
  return {
    pid: child.pid,
    stdin: child.stdin ?? undefined,
    stdout: child.stdout ?? undefined,
    stderr: child.stderr ?? undefined,
    exited: promise,
    kill: (signal) => child.kill(signal),
  };
}

/** Without flock(2): a file that holds `pid start-time`, made exclusively; one whose process is gone (or was replaced) is taken over. */
function lockFile(path: string): ReturnType<Sys['lockFile']> {
  const mine = `${process.pid} ${startTimeOf(process.pid)}\n`;
  for (let attempt = 0; attempt < 3; attempt += 1) {
    try {
      writeFileSync(path, mine, { flag: 'wx', mode: 0o600 });
      return { held: true, lock: { [Symbol.dispose]: () => releaseLock(path, mine) } };
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
    }
    const [pid = '', started = ''] = readFileSync(path, 'utf8').trim().split(' ');
    const holder = Number.parseInt(pid, 10) || 0;
    // A file that flock(2) would guard holds no start time: its pid alone decides.
    const alive = startTimeOf(holder);
    if (alive !== '' && (started === '' || started === alive)) return { held: false, pid: holder };
    unlinkSync(path);
  }
  throw new SysError('lock', path, 'EAGAIN', 'others keep taking it');
}

function releaseLock(path: string, mine: string): void {
  try {
    if (readFileSync(path, 'utf8') === mine) unlinkSync(path);
  } catch {
    // gone already
  }
}

/** Field 22 of /proc/pid/stat; empty when there is no such process. */
function startTimeOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch {
    return '';
  }
}
