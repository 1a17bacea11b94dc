/**
 * Every setting of the daemon: one typed table that the parser, `config check`, `--help` and docs/configuration.md are made from.
 * Keys are those of buildkitd.toml; ours are under `cooper`. `*` stands for a name, `[]` for an entry of an array of tables.
 */
export type SettingType = 'boolean' | 'integer' | 'size' | 'duration' | 'text' | 'texts' | 'labels';

export interface Setting {
  readonly key: string;
  readonly type: SettingType;
  /** False: the key is known and accepted, but nothing reads it yet; the daemon says so at start. */
  readonly inForce: boolean;
  readonly default?: string;
  readonly flag?: string;
  readonly env?: string;
  readonly min?: number;
  readonly max?: number;
  readonly choices?: readonly string[];
  /** Use this key instead. */
  readonly deprecatedBy?: string;
  readonly doc: string;
}

type Rest = Omit<Setting, 'key' | 'type' | 'inForce' | 'doc'>;
const live = (key: string, type: SettingType, doc: string, rest: Rest = {}): Setting => ({
  key,
  type,
  inForce: true,
  doc,
  ...rest,
});
const later = (key: string, type: SettingType, doc: string, rest: Rest = {}): Setting => ({
  key,
  type,
  inForce: false,
  doc,
  ...rest,
});

const gcPolicy = (worker: string, make: typeof live): Setting[] => [
  make(
    `${worker}.gcpolicy[].all`,
    'boolean',
    'Also remove records that other policies never touch: internal, frontend and shared ones.',
  ),
  make(
    `${worker}.gcpolicy[].filters`,
    'texts',
    'Only records that match one of these filters, for example `type==source.local`.',
  ),
  make(`${worker}.gcpolicy[].keepDuration`, 'duration', 'Records used within this time stay.'),
  make(`${worker}.gcpolicy[].keepBytes`, 'size', 'Old name of reservedSpace.', { deprecatedBy: 'reservedSpace' }),
  make(`${worker}.gcpolicy[].reservedSpace`, 'size', 'The policy never prunes below this much.'),
  make(`${worker}.gcpolicy[].maxUsedSpace`, 'size', 'Prune until at most this much is used.'),
  make(`${worker}.gcpolicy[].minFreeSpace`, 'size', 'Prune until this much of the disk is free.'),
];
const gcSwitches = (worker: string, make: typeof live): Setting[] => [
  make(`${worker}.gc`, 'boolean', 'Collect garbage after builds.', {
    default: 'true',
    ...(worker === 'worker.oci' ? { flag: 'oci-worker-gc' } : {}),
  }),
  make(`${worker}.gckeepstorage`, 'size', 'Old name of reservedSpace.', { deprecatedBy: `${worker}.reservedSpace` }),
  make(`${worker}.reservedSpace`, 'size', 'Cache that garbage collection always keeps.', {
    default: '10 % of the disk, at most 10GB',
  }),
  make(`${worker}.maxUsedSpace`, 'size', 'Cache size above which garbage collection removes the least recently used.', {
    default: '80 % of the disk, at most 100GB',
  }),
  make(`${worker}.minFreeSpace`, 'size', 'Free disk space that garbage collection keeps.', { default: '20 % of the disk' }),
];

