/**
 * Runs steps as OCI containers: one `runc run` (or crun) per step, in a bundle directory of its own. The root file system is mounted by
 * the caller; everything else the process sees (proc, dev, resolv.conf, secrets) is mounted by the runtime in the container's own mount
 * namespace, so it cannot reach a layer and ends with the container.
 */

import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  type Stats,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { throwIfAborted } from '../../core/abort.ts';
import { systemClock } from '../../core/clock.ts';
import { BuildError } from '../../core/errors.ts';
import { type CgroupSlot, Cgroups, killGroupMembers, removeGroup } from './cgroups.ts';
import { DEFAULT_HOSTNAME, type DnsConfig, hostsFile, resolvConf } from './host-files.ts';
import { groupsFile, recordGroups, startWatcher, sweepLeftovers } from './leftovers.ts';
import { noteMountStubs } from './mount-stubs.ts';
import { runtimeSpec } from './oci-spec.ts';
import type { Sandbox, SandboxExit, SandboxFile, SandboxMount, SandboxSpec } from './ports.ts';
import { ResourceSampler } from './resource-sampler.ts';
import { resolveInRoot } from './root-path.ts';
import { findRuntime, type RuntimeChoice, type RuntimeInfo } from './runtime.ts';
import { callRuntime, statusOf, throwRuntimeFailure } from './runtime-process.ts';
import { defaultSeccomp, type SeccompProfile } from './seccomp.ts';
import { type Child, MOUNT, type Sys } from './sys/ports.ts';
import { findProcessUser, type ProcessUser } from './users.ts';

export interface SandboxOptions {
  /** The daemon's state directory; `sandbox/` below it is ours. */
  readonly root: string;
  readonly runtime: RuntimeChoice;
  readonly sys: Sys;
  readonly dns?: DnsConfig;
  /** Group under which steps run unless they name their own; empty is the root of the hierarchy. */
  readonly cgroupParent?: string;
  /** The daemon runs in a user namespace: no control groups, and what the namespace may not do is left out of the containers. */
  readonly rootless?: boolean;
}
export interface OpenSandbox extends Sandbox, AsyncDisposable {
  readonly runtime: RuntimeInfo;
  readonly accounting: Accounting;
}
/** Where the figures of a step's resources come from, and why from there. */
export interface Accounting {
  readonly source: 'cgroup-v2' | 'cgroup-v1' | 'rusage';
  readonly reason: string;
}

const RUN_DIR_BYTES = 512 * 1024 * 1024; // 100 steps with ten secrets of the largest size; used only as it is filled

/**
 * Ends what an earlier daemon on the same root left running, then is ready to run steps. The caller holds the lock on `root`.
 * @throws BuildError `unavailable` without a usable runtime.
 */
export async function openSandbox(options: SandboxOptions): Promise<OpenSandbox> {
  const { sys } = options;
  const base = join(options.root, 'sandbox');
  const run = randomBytes(6).toString('hex');
  const runDir = join(base, run);
  const cgroups = new Cgroups({
    tag: `cooper-${run}`,
    onBase: (dir) => recordGroups(runDir, dir),
    ...(options.rootless === true ? { mountPoint: '/nonexistent' } : {}),
  });
  const [found] = await Promise.all([findRuntime(options.runtime, cgroups.layout, sys), sweepLeftovers(base, cgroups, sys)]);
  openRunDir(runDir, sys);
  const watcher = startWatcher(runDir, sys);
  const open = (runtimeInfo: RuntimeInfo): RuntimeSandbox => {
    const seccomp = runtimeInfo.seccomp ? defaultSeccomp(process.arch, readFileSync('/proc/cmdline', 'utf8')) : undefined;
    return new RuntimeSandbox({ ...options, runtimeInfo, cgroups, seccomp, runDir, watcher });
  };
  const sandbox = open(found);
  // Where crun could be taken it is tried once: it needs more of a machine than its presence tells.
  if (options.runtime !== 'auto' || found.name === 'runc') return sandbox;
  const problem = await probe(sandbox, join(runDir, 'probe'));
  if (problem === undefined) return sandbox;
  try {
    return open({ ...(await findRuntime('runc', cgroups.layout, sys)), reason: `runc: crun does not work here (${problem})` });
  } catch (error) {
    await sandbox[Symbol.asyncDispose]();
    throw BuildError.from(error).wrap(`crun does not work here (${problem})`);
  }
}

