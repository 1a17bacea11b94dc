/** Run steps. Shapes: buildkit-wire.md section 2.4, ExecOp. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  CacheSharingOpt,
  type ExecOpSchema,
  type MetaSchema,
  type MountSchema,
  MountType,
  NetMode,
  SecurityMode,
} from '../proto/gen/pb/ops_pb.ts';
import { uniqueOutputs } from './file.ts';
import { type OpInit, type Output, platformOr, type State, type StepOptions, type VertexBuilder, withOutput } from './state.ts';

export type RunMount =
  | {
      readonly kind: 'bind';
      readonly target: string;
      readonly from: State;
      readonly selector?: string;
      readonly readonly: boolean;
      /** Writable, but what was written is dropped. */
      readonly noOutput?: boolean;
    }
  | {
      readonly kind: 'cache';
      readonly target: string;
      readonly from: State;
      readonly selector?: string;
      readonly readonly: boolean;
      readonly id: string;
      readonly sharing: 'shared' | 'private' | 'locked';
    }
  | {
      readonly kind: 'tmpfs';
      readonly target: string;
      readonly selector?: string;
      readonly readonly: boolean;
      readonly sizeBytes: bigint;
    };
export interface FileIds {
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}
export interface RunSecret extends FileIds {
  readonly id: string;
  readonly target?: string | undefined;
  readonly env?: string | undefined;
  readonly optional: boolean;
}
export interface RunSsh extends FileIds {
  readonly id: string;
  readonly target: string;
  readonly optional: boolean;
}
export interface ProxyEnv {
  readonly httpProxy?: string;
  readonly httpsProxy?: string;
  readonly ftpProxy?: string;
  readonly noProxy?: string;
  readonly allProxy?: string;
}

export interface RunOptions extends StepOptions {
  readonly args: readonly string[];
  readonly mounts: readonly RunMount[];
  readonly secrets: readonly RunSecret[];
  readonly ssh: readonly RunSsh[];
  readonly network?: NetMode | undefined;
  readonly security?: SecurityMode | undefined;
  readonly proxyEnv?: ProxyEnv | undefined;
  readonly extraHosts: readonly { readonly host: string; readonly ip: string }[];
  readonly ulimits: readonly { readonly name: string; readonly soft: bigint; readonly hard: bigint }[];
  readonly cgroupParent?: string;
  readonly devices?: readonly { readonly name: string; readonly optional: boolean }[];
}

interface PlacedMount {
  readonly mount: RunMount | 'root';
  readonly target: string;
}

/** The state after a command ran in `state`. */
export function run(state: State, options: RunOptions): State {
  // Mounts are made parents first; equal targets keep the order they were given in.
  const placed: PlacedMount[] = [
    { mount: 'root', target: '/' },
    ...options.mounts.map((mount) => ({ mount, target: mount.target })),
  ];
  placed.sort((a, b) => Buffer.compare(Buffer.from(a.target), Buffer.from(b.target)));
  const sources = placed.map(({ mount }) => sourceOf(state, mount)).filter((output) => output !== undefined);
  const builder: VertexBuilder = {
    inputs: uniqueOutputs(sources),
    options,
    caps: capsOf(state, options),
    encode: (inputOf, defaults) => encodeRun(state, options, placed, inputOf, platformOr(state.platform, defaults)),
  };
  const rootIndex = placed.filter(hasOutput).findIndex(({ mount }) => mount === 'root');
  return withOutput(state, { vertex: () => builder, index: rootIndex });
}

type ExecInit = Exclude<MessageInitShape<typeof ExecOpSchema>, { readonly $typeName: string }>;
type MetaInit = Exclude<MessageInitShape<typeof MetaSchema>, { readonly $typeName: string }>;
type MountInit = Exclude<MessageInitShape<typeof MountSchema>, { readonly $typeName: string }>;

function encodeRun(
  state: State,
  options: RunOptions,
  placed: readonly PlacedMount[],
  inputOf: (output: Output) => bigint,
  platform: ReturnType<typeof platformOr>,
): OpInit {
  let outputs = 0n;
  const mounts = placed.map((place): MountInit => {
    const source = sourceOf(state, place.mount);
    const input = source === undefined ? -1n : inputOf(source);
    const output = hasOutput(place) ? outputs++ : -1n;
    return { input, output, dest: place.target, ...mountDetail(place.mount) };
  });
  const exec: ExecInit = {
    meta: metaOf(state, options),
    mounts: [...mounts, ...options.secrets.flatMap(secretMount), ...options.ssh.map(sshMount)],
    network: options.network ?? state.network,
    security: options.security ?? state.security,
    secretenv: options.secrets.flatMap(({ id, env, optional }) => (env === undefined ? [] : [{ ID: id, name: env, optional }])),
    cdiDevices: (options.devices ?? []).map(({ name, optional }) => ({ name, optional })),
  };
  return { op: { case: 'exec', value: exec }, platform };
}

