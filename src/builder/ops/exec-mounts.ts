/** The mounts of an exec op made real: snapshots to write to, views to read from, cache directories, and which of them become outputs. */
import { closeSync, mkdtempSync, openSync, readlinkSync, rmdirSync } from 'node:fs';
import { join, posix } from 'node:path';
import { BuildError } from '../../core/errors.ts';
import { CacheSharingOpt, type ExecOp, type Mount, MountType } from '../proto/gen/pb/ops_pb.ts';
import type { MutableSnapshot, NamedDirectory, Snapshot } from '../snapshot/ports.ts';
import type { OpContext, Result } from '../solver/ports.ts';
import type { SandboxFile, SandboxMount } from '../worker/ports.ts';
import { resolveInRoot } from '../worker/root-path.ts';
import { MOUNT } from '../worker/sys/ports.ts';
import type { OpDeps } from './deps.ts';
import type { SecretValue } from './redact.ts';
import { openResult, UNTYPED } from './results.ts';

export interface PreparedMounts {
  readonly rootfs: string;
  readonly readonlyRoot: boolean;
  /** Sorted by destination, so that parents come first. */
  readonly mounts: readonly SandboxMount[];
  readonly files: readonly SandboxFile[];
  /** Directories with what the step may have changed of its outputs. */
  readonly changes: readonly string[];
  /** Freezes what becomes an output; one result per output index, in order. Call at most once. */
  commit(): Promise<Result[]>;
}

export interface ExecInfo {
  readonly exec: ExecOp;
  readonly cwd: string;
  readonly args: readonly string[];
  /** Cache mounts begin empty. */
  readonly ignoreCache: boolean;
  /** Secrets, collected here so that the output can be cleaned of them and the result searched for them. */
  readonly secrets: SecretValue[];
}

const O_PATH = 0o10000000;

/** Everything that is opened is owned by `stack`. @throws BuildError `not-found` for a missing secret or path. */
export async function prepareMounts(
  info: ExecInfo,
  inputs: readonly Result[],
  context: OpContext,
  deps: OpDeps,
  stack: AsyncDisposableStack,
): Promise<PreparedMounts> {
  const preparation = new Preparation(info, inputs, context, deps, stack);
  await preparation.openCaches();
  for (const mount of info.exec.mounts) await preparation.add(mount);
  return preparation.result();
}

type Output = { readonly snapshot: Snapshot } | { readonly mutable: MutableSnapshot };

class Preparation {
  readonly #info: ExecInfo;
  readonly #inputs: readonly Result[];
  readonly #context: OpContext;
  readonly #deps: OpDeps;
  readonly #stack: AsyncDisposableStack;
  readonly #mounts: SandboxMount[] = [];
  readonly #files: SandboxFile[] = [];
  readonly #outputs = new Map<bigint, Output>();
  readonly #caches = new Map<string, NamedDirectory>();
  readonly #snapshots = new Map<bigint, Promise<Snapshot | undefined>>();
  #root: { readonly dir: string; readonly readonly: boolean } | undefined;

  constructor(info: ExecInfo, inputs: readonly Result[], context: OpContext, deps: OpDeps, stack: AsyncDisposableStack) {
    this.#info = info;
    this.#inputs = inputs;
    this.#context = context;
    this.#deps = deps;
    this.#stack = stack;
  }

  result(): PreparedMounts {
    if (this.#root === undefined) throw new BuildError('invalid-input', 'invalid exec op with no rootfs');
    return {
      rootfs: this.#root.dir,
      readonlyRoot: this.#root.readonly,
      mounts: this.#mounts.sort((a, b) => (a.destination < b.destination ? -1 : a.destination > b.destination ? 1 : 0)),
      files: this.#files,
      changes: [...this.#outputs.values()].flatMap((output) => ('mutable' in output ? [output.mutable.changes] : [])),
      commit: () => this.#commit(),
    };
  }

  /**
   * Cache directories first and in the order of their names: two steps that lock the same two directories must not each hold one and
   * wait for the other. Mounts of one step that name the same directory share it.
   */
  async openCaches(): Promise<void> {
    const wanted = new Map<string, Mount>();
    for (const mount of this.#info.exec.mounts) {
      if (mount.mountType !== MountType.CACHE) continue;
      const key = await this.#cacheKey(mount);
      if (!wanted.has(key)) wanted.set(key, mount);
    }
    for (const [key, mount] of [...wanted].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const parent = await this.#inputOf(mount);
      const id = mount.cacheOpt?.ID ?? '';
      const suffix = id === mount.dest ? '' : ` with id ${JSON.stringify(id)}`;
      const directory = await this.#deps.snapshots.openNamed(key, sharingOf(mount), {
        description: `cached mount ${mount.dest} from exec ${this.#info.args.join(' ')}${suffix}`,
        recordType: 'exec.cachemount',
        signal: this.#context.signal,
        fresh: this.#info.ignoreCache,
        ...(parent === undefined ? {} : { parent }),
      });
      this.#caches.set(key, this.#stack.use(directory));
    }
  }

