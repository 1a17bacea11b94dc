/** Fills in what the doctor is given: configuration, addresses and ways to ask, of a running daemon as it was started. */
import { homedir } from 'node:os';
import { Control } from '../../builder/proto/gen/moby/buildkit/v1/control_pb.ts';
import { BuildError } from '../../core/errors.ts';
import type { CheckedStore, DoctorFacts, RegistryFacts, SettingFacts } from '../../operate/doctor/facts.ts';
import { parseAddress, parseHostPort } from '../addresses.ts';
import { type Arguments, type FlagSpec, isOn, parseArguments, textOf } from '../args.ts';
import { type Loaded, loadConfig, SETTING_FLAGS, type Values } from '../config/load.ts';
import { daemonConfig } from '../daemon/daemon-config.ts';
import { type Defaults, defaultsFor } from '../defaults.ts';
import { VERSION } from '../version.ts';
import { askDaemon, checkRoot } from './cache-check.ts';
import { daemonOfRoot, type RunningDaemon } from './daemon-of-root.ts';
import { connectTo } from './endpoint.ts';

/** What `cooper daemon` takes. */
export const DAEMON_FLAGS: readonly FlagSpec[] = [
  { name: 'config', kind: 'text', value: 'FILE', doc: 'configuration file of the daemon' },
  ...SETTING_FLAGS,
];

const WAIT_MS = 10_000;

type Read = { readonly loaded: Loaded; readonly error?: string } | { readonly error: string };

/** `args`: the doctor's own. */
export function doctorFacts(args: Arguments, env: NodeJS.ProcessEnv): DoctorFacts {
  const uid = process.getuid?.() ?? -1;
  const defaults = defaultsFor(uid, env);
  const own = read(args, env, defaults);
  const root = ('loaded' in own ? (own.loaded.values.get('root') as string | undefined) : textOf(args, 'root')) ?? defaults.root;
  const running = daemonOfRoot(root);
  const now = running === undefined ? own : asStarted(running, args, env, defaults);
  const settings = 'loaded' in now ? settingsOf(now.loaded.values, defaults, root) : undefined;
  const [address] = settings?.addresses.filter(({ type }) => type === 'unix') ?? [];
  const ops = settings?.ops;
  return {
    version: VERSION,
    root,
    uid,
    env,
    home: homedir(),
    configuration: {
      file: 'loaded' in now ? now.loaded.file : textOf(args, 'config'),
      ...(now.error === undefined ? {} : { error: now.error }),
      warnings: 'loaded' in now ? now.loaded.warnings : [],
    },
    settings,
    daemonPid: running?.pid,
    expectRunning: !isOn(args, 'stopped'),
    askNetwork: !isOn(args, 'offline'),
    host: { proc: '/proc', sys: '/sys', etc: '/etc' },
    ask: async (path) => {
      if (ops === undefined) throw new BuildError('unavailable', 'there is no ops server');
      const host = ['0.0.0.0', '::'].includes(ops.host) ? '127.0.0.1' : ops.host;
      const response = await fetch(`http://${host.includes(':') ? `[${host}]` : host}:${ops.port}${path}`, {
        signal: AbortSignal.timeout(WAIT_MS),
      });
      return { status: response.status, body: await response.text() };
    },
    callBuildApi: async (at) => {
      await using client = await connectTo(at);
      await client.unary(Control.method.info, {}, { signal: AbortSignal.timeout(WAIT_MS) });
    },
    ...(isOn(args, 'deep')
      ? {
          checkStore: () =>
            storeOf(root, running === undefined ? undefined : address?.type === 'unix' ? address.path : undefined),
        }
      : {}),
  };
}

/** A file that is there but cannot be used is the daemon's first line at its next start: the same words are the finding. */
function read(args: Arguments, env: NodeJS.ProcessEnv, defaults: Defaults): Read {
  try {
    const loaded = loadConfig(args, env);
    try {
      daemonConfig(loaded.values, defaults, () => 1);
      return { loaded };
    } catch (thrown) {
      return { loaded, error: BuildError.from(thrown).message };
    }
  } catch (thrown) {
    return { error: BuildError.from(thrown).message };
  }
}

/** Flags and environment of the running daemon, below those given to the doctor. */
function asStarted({ argv, env: itsEnv }: RunningDaemon, args: Arguments, env: NodeJS.ProcessEnv, defaults: Defaults): Read {
  try {
    const its = argv === undefined ? undefined : parseArguments(argv, DAEMON_FLAGS);
    return read(
      {
        operands: [],
        switches: new Map([...(its?.switches ?? []), ...args.switches]),
        texts: new Map([...(its?.texts ?? []), ...args.texts]),
      },
      itsEnv ?? env,
      defaults,
    );
  } catch {
    return read(args, env, defaults); // started by a version with other flags
  }
}

function settingsOf(values: Values, defaults: Defaults, root: string): SettingFacts | undefined {
  const text = (key: string): string | undefined => values.get(key) as string | undefined;
  const [cert, key, ca] = [text('grpc.tls.cert'), text('grpc.tls.key'), text('grpc.tls.ca')];
  const ops = text('cooper.ops.address') ?? defaults.opsAddress;
  try {
    return {
      addresses: ((values.get('grpc.address') as readonly string[] | undefined) ?? [defaults.address]).map(parseAddress),
      ops: ops === '' ? undefined : parseHostPort(ops),
      tls: cert === undefined || key === undefined || ca === undefined ? undefined : { cert, key, ca },
      registries: registriesOf(values),
      caches: [
        ...values.entries('cache.blob').map(({ values: own }) => ({ type: 'filesystem', at: String(own.get('path') ?? '') })),
        ...values
          .entries('cache.registry')
          .flatMap(({ values: own }) =>
            own.get('type') === 'redis' ? [{ type: 'redis', at: String(own.get('redis-addr') ?? '') }] : [],
          ),
      ],
      collector: text('cooper.otlp.endpoint') || undefined,
      runtime: text('worker.oci.binary') || 'auto',
      snapshotter: text('worker.oci.snapshotter') ?? 'auto',
      auditDir: values.get('cooper.audit.enabled') === false ? undefined : (text('cooper.audit.dir') ?? `${root}/audit`),
    };
  } catch {
    return undefined; // an address that is none: the configuration's finding says so
  }
}

/** Those of the configuration, and the one that base images come from when nothing is said. */
function registriesOf(values: Values): RegistryFacts[] {
  const named = values.entries('registry').map(({ name, values: own }) => ({
    host: name,
    http: own.get('http') === true || /^(localhost|127\.|\[::1\])/.test(name),
    insecure: own.get('insecure') === true,
    mirrors: (own.get('mirrors') as readonly string[] | undefined) ?? [],
    configured: true,
  }));
  return named.some(({ host }) => host === 'docker.io')
    ? named
    : [...named, { host: 'docker.io', http: false, insecure: false, mirrors: [], configured: false }];
}

/** Asks the daemon where one runs; else opens the stores as its next start would. */
async function storeOf(root: string, socket: string | undefined): Promise<CheckedStore> {
  const report = socket === undefined ? await checkRoot(root, false) : await askAt(socket);
  return {
    looked: `${report.blobs} blobs, ${report.snapshots} snapshots, ${report.keys} results of keys`,
    findings: report.findings,
  };
}

async function askAt(socket: string): ReturnType<typeof askDaemon> {
  await using client = await connectTo(`unix://${socket}`);
  return await askDaemon(client, false);
}