export const SETTINGS: readonly Setting[] = [
  live('root', 'text', 'State folder. One daemon per folder.', { flag: 'root', env: 'COOPER_ROOT', default: '/var/lib/cooper' }),
  live('debug', 'boolean', 'Log at level debug.', { flag: 'debug', deprecatedBy: 'log.level' }),
  later('trace', 'boolean', 'Log at level trace.', { deprecatedBy: 'log.level' }),
  live('insecure-entitlements', 'texts', 'Entitlements that builds may ask for.', { flag: 'allow-insecure-entitlement' }),
  later('proxyNetwork', 'boolean', 'Route the network of builds through a recording proxy.'),
  later('provenanceEnvDir', 'text', 'Folder of extra facts merged into provenance.'),
  live('log.format', 'text', 'Log lines as JSON or text.', { flag: 'log-format', default: 'json', choices: ['json', 'text'] }),
  live('log.level', 'text', 'Lowest level that is logged.', {
    flag: 'log-level',
    env: 'BUILDKITD_LOG_LEVEL',
    default: 'info',
    choices: ['trace', 'debug', 'info', 'warn', 'error', 'fatal'],
  }),
  later('dns.nameservers', 'texts', 'Name servers of RUN steps.'),
  later('dns.options', 'texts', 'resolv.conf options of RUN steps.'),
  later('dns.searchDomains', 'texts', 'Search domains of RUN steps.'),
  live('grpc.address', 'texts', 'Addresses of the build API: unix:///path or tcp://host:port (with grpc.tls).', {
    flag: 'addr',
    default: 'unix:///run/cooper/cooperd.sock',
  }),
  later('grpc.debugAddress', 'text', 'Address of debug handlers.', { flag: 'debugaddr', env: 'BUILDKITD_DEBUGADDR' }),
  live('grpc.uid', 'integer', 'Owner of the socket.', { min: 0 }),
  live('grpc.gid', 'integer', 'Group of the socket.', { min: 0 }),
  later('grpc.securityDescriptor', 'text', 'Windows only.'),
  live('grpc.tls.cert', 'text', 'Certificate of the TCP listeners.', { flag: 'tlscert' }),
  live('grpc.tls.key', 'text', 'Key of the TCP listeners.', { flag: 'tlskey' }),
  live('grpc.tls.ca', 'text', 'Clients must hold a certificate signed by this authority.', { flag: 'tlscacert' }),
  later('otel.socketPath', 'text', 'Socket on which RUN steps may send spans.', { flag: 'otel-socket-path' }),
  later('cdi.disabled', 'boolean', 'No devices for steps.', { flag: 'cdi-disabled' }),
  later('cdi.specDirs', 'texts', 'Where devices are described.', { flag: 'cdi-spec-dir' }),
  later('cdi.autoAllowed', 'texts', 'Devices that need no entitlement.'),
  live('history.maxAge', 'duration', 'Finished builds are kept at least this long.', { default: '48h' }),
  live('history.maxEntries', 'integer', 'The newest so many builds are kept however old they are.', { default: '50', min: 0 }),
  live('worker.oci.enabled', 'boolean', 'Run steps with an OCI runtime; the only worker there is.', {
    flag: 'oci-worker',
    default: 'true',
  }),
  live('worker.oci.labels', 'labels', 'Labels of the worker, shown to clients.', { flag: 'oci-worker-labels' }),
  later('worker.oci.platforms', 'texts', 'Platforms the worker claims to run.', { flag: 'oci-worker-platform' }),
  live('worker.oci.snapshotter', 'text', 'How root filesystems are stacked.', {
    flag: 'oci-worker-snapshotter',
    default: 'auto',
    choices: ['auto', 'overlayfs', 'native'],
  }),
  later('worker.oci.rootless', 'boolean', 'Steps share the daemon’s user namespace.', { flag: 'oci-worker-rootless' }),
  later('worker.oci.noProcessSandbox', 'boolean', 'Steps see the processes of the host.', {
    flag: 'oci-worker-no-process-sandbox',
  }),
  ...gcSwitches('worker.oci', live),
  later('worker.oci.networkMode', 'text', 'Network of steps.', {
    flag: 'oci-worker-net',
    choices: ['auto', 'host', 'cni', 'bridge', 'none'],
  }),
  later('worker.oci.cniConfigPath', 'text', 'CNI configuration.', { flag: 'oci-cni-config-path' }),
  later('worker.oci.cniBinaryPath', 'text', 'CNI plugins.', { flag: 'oci-cni-binary-dir' }),
  later('worker.oci.cniPoolSize', 'integer', 'Network namespaces kept ready.', { flag: 'oci-cni-pool-size' }),
  later('worker.oci.bridgeName', 'text', 'Bridge of networkMode=bridge.'),
  later('worker.oci.bridgeSubnet', 'text', 'Subnet of networkMode=bridge.'),
  later('worker.oci.userRemapUnsupported', 'text', 'Removed upstream.'),
  live('worker.oci.binary', 'text', 'OCI runtime: a name on PATH or a path.', {
    flag: 'oci-worker-binary',
    default: 'crun on unified cgroups, else runc',
  }),
  later('worker.oci.proxySnapshotterPath', 'text', 'Socket of an external snapshotter.', {
    flag: 'oci-worker-proxy-snapshotter-path',
  }),
  live('worker.oci.defaultCgroupParent', 'text', 'Cgroup under which steps run.'),
  later('worker.oci.stargzSnapshotter.*', 'text', 'Lazy pulling.'),
  later('worker.oci.apparmor-profile', 'text', 'AppArmor profile of steps.', { flag: 'oci-worker-apparmor-profile' }),
  later('worker.oci.selinux', 'boolean', 'SELinux labels for steps.', { flag: 'oci-worker-selinux' }),
  live('worker.oci.max-parallelism', 'integer', 'RUN steps at once; 0 is one per core.', {
    flag: 'oci-max-parallelism',
    default: '0',
    min: 0,
    max: 4096,
  }),
  live('worker.oci.cache-size', 'size', 'Cache size above which garbage collection removes the least recently used.', {
    deprecatedBy: 'worker.oci.maxUsedSpace',
  }),
  ...gcPolicy('worker.oci', live),
  later('worker.containerd.enabled', 'boolean', 'There is no containerd worker.', { flag: 'containerd-worker' }),
  ...[
    'address',
    'namespace',
    'snapshotter',
    'defaultCgroupParent',
    'apparmor-profile',
    'networkMode',
    'cniConfigPath',
    'cniBinaryPath',
    'bridgeName',
    'bridgeSubnet',
  ].map((name) =>
    later(
      `worker.containerd.${name}`,
      'text',
      'There is no containerd worker.',
      name === 'address' ? { flag: 'containerd-worker-addr' } : {},
    ),
  ),
  ...['rootless', 'selinux'].map((name) => later(`worker.containerd.${name}`, 'boolean', 'There is no containerd worker.')),
  ...['max-parallelism', 'cniPoolSize'].map((name) =>
    later(`worker.containerd.${name}`, 'integer', 'There is no containerd worker.'),
  ),
  later('worker.containerd.platforms', 'texts', 'There is no containerd worker.'),
  later('worker.containerd.labels', 'labels', 'There is no containerd worker.'),
  ...['name', 'path'].map((name) => later(`worker.containerd.runtime.${name}`, 'text', 'There is no containerd worker.')),
  later('worker.containerd.runtime.options.*', 'text', 'There is no containerd worker.'),
  ...gcSwitches('worker.containerd', later),
  ...gcPolicy('worker.containerd', later),
  live('registry.*.mirrors', 'texts', 'Hosts tried before the registry itself.'),
  live('registry.*.http', 'boolean', 'Speak plain HTTP to this host.'),
  live('registry.*.insecure', 'boolean', 'Do not verify the certificate of this host.'),
  live('registry.*.ca', 'texts', 'Extra authorities for this host.'),
  later('registry.*.tlsconfigdir', 'texts', 'Folders with certificates for this host.'),
  live('registry.*.keypair[].key', 'text', 'Client key for this host.'),
  live('registry.*.keypair[].cert', 'text', 'Client certificate for this host.'),
  later('registry.config[].host', 'text', 'Registry whose credentials the daemon holds.'),
  later('registry.config[].config-file', 'text', 'Docker configuration file with credentials.'),
  later('registry.config[].username', 'text', 'User name.'),
  later('registry.config[].password', 'text', 'Password.'),
  later('frontend.*.enabled', 'boolean', 'Offer this frontend.'),
  later('frontend.*.allowedRepositories', 'texts', 'Images that may be used as frontend.'),
  later('system.platformsCacheMaxAge', 'duration', 'How long the list of emulated platforms is kept.'),
  live('system.maxRegistryConcurrency', 'integer', 'Requests to one registry at once.', { default: '4', min: 1, max: 256 }),
  ...['gha', 'ghacache'].flatMap((name) => [
    later(`cache.${name}.sign.command`, 'texts', 'Signs cache entries.'),
    later(`cache.${name}.verify.required`, 'boolean', 'Refuse unsigned cache entries.'),
    later(`cache.${name}.verify.policy.*`, 'text', 'Which signatures count.'),
  ]),
  live('cache.blob[].type', 'text', 'Cache that builds use which name none: `filesystem`.', { choices: ['filesystem'] }),
  live('cache.blob[].path', 'text', 'Folder of that cache on this machine; several daemons may share it.'),
  live('cache.registry[].type', 'text', 'Cache that builds use which name none: `redis` or `registry`.', {
    choices: ['redis', 'registry'],
  }),
  live('cache.registry[].redis-addr', 'text', 'Redis of that cache, for example redis://localhost:6379.'),
  live('cache.registry[].ref', 'text', 'Reference of that cache in a registry.'),
  live('cooper.cache.lookup-budget', 'duration', 'Longest time one build spends on reading remote caches, all together.', {
    default: '10s',
  }),
  live(
    'cooper.cache.patience',
    'duration',
    'How long steps wait for a remote cache to be read before they are looked up without it; it is used as soon as it is there. For a cache that lately took longer, three times that.',
    { default: '900ms' },
  ),
  live('cooper.cache.answer-timeout', 'duration', 'Longest wait for a small answer of a remote cache.', { default: '5s' }),
  live(
    'cooper.cache.transfer-timeout',
    'duration',
    'Longest silence of a transfer from a remote cache, and when it must have reached 16 KiB a second.',
    { default: '10s' },
  ),
  live(
    'cooper.cache.export-retry',
    'duration',
    'How long a failed cache export is tried again after its build; 0s: not at all.',
    {
      default: '5m',
    },
  ),
  live('gc.default.keep_storage', 'size', 'Cache that garbage collection always keeps.', {
    deprecatedBy: 'worker.oci.reservedSpace',
  }),
  live('gc.default.period', 'duration', 'Collect garbage this often, beside the runs after builds.'),
  live(
    'gc.default.ttl',
    'duration',
    'Remove what was not used for this long, as long as more than the reserved space is held. Takes the place of the default policy of 60 days.',
  ),
  live(
    'gc.default.all',
    'boolean',
    'The first collection after a start removes everything unused (or unused for gc.default.ttl), below the reserved space too.',
    { default: 'false' },
  ),
  later('rootless.enabled', 'boolean', 'Run without root.', { flag: 'rootless' }),
  later('rootless.uid-map', 'text', 'User ids of the namespace.'),
  later('rootless.gid-map', 'text', 'Group ids of the namespace.'),
  live(
    'cooper.ops.address',
    'text',
    'Address of the ops HTTP server (/metrics, /livez, /readyz, /slo, /api, pages). Empty switches it off.',
    {
      flag: 'ops-addr',
      env: 'COOPER_OPS_ADDR',
      default: '127.0.0.1:8470',
    },
  ),
  live(
    'cooper.ops.allowed-hosts',
    'texts',
    'Host names the ops server answers to, besides localhost and addresses. Empty: on a loopback address no other, elsewhere any.',
  ),
  live(
    'cooper.ops.token-file',
    'text',
    'File with bearer tokens, one `TOKEN` or `NAME TOKEN` a line, that allow the write calls of the ops API. Without it the port is read-only.',
    { env: 'COOPER_OPS_TOKEN_FILE' },
  ),
  live(
    'cooper.submit.max-builds',
    'integer',
    'Builds that come over HTTP (POST /api/v1/builds), at once; more are refused with 429.',
    {
      default: '64',
      min: 1,
      max: 10_000,
    },
  ),
  live('cooper.submit.max-per-minute', 'integer', 'Builds over HTTP that one token may start in a minute.', {
    default: '600',
    min: 1,
    max: 100_000,
  }),
  live('cooper.submit.max-context', 'size', 'Context of a build over HTTP: the upload as it is sent, and its files unpacked.', {
    default: '2GB',
  }),
  live('cooper.admission.max-builds', 'integer', 'Builds at once; others wait in line.', { default: '256', min: 1, max: 10_000 }),
  live('cooper.admission.max-queued', 'integer', 'Builds that may wait; above that new ones are refused with a retry hint.', {
    default: '1024',
    min: 0,
    max: 100_000,
  }),
  live(
    'cooper.gc.guard.min-free-space',
    'size',
    'Below this much free space the daemon collects at once, whatever the policies keep, until half as much again is free. 0 switches it off.',
    { default: '3 % of the disk, at most 5GB' },
  ),
  live('cooper.gc.guard.min-free-inodes', 'integer', 'The same for free inodes, in per cent of all. 0 switches it off.', {
    default: '5',
    min: 0,
    max: 90,
  }),
  live('cooper.warm.file', 'text', 'List of targets that are built on a schedule to keep their cache warm (docs/gc.md).'),
  live('cooper.warm.period', 'duration', 'How often the targets of cooper.warm.file are built.', { default: '24h' }),
  live(
    'cooper.otlp.endpoint',
    'text',
    'OTLP/HTTP collector for traces, for example http://localhost:4318. Empty: traces stay in the daemon.',
    { env: 'OTEL_EXPORTER_OTLP_ENDPOINT' },
  ),
  live(
    'cooper.alerts.alertmanager',
    'texts',
    'Alertmanagers the daemon sends its own alerts to, for those who run no Prometheus: for example ["http://alertmanager:9093"]. docs/alerts.md.',
  ),
  live(
    'cooper.alerts.webhook',
    'texts',
    'Addresses that get the same alerts as Alertmanager would send them to a webhook: when one begins or ends, and every four hours.',
  ),
  live('cooper.alerts.instance', 'text', 'Label `instance` of these alerts.', { default: 'the address of the ops port' }),
  live('cooper.alerts.page-url', 'text', "Where people reach this daemon's page; alerts link to it.", {
    default: 'the address of the ops port',
  }),
  live('cooper.canary.enabled', 'boolean', 'Build something small every so often, to know that a build would work.', {
    default: 'true',
  }),
  live('cooper.canary.interval', 'duration', 'Time between two canary builds; the first comes one interval after the start.', {
    default: '5m',
  }),
  live('cooper.canary.timeout', 'duration', 'A canary build that takes longer counts as failed.', { default: '60s' }),
  live('cooper.canary.readiness', 'boolean', 'A failing canary build makes the daemon not ready.', { default: 'false' }),
  live(
    'cooper.reproducibility.sample-percent',
    'integer',
    'Of so many successful image builds in a hundred the image is made again, when the builder is idle, and compared.',
    {
      default: '0',
      min: 0,
      max: 100,
    },
  ),
  live(
    'cooper.secrets.leaks',
    'text',
    'What happens when the value of a secret is found in what a step leaves behind: fail the step, warn, or off (do not look).',
    { default: 'warn', choices: ['fail', 'warn', 'off'] },
  ),
  live(
    'cooper.slo.file',
    'text',
    'Objectives of your own (docs/slo-format.md): those with the name of a shipped one take its place, the others are added.',
  ),
  live('cooper.drain-timeout', 'duration', 'How long running builds may go on after SIGTERM before they are cancelled.', {
    default: '30s',
  }),
  live(
    'cooper.audit.enabled',
    'boolean',
    'Write the audit log: secrets, ssh agents and entitlements used, acts of administrators.',
    {
      default: 'true',
    },
  ),
  live('cooper.audit.dir', 'text', 'Folder of the audit log; on another disk than the state folder it survives a full one.', {
    default: '<root>/audit',
  }),
  live('cooper.audit.max-file-size', 'size', 'A file of the audit log is full at this size, and after a day.', {
    default: '16MiB',
  }),
  live('cooper.audit.max-size', 'size', 'All files of the audit log together; the oldest are removed.', { default: '256MiB' }),
  live('cooper.audit.max-age', 'duration', 'Files of the audit log older than this are removed.', { default: '2160h' }),
  live('cooper.telemetry.enabled', 'boolean', 'False: builds are neither counted, traced nor audited, and objectives see none.', {
    default: 'true',
  }),
  live('cooper.log.max-build-bytes', 'size', 'Output of one build that is kept; what is above is counted and dropped.', {
    default: '64MiB',
  }),
];