/** Runs the host's own `true` in a root made of read-only binds. Undefined when that works, else what went wrong. */
async function probe(sandbox: Sandbox, rootfs: string): Promise<string | undefined> {
  const mounts: SandboxMount[] = [];
  for (const name of ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'usr']) {
    const stat = lstatSync(`/${name}`, { throwIfNoEntry: false });
    mkdirSync(rootfs, { recursive: true });
    if (stat?.isSymbolicLink()) symlinkSync(readlinkSync(`/${name}`), join(rootfs, name));
    else if (stat?.isDirectory()) mounts.push({ destination: `/${name}`, kind: 'bind', source: `/${name}`, readonly: true });
  }
  try {
    const { status } = await sandbox.run({
      ...{
        rootfs,
        readonlyRoot: false,
        args: ['true'],
        env: ['PATH=/usr/bin:/bin'],
        cwd: '/',
        user: '0:0',
        hostname: '',
        mounts,
      },
      ...{
        network: 'host',
        insecure: false,
        extraHosts: [],
        ulimits: [],
        cgroupParent: '',
        resources: {},
        removeMountStubs: false,
      },
      onOutput: () => {},
      signal: new AbortController().signal,
    });
    return status === 0 ? undefined : `a first container ended with status ${status}`;
  } catch (error) {
    return BuildError.from(error).message;
  } finally {
    rmSync(rootfs, { recursive: true, force: true });
  }
}

/**
 * A tmpfs: bundles hold the environment and so perhaps secrets, which must not reach the disk, and the runtime's state is written and
 * removed with every step.
 */
function openRunDir(dir: string, sys: Sys): void {
  mkdirSync(dir, { recursive: true, mode: 0o711 });
  sys.mount({
    type: 'tmpfs',
    source: 'tmpfs',
    target: dir,
    flags: MOUNT.NOSUID | MOUNT.NODEV,
    data: `mode=711,size=${RUN_DIR_BYTES}`,
  });
  mkdirSync(join(dir, 'files'), { mode: 0o711 });
  mkdirSync(join(dir, 'shared'), { mode: 0o711 });
  mkdirSync(join(dir, 'state'), { mode: 0o700 });
}

interface Parts extends SandboxOptions {
  readonly runtimeInfo: RuntimeInfo;
  readonly cgroups: Cgroups;
  readonly seccomp: SeccompProfile | undefined;
  readonly runDir: string;
  readonly watcher: Child;
}

/** One run, from the first file written for it to the last one removed. */
interface Run {
  readonly id: string;
  readonly spec: SandboxSpec;
  readonly bundle: string;
  readonly slot: CgroupSlot;
  readonly cleanups: (() => void)[];
}

