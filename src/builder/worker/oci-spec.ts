/** The runtime spec of a step (runtime-spec v1.0), equal in effect to what BuildKit gives its steps. */
import { readdirSync, readFileSync } from 'node:fs';
import type { SandboxMount, SandboxSpec } from './ports.ts';
import type { SeccompProfile } from './seccomp.ts';
import type { ProcessUser } from './users.ts';

interface OciMount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

const CAPABILITIES = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FSETID',
  'CAP_FOWNER',
  'CAP_MKNOD',
  'CAP_NET_RAW',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETFCAP',
  'CAP_SETPCAP',
  'CAP_NET_BIND_SERVICE',
  'CAP_SYS_CHROOT',
  'CAP_KILL',
  'CAP_AUDIT_WRITE',
];
/** By bit number, linux/capability.h. */
const ALL_CAPABILITIES = (
  'CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST ' +
  'NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE ' +
  'SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM ' +
  'BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE'
)
  .split(' ')
  .map((name) => `CAP_${name}`);

const MASKED_PATHS = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
  '/proc/scsi',
];
const READONLY_PATHS = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];
/** What an insecure step finds in /dev on top of the standard devices: path, type, major, minor. */
const INSECURE_DEVICES: readonly (readonly [string, string, number, number])[] = [
  ['/dev/kmsg', 'c', 1, 11],
  ['/dev/cuse', 'c', 10, 203],
  ['/dev/fuse', 'c', 10, 229],
  ['/dev/kvm', 'c', 10, 232],
  ['/dev/net/tun', 'c', 10, 200],
  ['/dev/loop-control', 'c', 10, 237],
];
const SPARE_LOOP_DEVICES = 8;

/** What the sandbox adds to the caller's description of a step. */
export interface SpecParts {
  readonly user: ProcessUser;
  /** Undefined without control groups. */
  readonly cgroupsPath: string | undefined;
  /** Inside a user namespace: some devices, groups and mounts are not ours to make. */
  readonly rootless: boolean;
  readonly cgroupNamespace: boolean;
  readonly seccomp: SeccompProfile | undefined;
  /** Bound over the root: resolv.conf, hosts, secrets. */
  readonly binds: readonly SandboxMount[];
}

/** The text of config.json. */
export function runtimeSpec(spec: SandboxSpec, parts: SpecParts): string {
  const { insecure } = spec;
  const capabilities = insecure ? grantableCapabilities() : CAPABILITIES;
  const namespaces = [
    'pid',
    'ipc',
    'uts',
    'mount',
    ...(spec.network === 'none' ? ['network'] : []),
    ...(parts.cgroupNamespace ? ['cgroup'] : []),
  ];
  return JSON.stringify({
    ociVersion: '1.0.2',
    process: {
      terminal: false,
      user: parts.user,
      args: spec.args,
      env: uniqueEnv(spec.env),
      cwd: spec.cwd === '' ? '/' : spec.cwd,
      capabilities: {
        bounding: capabilities,
        permitted: capabilities,
        effective: capabilities,
        ...(insecure ? { inheritable: capabilities, ambient: capabilities } : {}),
      },
      noNewPrivileges: false,
      ...(spec.ulimits.length === 0 ? {} : { rlimits: spec.ulimits.map(rlimit) }),
    },
    root: { path: spec.rootfs, readonly: spec.readonlyRoot },
    hostname: spec.hostname,
    mounts: mountsOf(spec, parts),
    linux: {
      namespaces: namespaces.map((type) => ({ type })),
      ...(parts.cgroupsPath === undefined ? {} : { cgroupsPath: parts.cgroupsPath, resources: resourcesOf(spec) }),
      maskedPaths: insecure ? [] : MASKED_PATHS,
      readonlyPaths: insecure ? [] : READONLY_PATHS,
      ...(insecure ? { devices: insecureDevices() } : {}),
      ...(insecure || parts.seccomp === undefined ? {} : { seccomp: parts.seccomp }),
    },
  });
}

