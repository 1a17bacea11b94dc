/** Exec ops: a command in a container, its mounts, and what it leaves behind. */
import { BuildError, GRPC } from '../../core/errors.ts';
import type { OomKill } from '../events.ts';
import type { Vertex } from '../llb/definition.ts';
import { type ExecOp, type LinuxResources, type Meta, NetMode, type ProxyEnv, SecurityMode } from '../proto/gen/pb/ops_pb.ts';
import type { Op, OpContext, Result } from '../solver/ports.ts';
import type { SandboxExit, SandboxResources, SandboxSpec } from '../worker/ports.ts';
import type { OpDeps } from './deps.ts';
import { execCacheMap } from './exec-key.ts';
import { type PreparedMounts, prepareMounts, secretMissing } from './exec-mounts.ts';
import { goQuote } from './go-quote.ts';
import { redactor, type SecretValue } from './redact.ts';
import { lookForSecrets } from './secret-leaks.ts';

const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const KILLED = 128 + 9;

export function execOp(vertex: Vertex, exec: ExecOp, deps: OpDeps): Op {
  const { meta } = exec;
  if (meta === undefined) throw new BuildError('invalid-input', 'invalid exec op with no meta');
  const device = exec.cdiDevices.find(({ optional }) => !optional);
  if (device !== undefined)
    throw new BuildError('unsupported', `this daemon gives steps no devices: ${device.name} was asked for`);
  return {
    resource: 'exec',
    cacheMap: async () => ({ map: execCacheMap(exec, vertex.platform ?? deps.platform, vertex.inputs.length, deps), done: true }),
    exec: (context, inputs) => new Execution(vertex, exec, meta, context, deps).run(inputs),
  };
}

/** One run of one exec op. */
class Execution {
  readonly #vertex: Vertex;
  readonly #exec: ExecOp;
  readonly #meta: Meta;
  readonly #context: OpContext;
  readonly #deps: OpDeps;
  readonly #secrets: SecretValue[] = [];

  constructor(vertex: Vertex, exec: ExecOp, meta: Meta, context: OpContext, deps: OpDeps) {
    this.#vertex = vertex;
    this.#exec = exec;
    this.#meta = meta;
    this.#context = context;
    this.#deps = deps;
  }

  async run(inputs: readonly Result[]): Promise<Result[]> {
    await using stack = new AsyncDisposableStack();
    const mounts = await this.#phase('mounts', async () => {
      const info = {
        exec: this.#exec,
        cwd: this.#meta.cwd,
        args: this.#meta.args,
        ignoreCache: this.#vertex.options.ignoreCache,
        secrets: this.#secrets,
      };
      return prepareMounts(info, inputs, this.#context, this.#deps, stack);
    });
    const env = await this.#environment();
    const exit = await this.#phase('run', () => this.#runProcess(mounts, env));
    this.#context.progress.usage(exit.usage);
    this.#check(exit);
    await lookForSecrets(mounts.changes, this.#secrets, this.#context, this.#deps);
    return await this.#phase('commit', () => mounts.commit());
  }

