/** A sandbox over a busybox root file system, for tests that run real containers. */
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { SandboxExit, SandboxSpec } from './ports.ts';
import { type OpenSandbox, openSandbox, type SandboxOptions } from './sandbox.ts';
import { openSys } from './sys/sys.ts';

/** Why container tests cannot run here, or false. */
export const cannotRun: string | false =
  process.getuid?.() !== 0
    ? 'needs root'
    : !existsSync('/bin/busybox')
      ? 'needs busybox-static'
      : spawnSync('runc', ['--version']).status === 0
        ? false
        : 'needs runc';

export interface Rig extends AsyncDisposable {
  readonly sandbox: OpenSandbox;
  readonly root: string;
  readonly rootfs: string;
  /** Runs a shell script in the root file system. */
  sh(script: string, spec?: Partial<SandboxSpec>): Promise<Ran>;
}
export interface Ran extends SandboxExit {
  readonly out: string;
  readonly err: string;
  /** Pieces as they were delivered. */
  readonly pieces: readonly { readonly stream: 1 | 2; readonly data: Uint8Array }[];
}

export async function openRig(t: TestContext, options: Partial<SandboxOptions> = {}): Promise<Rig> {
  const root = mkdtempSync(join(tmpdir(), 'cooper-sandbox-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const rootfs = join(root, 'rootfs');
  makeRootfs(rootfs);
  const sandbox = await openSandbox({ root, runtime: 'auto', sys: openSys(), ...options });
  return {
    sandbox,
    root,
    rootfs,
    async sh(script, spec = {}) {
      const pieces: { stream: 1 | 2; data: Uint8Array }[] = [];
      const exit = await sandbox.run({
        ...plainSpec(rootfs),
        args: ['/bin/sh', '-c', script],
        onOutput: (stream, data) => pieces.push({ stream, data }),
        ...spec,
      });
      const text = (wanted: 1 | 2): string =>
        Buffer.concat(pieces.filter(({ stream }) => stream === wanted).map(({ data }) => data)).toString();
      return { ...exit, out: text(1), err: text(2), pieces };
    },
    [Symbol.asyncDispose]: () => sandbox[Symbol.asyncDispose](),
  };
}

/** Busybox under the names of its applets, and a passwd and group file with the user `app`. */
export function makeRootfs(rootfs: string): void {
  mkdirSync(join(rootfs, 'bin'), { recursive: true });
  mkdirSync(join(rootfs, 'etc'));
  copyFileSync('/bin/busybox', join(rootfs, 'bin/busybox'));
  const applets =
    'sh cat id echo sleep ls kill pwd dd hostname touch mount yes head mkdir stat ip unshare true mknod mkfifo env seq rm ln';
  for (const name of applets.split(' ')) symlinkSync('busybox', join(rootfs, 'bin', name));
  writeFileSync(join(rootfs, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n');
  writeFileSync(join(rootfs, 'etc/group'), 'root:x:0:\napp:x:1001:\nextra:x:2000:other,app\n');
}

export function plainSpec(rootfs: string): SandboxSpec {
  return {
    rootfs,
    readonlyRoot: false,
    args: ['/bin/true'],
    env: ['PATH=/bin'],
    cwd: '/',
    user: '',
    hostname: '',
    mounts: [],
    network: 'sandbox',
    insecure: false,
    extraHosts: [],
    ulimits: [],
    cgroupParent: '',
    resources: {},
    removeMountStubs: true,
    onOutput: () => {},
    signal: new AbortController().signal,
  };
}

/** Command lines of all live processes that hold `text`. */
export function processesWith(text: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && name !== String(process.pid))
    .flatMap((pid) => {
      try {
        const line = readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ');
        return line.includes(text) ? [line] : [];
      } catch {
        return [];
      }
    });
}

export const mountsBelow = (dir: string): string[] =>
  readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .filter((line) => line.includes(dir));

/** Waits for something another process does; the test's own timeout ends it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}
