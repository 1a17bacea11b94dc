/** How a step's process is run. One implementation: sandbox.ts (runc or crun). */
import type { ResourceSample, StepUsage } from '../events.ts';

export interface SandboxMount {
  /** Absolute path inside the container. */
  readonly destination: string;
  readonly kind: 'bind' | 'tmpfs';
  /** Host path of a bind. */
  readonly source?: string;
  readonly readonly: boolean;
  /** tmpfs size; 0 leaves the kernel's default. */
  readonly sizeBytes?: number;
  /** Further mount options: `noexec`, `nodev`, ... */
  readonly options?: readonly string[];
}
/** A file that only this process may see: a secret. Kept in memory (tmpfs), bound read-only, gone with the process. */
export interface SandboxFile {
  /** Absolute path inside the container. */
  readonly destination: string;
  readonly data: Uint8Array;
  readonly uid: number;
  readonly gid: number;
  /** Permission bits. */
  readonly mode: number;
}
export interface SandboxSpec {
  /** Writable merged root, already mounted; or read-only when `readonlyRoot`. */
  readonly rootfs: string;
  readonly readonlyRoot: boolean;
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly cwd: string;
  /** `user[:group]`, names resolved in the root filesystem; empty is root. */
  readonly user: string;
  readonly hostname: string;
  readonly mounts: readonly SandboxMount[];
  readonly files?: readonly SandboxFile[];
  /** `sandbox` is the host's network too, as BuildKit's is where no CNI plug-in is configured; `none` has a loopback only. */
  readonly network: 'sandbox' | 'host' | 'none';
  readonly insecure: boolean;
  readonly extraHosts: readonly { readonly host: string; readonly ip: string }[];
  readonly ulimits: readonly { readonly name: string; readonly soft: bigint; readonly hard: bigint }[];
  readonly cgroupParent: string;
  readonly resources: SandboxResources;
  /** Mount points made for this run are removed after it; with this also the parent directories made for them. */
  readonly removeMountStubs: boolean;
  readonly onOutput: (stream: 1 | 2, data: Uint8Array) => void;
  /** What the process uses, about once a second while it runs. */
  readonly onSample?: (sample: ResourceSample) => void;
  readonly signal: AbortSignal;
}
export interface SandboxResources {
  readonly memoryBytes?: bigint;
  readonly memorySwapBytes?: bigint;
  readonly cpuShares?: bigint;
  readonly cpuPeriodUs?: bigint;
  readonly cpuQuotaUs?: bigint;
  readonly cpusetCpus?: string;
  readonly cpusetMems?: string;
}
export interface SandboxExit {
  /** 0-255; 128+n when killed by signal n. */
  readonly status: number;
  readonly usage: StepUsage;
}
export interface Sandbox {
  /**
   * Runs one process to its end. On abort the whole process tree is killed before the promise rejects with the abort reason. Never
   * leaves a process, a mount or a bundle directory behind, whichever way it ends. Rejects with `invalid-input` for an unknown user
   * or a command that does not exist in the root filesystem (the runtime's own message), `internal` when the runtime itself fails.
   */
  run(spec: SandboxSpec): Promise<SandboxExit>;
}