  async #phase<T>(phase: 'mounts' | 'run' | 'commit', work: () => Promise<T>): Promise<T> {
    const startedAtNs = this.#deps.clock.nowNs();
    try {
      return await work();
    } finally {
      this.#context.progress.phase(phase, startedAtNs);
    }
  }

  async #runProcess(mounts: PreparedMounts, env: readonly string[]): Promise<SandboxExit> {
    const { progress } = this.#context;
    if (this.#exec.network === NetMode.HOST) progress.used('entitlement', 'network.host', true);
    if (this.#exec.security === SecurityMode.INSECURE) progress.used('entitlement', 'security.insecure', true);
    const values = this.#secrets.map(({ value }) => value);
    const out = redactor(values, (data) => progress.log(1, data));
    const err = redactor(values, (data) => progress.log(2, data));
    try {
      const onOutput: SandboxSpec['onOutput'] = (stream, data) => (stream === 1 ? out : err).push(data);
      return await this.#deps.sandbox.run(this.#sandboxSpec(mounts, env, onOutput));
    } catch (error) {
      throw this.#failure(BuildError.from(error));
    } finally {
      out.flush();
      err.flush();
    }
  }

  #sandboxSpec(mounts: PreparedMounts, env: readonly string[], onOutput: SandboxSpec['onOutput']): SandboxSpec {
    const meta = this.#meta;
    return {
      rootfs: mounts.rootfs,
      readonlyRoot: mounts.readonlyRoot,
      args: meta.args,
      env,
      cwd: meta.cwd,
      user: meta.user,
      hostname: meta.hostname,
      mounts: mounts.mounts,
      files: mounts.files,
      network: networkOf(this.#exec.network),
      insecure: this.#exec.security === SecurityMode.INSECURE,
      extraHosts: meta.extraHosts.map(({ Host, IP }) => ({ host: Host, ip: IP })),
      ulimits: meta.ulimit.map(({ Name, Soft, Hard }) => ({ name: Name, soft: Soft, hard: Hard })),
      cgroupParent: meta.cgroupParent,
      resources: resourcesOf(this.#vertex.options.linuxResources),
      removeMountStubs: meta.removeMountStubsRecursive,
      onOutput,
      onSample: (sample) => this.#context.progress.resources(sample),
      signal: this.#context.signal,
    };
  }

  /** The op's own variables, then what must not be part of its key: proxies, secrets, the trace. */
  async #environment(): Promise<string[]> {
    const env = [...this.#meta.env, ...proxyVariables(this.#meta.proxyEnv)];
    const has = (name: string): boolean => env.some((entry) => entry.startsWith(`${name}=`));
    if (!has('PATH')) env.push(DEFAULT_PATH);
    const { traceparent } = this.#context;
    if (traceparent !== undefined && !has('TRACEPARENT')) env.push(`TRACEPARENT=${traceparent}`);
    for (const { ID, name, optional } of this.#exec.secretenv) {
      if (ID === '') throw new BuildError('invalid-input', `secret ID missing for ${goQuote(name)} environment variable`);
      const value = await this.#deps.readSecret(this.#context.sessions(), ID, this.#context.signal, traceparent);
      this.#context.progress.used('secret', ID, value !== undefined);
      if (value === undefined && !optional) throw secretMissing(ID);
      if (value !== undefined) this.#secrets.push({ id: ID, value });
      env.push(`${name}=${Buffer.from(value ?? []).toString()}`);
    }
    return env;
  }

  #check({ status, usage }: SandboxExit): void {
    const valid = this.#meta.validExitCodes;
    if (valid.length === 0 ? status === 0 : valid.includes(status)) return;
    if (usage.oom !== undefined) throw this.#outOfMemory(status, usage.oom);
    throw new BuildError('step-failed', `${this.#incomplete()}: exit code: ${status}`, {
      grpcCode: GRPC.UNKNOWN,
      exitCode: status,
    });
  }

  /** The user's own limit is the user's to raise; memory that we or the machine ran out of is not. */
  #outOfMemory(exitCode: number, { scope, process, peakBytes, limitBytes }: OomKill): BuildError {
    const facts = [
      ...(process === undefined ? [] : [`process ${process}`]),
      ...(peakBytes === 0 ? [] : [`peak ${sizeText(peakBytes)}`]),
      ...(limitBytes === undefined ? [] : [`limit ${sizeText(limitBytes)}`]),
    ];
    const own = scope === 'step';
    const whose = own ? '' : ' of the builder';
    const text = `cannot allocate memory: killed: out of memory${whose}${facts.length === 0 ? '' : ` (${facts.join(', ')})`}`;
    return new BuildError(own ? 'step-failed' : 'exhausted', `${this.#incomplete()}: ${text}`, {
      grpcCode: GRPC.UNKNOWN,
      exitCode,
      hint: own
        ? "raise the step's memory limit or let it need less"
        : 'give the builder more memory, run fewer steps at once (worker.oci.max-parallelism), or limit the memory of steps',
    });
  }

  /** The runtime could not start the command, the user does not exist, or the step was stopped. */
  #failure(error: BuildError): BuildError {
    const details = { ...error.detail, grpcCode: GRPC.UNKNOWN };
    if (this.#context.signal.aborted) {
      const reason = error.kind === 'cancelled' ? 'context canceled: context canceled' : error.message;
      return new BuildError(error.kind, `${this.#incomplete()}: exit code: ${KILLED}: ${reason}`, error.detail, { cause: error });
    }
    const { exitCode } = error.detail;
    if (error.kind === 'invalid-input' && exitCode !== undefined) {
      return new BuildError('step-failed', `${this.#incomplete()}: exit code: ${exitCode}`, details, { cause: error });
    }
    return new BuildError(error.kind, `${this.#incomplete()}: ${error.message}`, details, { cause: error });
  }

  #incomplete(): string {
    return `process ${goQuote(this.#meta.args.join(' '))} did not complete successfully`;
  }
}

/** `64.0 MiB` */
function sizeText(bytes: number): string {
  const power = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), 4);
  return power === 0 ? `${bytes} B` : `${(bytes / 1024 ** power).toFixed(1)} ${['', 'K', 'M', 'G', 'T'][power]}iB`;
}

function networkOf(mode: ExecOp['network']): SandboxSpec['network'] {
  switch (mode) {
    case NetMode.UNSET:
      return 'sandbox';
    case NetMode.HOST:
      return 'host';
    case NetMode.NONE:
      return 'none';
    default:
      throw new BuildError('invalid-input', `unknown network mode ${mode}`);
  }
}

function proxyVariables(proxy: ProxyEnv | undefined): string[] {
  if (proxy === undefined) return [];
  const pairs = [
    ['http_proxy', proxy.httpProxy],
    ['https_proxy', proxy.httpsProxy],
    ['ftp_proxy', proxy.ftpProxy],
    ['no_proxy', proxy.noProxy],
    ['all_proxy', proxy.allProxy],
  ] as const;
  return pairs.flatMap(([name, value]) => (value === '' ? [] : [`${name.toUpperCase()}=${value}`, `${name}=${value}`]));
}

function resourcesOf(resources: LinuxResources | undefined): SandboxResources {
  if (resources === undefined) return {};
  return {
    memoryBytes: resources.memory,
    memorySwapBytes: resources.memorySwap,
    cpuShares: resources.cpuShares,
    cpuPeriodUs: resources.cpuPeriod,
    cpuQuotaUs: resources.cpuQuota,
    cpusetCpus: resources.cpusetCpus,
    cpusetMems: resources.cpusetMems,
  };
}