  add(mount: Mount): Promise<void> {
    if (mount.dest === '/' && mount.mountType !== MountType.BIND) {
      throw new BuildError('invalid-input', `invalid mount type ${mount.mountType} for /`);
    }
    switch (mount.mountType) {
      case MountType.BIND:
        return this.#addBind(mount);
      case MountType.CACHE:
        return this.#addCache(mount);
      case MountType.TMPFS:
        return this.#addTmpfs(mount);
      case MountType.SECRET:
        return this.#addSecret(mount);
      case MountType.SSH:
        return this.#addSsh(mount);
      default:
        throw new BuildError('unsupported', `mount type ${mount.mountType} of ${mount.dest} is not known`);
    }
  }

  async #addBind(mount: Mount): Promise<void> {
    const input = await this.#inputOf(mount);
    const isRoot = mount.dest === '/';
    const kept = mount.output !== -1n;
    // A read-only mount with an output hands its input on. The root always gets a layer of its own: mount points are made in it.
    if (kept && mount.readonly && input !== undefined && !isRoot) this.#outputs.set(mount.output, { snapshot: input });
    else if (kept || isRoot || !mount.readonly || input === undefined) {
      const mutable = this.#stack.use(await this.#deps.snapshots.prepare(input, { description: this.#describe(mount) }));
      const dir = await mutable.mount();
      if (kept) this.#outputs.set(mount.output, { mutable });
      if (isRoot) this.#root = { dir, readonly: mount.readonly };
      else this.#bind(mount, resolveSource(dir, mount.selector));
      return;
    }
    const view = this.#stack.use(await input.view());
    this.#bind(mount, resolveSource(view.dir, mount.selector));
  }

  async #addCache(mount: Mount): Promise<void> {
    const directory = this.#caches.get(await this.#cacheKey(mount));
    if (directory === undefined) throw new BuildError('internal', `the cache of mount ${mount.dest} was not opened`);
    const input = await this.#inputOf(mount);
    if (mount.output !== -1n && input !== undefined) this.#outputs.set(mount.output, { snapshot: input });
    const selector = posix.join('/', mount.selector);
    this.#bind(mount, selector === '/' ? directory.dir : this.#pinSource(directory.dir, selector));
  }

  async #addTmpfs(mount: Mount): Promise<void> {
    const sizeBytes = Number(mount.TmpfsOpt?.size ?? 0n);
    this.#mounts.push({ destination: this.#destination(mount), kind: 'tmpfs', readonly: mount.readonly, sizeBytes });
  }

  async #addSecret(mount: Mount): Promise<void> {
    const options = mount.secretOpt;
    if (options === undefined) throw new BuildError('invalid-input', 'invalid secret mount options');
    if (options.ID === '') throw new BuildError('invalid-input', 'secret ID missing from mount options');
    const { signal, traceparent } = this.#context;
    const data = await this.#deps.readSecret(this.#context.sessions(), options.ID, signal, traceparent);
    this.#context.progress.used('secret', options.ID, data !== undefined);
    if (data === undefined) {
      if (options.optional) return;
      throw secretMissing(options.ID);
    }
    this.#info.secrets.push({ id: options.ID, value: data });
    const { uid, gid, mode } = options;
    this.#files.push({ destination: this.#destination(mount), data, uid, gid, mode });
  }

  async #addSsh(mount: Mount): Promise<void> {
    const options = mount.SSHOpt;
    if (options === undefined) throw new BuildError('invalid-input', 'invalid ssh mount options');
    const { ID, uid, gid, mode } = options;
    const dir = mkdtempSync(join(this.#deps.tempDir, 'ssh-'));
    this.#stack.defer(() => rmdirSync(dir));
    const socket = { id: ID, path: join(dir, 'agent'), uid, gid, mode: mode & 0o777 };
    const { signal } = this.#context;
    const agent = await this.#deps.openAgent(this.#context.sessions(), socket, signal).catch((error: unknown) => {
      if (!options.optional || signal.aborted) throw error; // a client may answer anything for a key it does not have
      return undefined;
    });
    this.#context.progress.used('ssh', ID === '' ? 'default' : ID, agent !== undefined);
    if (agent === undefined) {
      if (options.optional) return;
      throw new BuildError('not-found', `no SSH key ${JSON.stringify(ID)} forwarded from the client`, UNTYPED);
    }
    this.#stack.use(agent);
    this.#bind(mount, socket.path);
  }

  /** The snapshot behind a mount's input, opened once; undefined for scratch. */
  #inputOf(mount: Mount): Promise<Snapshot | undefined> {
    if (mount.input === -1n) return Promise.resolve(undefined);
    const result = this.#inputs[Number(mount.input)];
    if (result === undefined) throw new BuildError('invalid-input', `missing input ${mount.input}`);
    const known = this.#snapshots.get(mount.input);
    if (known !== undefined) return known;
    const opened = openResult(this.#deps.snapshots, result).then((snapshot) => this.#stack.use(snapshot));
    this.#snapshots.set(mount.input, opened);
    return opened;
  }

  async #cacheKey(mount: Mount): Promise<string> {
    if (mount.cacheOpt === undefined) throw new BuildError('invalid-input', 'missing cache mount options');
    const input = await this.#inputOf(mount);
    return input === undefined ? mount.cacheOpt.ID : `${mount.cacheOpt.ID}:${input.id}`;
  }

  #bind(mount: Mount, source: string): void {
    this.#mounts.push({ destination: this.#destination(mount), kind: 'bind', source, readonly: mount.readonly });
  }

  /**
   * A path inside a directory that other running steps may write to: they could put a symlink in its place between our look and the
   * runtime's mount. So the path is opened, found to be where we think, and bound by its descriptor.
   */
  #pinSource(dir: string, selector: string): string {
    const { sys, tempDir } = this.#deps;
    const source = resolveSource(dir, selector);
    const fd = openSync(source, O_PATH);
    try {
      const handle = `/proc/self/fd/${fd}`;
      if (readlinkSync(handle) !== source) throw new BuildError('invalid-input', `unable to safely resolve subpath ${selector}`);
      const target = mkdtempSync(join(tempDir, 'pin-'));
      this.#stack.defer(() => rmdirSync(target));
      sys.mount({ type: '', source: handle, target, flags: MOUNT.BIND });
      this.#stack.defer(() => void sys.unmount(target));
      return target;
    } finally {
      closeSync(fd);
    }
  }

  /** A relative destination begins at the working directory. */
  #destination({ dest }: Mount): string {
    return dest.startsWith('/') ? posix.normalize(dest) : posix.join('/', this.#info.cwd, dest);
  }

  #describe({ dest }: Mount): string {
    return `mount ${dest} from exec ${this.#info.args.join(' ')}`;
  }

  async #commit(): Promise<Result[]> {
    const results: Result[] = [];
    try {
      for (const [, output] of [...this.#outputs].sort(([a], [b]) => Number(a - b))) {
        results.push('snapshot' in output ? output.snapshot.clone() : await output.mutable.commit());
      }
      return results;
    } catch (error) {
      for (const result of results) await result[Symbol.asyncDispose]();
      throw error;
    }
  }
}

export const secretMissing = (id: string): BuildError => new BuildError('not-found', `secret ${id}: not found`, UNTYPED);

function sharingOf({ cacheOpt }: Mount): 'shared' | 'private' | 'locked' {
  switch (cacheOpt?.sharing) {
    case CacheSharingOpt.PRIVATE:
      return 'private';
    case CacheSharingOpt.LOCKED:
      return 'locked';
    default:
      return 'shared';
  }
}

/** The host path of a selected path, which must exist. */
function resolveSource(dir: string, selector: string): string {
  const source = resolveInRoot(dir, selector);
  try {
    closeSync(openSync(source, O_PATH));
  } catch (cause) {
    throw new BuildError('not-found', `${posix.join('/', selector)}: no such file or directory`, UNTYPED, { cause });
  }
  return source;
}