function metaOf(state: State, options: RunOptions): MetaInit {
  const agent = options.ssh[0]?.target;
  const env =
    agent === undefined || state.env.get('SSH_AUTH_SOCK') !== undefined ? state.env : state.env.set('SSH_AUTH_SOCK', agent);
  return {
    args: [...options.args],
    env: env.toArray(),
    cwd: state.dir,
    user: state.user,
    hostname: state.hostname,
    cgroupParent: options.cgroupParent ?? '',
    removeMountStubsRecursive: true,
    extraHosts: options.extraHosts.map(({ host, ip }) => ({ Host: host, IP: ip })),
    ulimit: options.ulimits.map(({ name, soft, hard }) => ({ Name: name, Soft: soft, Hard: hard })),
    ...(options.proxyEnv === undefined ? {} : { proxyEnv: options.proxyEnv }),
  };
}

function sourceOf(state: State, mount: RunMount | 'root'): Output | undefined {
  if (mount === 'root') return state.output;
  return mount.kind === 'tmpfs' ? undefined : mount.from.output;
}

const hasOutput = ({ mount }: PlacedMount): boolean =>
  mount === 'root' || (mount.kind === 'bind' && !mount.readonly && mount.noOutput !== true);

const SHARING = { shared: CacheSharingOpt.SHARED, private: CacheSharingOpt.PRIVATE, locked: CacheSharingOpt.LOCKED } as const;

function mountDetail(mount: RunMount | 'root'): MountInit {
  if (mount === 'root') return {};
  const common = { selector: mount.selector ?? '', readonly: mount.readonly };
  if (mount.kind === 'cache') {
    return { ...common, mountType: MountType.CACHE, cacheOpt: { ID: mount.id, sharing: SHARING[mount.sharing] } };
  }
  if (mount.kind === 'tmpfs') return { ...common, mountType: MountType.TMPFS, TmpfsOpt: { size: mount.sizeBytes } };
  return common;
}

function secretMount({ id, target, uid, gid, mode, optional }: RunSecret): MountInit[] {
  if (target === undefined) return [];
  return [{ input: -1n, dest: target, mountType: MountType.SECRET, secretOpt: { ID: id, uid, gid, mode, optional } }];
}

function sshMount({ id, target, uid, gid, mode, optional }: RunSsh): MountInit {
  return { input: -1n, dest: target, mountType: MountType.SSH, SSHOpt: { ID: id, uid, gid, mode, optional } };
}

/** Capabilities the daemon must have, in BuildKit's names: a client checks them before it sends the graph. */
function capsOf(state: State, options: RunOptions): string[] {
  const { mounts, secrets, ssh } = options;
  const caps: readonly (readonly [boolean, string])[] = [
    [true, 'exec.meta.setsdefaultpath'],
    [options.ulimits.length > 0, 'exec.meta.ulimit'],
    [options.linuxResources !== undefined, 'exec.meta.linux.resources'],
    [(options.network ?? state.network) !== NetMode.UNSET, 'exec.meta.network'],
    [(options.security ?? state.security) !== SecurityMode.SANDBOX, 'exec.meta.security'],
    [options.proxyEnv !== undefined, 'exec.meta.proxyenv'],
    [true, 'exec.meta.base'],
    [mounts.some(({ selector = '' }) => selector !== ''), 'exec.mount.selector'],
    [mounts.some(({ kind }) => kind === 'cache'), 'exec.mount.cache'],
    [mounts.some(({ kind }) => kind === 'cache'), 'exec.mount.cache.sharing'],
    [mounts.some(({ kind }) => kind === 'tmpfs'), 'exec.mount.tmpfs'],
    [mounts.some((mount) => mount.kind === 'tmpfs' && mount.sizeBytes > 0n), 'exec.mount.tmpfs.size'],
    [
      state.output !== undefined || mounts.some((mount) => mount.kind === 'bind' && mount.from.output !== undefined),
      'exec.mount.bind',
    ],
    [secrets.length > 0, 'exec.mount.secret'],
    [secrets.some(({ env }) => env !== undefined), 'exec.secretenv'],
    [ssh.length > 0, 'exec.mount.ssh'],
    [(options.devices ?? []).length > 0, 'exec.meta.cdi'],
  ];
  return caps.filter(([needed]) => needed).map(([, cap]) => cap);
}
