/**
 * Process start by posix_spawn: it does not copy the page tables of a big heap as fork does (0.4 ms against 3-9 ms that block the
 * event loop). The end is seen on a pidfd in Node's own poll loop, so no SIGCHLD handler of libuv is in the way; the status comes
 * from wait4 on exactly that pid, and libuv waits for its own pids only.
 */
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import type { Libc } from './libc.ts';
import type { Child, ChildExit, ChildStdio, SpawnSpec } from './ports.ts';
import { errnoName, SysError } from './sys-error.ts';

const O_CLOEXEC = 0o2000000;
const O_RDWR = 2;
const WNOHANG = 1;
const SPAWN_SETPGROUP = 0x02;
const SPAWN_SETSIGDEF = 0x04;
const SPAWN_SETSIGMASK = 0x08;
const OPAQUE_BYTES = 1024; // the libc structs are 80 and 336 bytes in glibc, less in musl
const RUSAGE_WORDS = 18; // struct rusage: two timevals and 14 longs
const POLL_MAX_MS = 20; // only where the kernel has no pidfd_open (before Linux 5.3)

export function spawnNative(libc: Libc, spec: SpawnSpec): Child {
  const ends: Ends = { ours: [], theirs: [] };
  const wanted: readonly ChildStdio[] = [spec.stdin ?? 'ignore', spec.stdout ?? 'ignore', spec.stderr ?? 'ignore'];
  const actions = Buffer.alloc(OPAQUE_BYTES);
  const attributes = Buffer.alloc(OPAQUE_BYTES);
  libc.actionsInit(actions);
  libc.attributesInit(attributes);
  let pid: number;
  try {
    const pipes = wanted.map((stdio, fd) => connect(libc, actions, ends, stdio, fd));
    if (spec.cwd !== undefined) libc.actionsAddChdir(actions, spec.cwd);
    setAttributes(libc, attributes, spec.newGroup === true);
    pid = start(libc, spec, actions, attributes);
    const [stdin, stdout, stderr] = pipes.map((fd, index) => (fd === undefined ? undefined : socketOn(fd, index === 0)));
    ends.ours.length = 0; // the sockets own them now
    return {
      pid,
      stdin: stdin as Writable | undefined,
      stdout: stdout as Readable | undefined,
      stderr: stderr as Readable | undefined,
      ...watch(libc, pid),
    };
  } finally {
    for (const fd of [...ends.ours, ...ends.theirs]) closeSync(fd);
    libc.actionsDestroy(actions);
    libc.attributesDestroy(attributes);
  }
}

/** Descriptors to close when done: the child's ends always, ours only when the start failed. */
interface Ends {
  readonly ours: number[];
  readonly theirs: number[];
}

/** Adds one of stdin, stdout, stderr to the child; our end of the pipe, if it is one. */
function connect(libc: Libc, actions: Uint8Array, ends: Ends, stdio: ChildStdio, fd: number): number | undefined {
  if (stdio === 'ignore') {
    libc.actionsAddOpen(actions, fd, '/dev/null', O_RDWR, 0);
    return undefined;
  }
  if (stdio !== 'pipe') {
    libc.actionsAddDup2(actions, stdio, fd);
    return undefined;
  }
  const pair = new Int32Array(2);
  if (libc.pipe2(pair, O_CLOEXEC) !== 0) throw new SysError('pipe2', '', errnoName(libc.errno()));
  const [read = -1, write = -1] = pair;
  const [ours, theirs] = fd === 0 ? [write, read] : [read, write];
  ends.ours.push(ours);
  ends.theirs.push(theirs);
  libc.actionsAddDup2(actions, theirs, fd);
  return ours;
}

/** No blocked signal, and all back to their default: Node ignores SIGPIPE and SIGXFSZ, and ignored signals survive exec. */
function setAttributes(libc: Libc, attributes: Uint8Array, newGroup: boolean): void {
  const set = Buffer.alloc(128);
  libc.attributesSetMask(attributes, set);
  set.fill(0xff, 0, 4); // signals 1 to 32; the C library looks after its own two by itself
  libc.attributesSetDefault(attributes, set);
  if (newGroup) libc.attributesSetGroup(attributes, 0);
  libc.attributesSetFlags(attributes, SPAWN_SETSIGMASK | SPAWN_SETSIGDEF | (newGroup ? SPAWN_SETPGROUP : 0));
}

function start(libc: Libc, spec: SpawnSpec, actions: Uint8Array, attributes: Uint8Array): number {
  const pid = new Int32Array(1);
  // posix_spawn returns the error instead of setting errno.
  const error = libc.posix_spawnp(pid, spec.file, actions, attributes, [...spec.args, null], [...spec.env, null]);
  if (error !== 0) throw new SysError('posix_spawn', spec.file, errnoName(error), spec.cwd === undefined ? '' : `in ${spec.cwd}`);
  return pid[0] ?? 0;
}

function socketOn(fd: number, writable: boolean): Socket {
  const socket = new Socket({ fd, readable: !writable, writable });
  // A child that closes its stdin early is no failure of ours; writers see it through their callback.
  if (writable) socket.on('error', () => {});
  return socket;
}

function watch(libc: Libc, pid: number): Pick<Child, 'exited' | 'kill'> {
  let gone = false;
  const { promise, resolve } = Promise.withResolvers<ChildExit>();
  const status = new Int32Array(1);
  const rusage = new BigInt64Array(RUSAGE_WORDS);
  /** True when the process is gone and reaped. */
  const reap = (): boolean => {
    const result = libc.wait4(pid, status, WNOHANG, rusage);
    if (result === 0) return false;
    gone = true;
    resolve(result === pid ? exitOf(status[0] ?? 0, rusage) : exitOf(0xff00, rusage)); // ECHILD: somebody else took the status
    return true;
  };
  const pidfd = libc.pidfdOpen(pid);
  if (pidfd < 0) poll(reap, 1);
  else {
    const handle = libc.koffi.node.poll(pidfd, { readable: true }, () => {
      if (!reap()) return;
      handle.close();
      closeSync(pidfd);
    });
  }
  return {
    exited: promise,
    kill: (signal) => !gone && process.kill(pid, signal),
  };
}

function poll(reap: () => boolean, afterMs: number): void {
  setTimeout(() => {
    if (!reap()) poll(reap, Math.min(afterMs * 2, POLL_MAX_MS));
  }, afterMs);
}

/** Decodes a wait status (WIFEXITED, WEXITSTATUS, WTERMSIG) and the times of struct rusage. */
function exitOf(status: number, rusage: BigInt64Array): ChildExit {
  const signal = status & 0x7f;
  const us = (at: number): number => Number((rusage[at] ?? 0n) * 1_000_000n + (rusage[at + 1] ?? 0n));
  return {
    status: signal === 0 ? (status >> 8) & 0xff : undefined,
    signal: signal === 0 ? undefined : signal,
    userUs: us(0),
    systemUs: us(2),
    maxRssKb: Number(rusage[4] ?? 0n),
  };
}