/** A later mount on the same path takes the place of the earlier one. */
function mountsOf(spec: SandboxSpec, parts: SpecParts): OciMount[] {
  const access = spec.insecure ? 'rw' : 'ro';
  const mounts: OciMount[] = [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'] },
    {
      destination: '/dev/pts',
      type: 'devpts',
      source: 'devpts',
      options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', ...(parts.rootless ? [] : ['gid=5'])],
    },
    { destination: '/dev/shm', type: 'tmpfs', source: 'shm', options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'] },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
    // sysfs belongs to the network namespace, and the host's is not ours when rootless: there it can only be shown, not mounted.
    parts.rootless
      ? { destination: '/sys', type: 'bind', source: '/sys', options: ['rbind', 'nosuid', 'noexec', 'nodev', 'ro'] }
      : { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', access] },
    ...(parts.cgroupsPath === undefined
      ? []
      : [{ destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: [access, 'nosuid', 'noexec', 'nodev'] }]),
    ...[...parts.binds, ...spec.mounts].map(ociMount),
  ];
  return [...new Map(mounts.map((mount) => [mount.destination, mount])).values()];
}

function ociMount(mount: SandboxMount): OciMount {
  const { destination, kind, source, readonly, sizeBytes, options = [] } = mount;
  const access = readonly ? ['ro'] : [];
  if (kind === 'bind') return { destination, type: 'bind', source: source ?? '', options: ['rbind', ...access, ...options] };
  const size = sizeBytes === undefined || sizeBytes === 0 ? [] : [`size=${sizeBytes}`];
  return { destination, type: 'tmpfs', source: 'tmpfs', options: ['nosuid', ...access, ...size, ...options] };
}

function rlimit({ name, soft, hard }: SandboxSpec['ulimits'][number]): object {
  return { type: `RLIMIT_${name.toUpperCase()}`, soft: unsigned(soft), hard: unsigned(hard) };
}

/** -1 is "no limit": all bits set. JSON.rawJSON keeps 64 bits that a double would round. */
const unsigned = (value: bigint): unknown => raw(BigInt.asUintN(64, value));
const raw = (value: bigint): unknown => (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(value.toString());

function resourcesOf({ insecure, resources }: SandboxSpec): object {
  const given = (name: string, value: bigint | undefined): object =>
    value === undefined || value === 0n ? {} : { [name]: raw(value) };
  const memory = { ...given('limit', resources.memoryBytes), ...given('swap', resources.memorySwapBytes) };
  const cpu = {
    ...given('shares', resources.cpuShares),
    ...given('period', resources.cpuPeriodUs),
    ...given('quota', resources.cpuQuotaUs),
    ...(resources.cpusetCpus ? { cpus: resources.cpusetCpus } : {}),
    ...(resources.cpusetMems ? { mems: resources.cpusetMems } : {}),
  };
  const everyDevice = ['c', 'b'].map((type) => ({ allow: true, type, access: 'rwm' }));
  return {
    devices: insecure ? everyDevice : [{ allow: false, access: 'rwm' }],
    ...(Object.keys(memory).length === 0 ? {} : { memory }),
    ...(Object.keys(cpu).length === 0 ? {} : { cpu }),
  };
}

/** Of several entries with one name the last counts, at the place of the first. */
function uniqueEnv(env: readonly string[]): string[] {
  return [...new Map(env.map((entry) => [entry.split('=', 1)[0], entry])).values()];
}

/** Everything we may hand on ourselves: the bounding set of this process. */
function grantableCapabilities(): string[] {
  const mask = BigInt(`0x${/^CapBnd:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'}`);
  return ALL_CAPABILITIES.filter((_, bit) => ((mask >> BigInt(bit)) & 1n) === 1n);
}

function insecureDevices(): object[] {
  const loops = readdirSync('/dev').filter((name) => /^loop\d+$/.test(name)).length + SPARE_LOOP_DEVICES;
  return [
    ...INSECURE_DEVICES.map(([path, type, major, minor]) => ({ path, type, major, minor })),
    ...Array.from({ length: loops }, (_, minor) => ({ path: `/dev/loop${minor}`, type: 'b', major: 7, minor })),
  ];
}