class RuntimeSandbox implements OpenSandbox {
  readonly #parts: Parts;
  readonly #shared = new Map<string, string>();
  readonly #sampler = new ResourceSampler(systemClock());
  #count = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  get runtime(): RuntimeInfo {
    return this.#parts.runtimeInfo;
  }
  get accounting(): Accounting {
    const { cgroups, rootless } = this.#parts;
    if (cgroups.layout === 'unified') return { source: 'cgroup-v2', reason: 'control groups, version 2' };
    if (cgroups.layout === 'v1') return { source: 'cgroup-v1', reason: 'control groups, version 1' };
    const why = rootless === true ? 'the daemon runs without root' : 'no control group can be written here';
    return { source: 'rusage', reason: `${why}: only CPU time of finished steps is known, not memory, IO or pressure` };
  }

  async run(spec: SandboxSpec): Promise<SandboxExit> {
    throwIfAborted(spec.signal);
    this.#count += 1;
    const id = `${this.#count}-${randomBytes(4).toString('hex')}`;
    const slot = this.#parts.cgroups.acquire(spec.cgroupParent || (this.#parts.cgroupParent ?? ''));
    const run: Run = { id, spec, bundle: join(this.#parts.runDir, id), slot, cleanups: [] };
    try {
      this.#writeBundle(run);
      return await this.#execute(run);
    } finally {
      for (const cleanup of run.cleanups.reverse()) cleanup();
      rmSync(run.bundle, { recursive: true, force: true });
      slot.release();
    }
  }

  /** Stops the watcher; steps must have ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { watcher, runDir, cgroups, sys } = this.#parts;
    watcher.stdin?.end('stop\n');
    await watcher.exited;
    sys.unmount(runDir);
    rmSync(runDir, { recursive: true, force: true });
    cgroups.close();
    rmSync(groupsFile(runDir), { force: true });
  }

  /** Everything the runtime reads, and what the root file system must have before it starts. */
  #writeBundle(run: Run): void {
    const { spec, bundle, slot, id } = run;
    const { seccomp, cgroups, sys } = this.#parts;
    mkdirSync(bundle, { mode: 0o711 });
    const binds = [...this.#hostFiles(run), ...(spec.files ?? []).map((file, n) => this.#secretFile(run, file, n))];
    const user = findProcessUser(spec.rootfs, spec.user);
    // Noted before the working directory is made: that one is meant to stay.
    const targets = [...binds, ...spec.mounts].map((mount) => mount.destination);
    run.cleanups.push(noteMountStubs(spec.rootfs, targets, spec.removeMountStubs, sys));
    if (!spec.readonlyRoot || spec.cwd !== '/') makeWorkingDirectory(spec.rootfs, spec.cwd, user);
    const config = runtimeSpec(
      { ...spec, hostname: spec.hostname || DEFAULT_HOSTNAME },
      {
        user,
        cgroupsPath: slot.path === undefined ? undefined : join(slot.path, id),
        cgroupNamespace: cgroups.layout === 'unified',
        rootless: this.#parts.rootless === true,
        seccomp,
        binds,
      },
    );
    writeFileSync(join(bundle, 'config.json'), config, { mode: 0o600 }); // the environment may hold secrets
  }

  /** The resolver is read anew for each step: a laptop changes its own while the daemon runs. */
  #hostFiles({ bundle, spec }: Run): SandboxMount[] {
    const bind = (name: string, source: string): SandboxMount => ({
      destination: `/etc/${name}`,
      kind: 'bind',
      source,
      readonly: true,
      options: ['nosuid', 'noexec', 'nodev'],
    });
    const hostname = spec.hostname || DEFAULT_HOSTNAME;
    const hosts = hostsFile(hostname, spec.extraHosts);
    const usual = hostname === DEFAULT_HOSTNAME && spec.extraHosts.length === 0;
    return [
      bind('resolv.conf', this.#sharedFile(resolvConf(readOptional('/etc/resolv.conf'), this.#parts.dns))),
      bind('hosts', usual ? this.#sharedFile(hosts) : writePublic(join(bundle, 'hosts'), hosts)),
    ];
  }

  /** One file for all steps that see the same text. Of few texts only: these files stay as long as the sandbox. */
  #sharedFile(text: string): string {
    let path = this.#shared.get(text);
    if (path === undefined) {
      path = writePublic(join(this.#parts.runDir, 'shared', String(this.#shared.size)), text);
      this.#shared.set(text, path);
    }
    return path;
  }

  #secretFile(run: Run, file: SandboxFile, n: number): SandboxMount {
    const source = join(this.#parts.runDir, 'files', `${run.id}-${n}`);
    run.cleanups.push(() => rmSync(source, { force: true }));
    writeFileSync(source, file.data, { mode: 0o600, flag: 'wx' });
    chownSync(source, file.uid, file.gid);
    chmodSync(source, file.mode & 0o777);
    const executable = (file.mode & 0o111) !== 0;
    const options = ['nodev', 'nosuid', ...(executable ? [] : ['noexec'])];
    return { destination: file.destination, kind: 'bind', source, readonly: true, options };
  }

  async #execute(run: Run): Promise<SandboxExit> {
    const { id, spec, bundle, slot } = run;
    const { runtimeInfo: runtime, runDir, sys } = this.#parts;
    const { onOutput, signal } = spec;
    const group = slot.containerDir(id);
    const memoryLimitBytes = Number(spec.resources.memoryBytes ?? 0n);
    using _watch =
      spec.onSample === undefined ? undefined : this.#sampler.watch({ slot, memoryLimitBytes, onSample: spec.onSample });
    const exit = await callRuntime({ runtime, id, bundle, stateDir: join(runDir, 'state'), group, onOutput, signal }, sys);
    const usage = slot.usage(exit, id, memoryLimitBytes);
    if (exit.status === undefined) this.#clearAway(run);
    throwIfAborted(signal);
    const status = statusOf(exit);
    if (status !== 0) throwRuntimeFailure(bundle, exit);
    return { status, usage };
  }

  /** The runtime itself was killed: what it would have removed is removed here. */
  #clearAway({ id, slot }: Run): void {
    const group = slot.containerDir(id);
    if (group !== undefined) {
      killGroupMembers(group);
      removeGroup(group);
    }
    rmSync(join(this.#parts.runDir, 'state', id), { recursive: true, force: true });
  }
}

/** A file that every user of a container can read, whatever our umask. */
function writePublic(path: string, text: string): string {
  writeFileSync(path, text);
  chmodSync(path, 0o644);
  return path;
}

/** BuildKit makes a missing working directory, owned by the user of the step. @throws BuildError `invalid-input` below a file. */
function makeWorkingDirectory(root: string, cwd: string, { uid, gid }: ProcessUser): void {
  const missing: string[] = [];
  let path = resolveInRoot(root, cwd);
  for (; path !== root && !isDirectory(path, cwd); path = dirname(path)) missing.unshift(path);
  for (const each of missing) {
    mkdirSync(each, { mode: 0o755 });
    chmodSync(each, 0o755); // whatever our umask is
    chownSync(each, uid, gid);
  }
}

function isDirectory(path: string, cwd: string): boolean {
  let stat: Stats | undefined;
  try {
    stat = lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOTDIR') throw error;
    return false;
  }
  if (stat === undefined || stat.isDirectory()) return stat !== undefined;
  throw new BuildError('invalid-input', `failed to create working directory ${cwd}: not a directory`);
}

function readOptional(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
