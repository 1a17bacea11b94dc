/**
 * A system of our own for one game, in a temporary folder: a daemon, a registry behind a proxy that can be broken, Prometheus with the
 * shipped rules and Alertmanager with the shipped tree, both compressed, and a webhook that hears what they send.
 */

import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { parse, stringify } from 'yaml';
import { BuildError } from '../../core/errors.ts';
import { callProxy } from '../faults/inject.ts';
import { compressRouting, compressRules, type RoutingFile, type RuleFile } from './compress.ts';
import type { Game, Mutation } from './game.ts';
import { receiveWebhooks, type WebhookReceiver } from './observe.ts';
import { answering, startTied, type TiedProcess } from './tied-process.ts';

export interface Stand extends AsyncDisposable {
  readonly dir: string;
  /** Address of the build API. */
  readonly daemon: string;
  /** `host:port`. */
  readonly ops: string;
  readonly prometheus: string;
  readonly alertmanager: string;
  readonly proxyApi: string;
  /** Where builds reach the registry: through the proxy. */
  readonly registry: string;
  readonly webhooks: WebhookReceiver;
  readonly rules: RuleFile;
  readonly pids: { daemon(): number; readonly prometheus: number; readonly alertmanager: number };
  readonly root: string;
  readonly runtime: string;
}
export interface StandOptions {
  /** Folder of the shipped alerts/rules.yaml and alerts/alertmanager.yml. */
  readonly alertsDir: string;
  /** Command line of `cooper daemon`, without its flags. */
  readonly daemonCommand: readonly string[];
  readonly mutation: Mutation | undefined;
}

export const STAND_PROGRAMS = ['prometheus', 'prometheus-alertmanager', 'docker-registry', 'busybox'] as const;
const dirs = (): string[] => [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
export const findProgram = (name: string): string | undefined =>
  dirs()
    .map((dir) => join(dir, name))
    .find((path) => existsSync(path));

/** Rejects with what is missing or did not come up; nothing is left running then. */
export async function openStand(game: Game, options: StandOptions): Promise<Stand> {
  const missing = STAND_PROGRAMS.filter((name) => findProgram(name) === undefined);
  if (missing.length > 0)
    throw new BuildError('unavailable', `the stand needs ${missing.join(', ')}`, {
      hint: 'on Debian: apt-get install prometheus prometheus-alertmanager docker-registry busybox-static runc',
    });
  const stack = new AsyncDisposableStack();
  try {
    const dir = await mkdtemp(join(tmpdir(), 'cooper-gameday-'));
    stack.defer(() => rm(dir, { recursive: true, force: true }));
    const registry = await startRegistry(dir, stack);
    const proxy = await startProxy(dir, stack, registry);
    const webhooks = stack.use(await receiveWebhooks());
    const daemon = await startDaemon(dir, stack, game, options);
    const alertmanager = await startAlertmanager(dir, stack, game, options, webhooks.url);
    const prometheus = await startPrometheus(dir, stack, game, options, { ops: daemon.ops, alertmanager: alertmanager.host });
    return {
      dir,
      daemon: daemon.address,
      ops: daemon.ops,
      prometheus: `http://${prometheus.host}`,
      alertmanager: `http://${alertmanager.host}`,
      proxyApi: proxy.api,
      registry: proxy.listen,
      webhooks,
      rules: prometheus.rules,
      pids: { daemon: daemon.pid, prometheus: prometheus.pid, alertmanager: alertmanager.pid },
      root: daemon.root,
      runtime: daemon.runtime,
      [Symbol.asyncDispose]: () => stack.disposeAsync(),
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

async function startRegistry(dir: string, stack: AsyncDisposableStack): Promise<string> {
  const host = await freeHost();
  const config = join(dir, 'registry.yml');
  const storage = { filesystem: { rootdirectory: join(dir, 'registry') }, delete: { enabled: true } };
  writeFileSync(config, stringify({ version: '0.1', log: { level: 'error' }, storage, http: { addr: host } }));
  const program = stack.use(startTied(join(dir, 'registry.log'), ['docker-registry', 'serve', config]));
  await answering('the registry', `http://${host}/v2/`, program);
  return host;
}

/** The real toxiproxy cannot answer with HTTP statuses, so a stand uses ours; a game against another stand names its API. */
async function startProxy(
  dir: string,
  stack: AsyncDisposableStack,
  upstream: string,
): Promise<{ readonly api: string; readonly listen: string }> {
  const host = await freeHost();
  const file = join(
    import.meta.dirname,
    '..',
    'faults',
    import.meta.filename.endsWith('.ts') ? 'proxy-main.ts' : 'proxy-main.js',
  );
  const program = stack.use(startTied(join(dir, 'proxy.log'), [process.execPath, file, host]));
  await answering('the proxy', `http://${host}/version`, program);
  const made = await callProxy(`http://${host}`, 'POST', '/proxies', { name: 'cache', listen: '127.0.0.1:0', upstream });
  return { api: `http://${host}`, listen: (made as { readonly listen: string }).listen };
}

async function startDaemon(
  dir: string,
  stack: AsyncDisposableStack,
  game: Game,
  options: StandOptions,
): Promise<{
  readonly address: string;
  readonly ops: string;
  readonly root: string;
  readonly runtime: string;
  readonly pid: () => number;
}> {
  const [root, ops, address] = [join(dir, 'root'), await freeHost(), `unix://${join(dir, 'd.sock')}`];
  const runtime = join(dir, 'oci-runtime');
  mkdirSync(root);
  if (game.load.smallDisk) mountSmallDisk(root, stack);
  const real = findProgram('runc') ?? findProgram('crun');
  if (real === undefined) throw new BuildError('unavailable', 'the stand needs runc or crun');
  symlinkSync(real, runtime); // a file that a fault can move
  const config = join(dir, 'cooperd.toml');
  writeFileSync(config, `${game.load.toml}\n[worker.oci]\nbinary = "${runtime}"\n`);
  const flags = ['--config', config, '--root', root, '--addr', address, '--ops-addr', ops];
  let over = false;
  const start = (): TiedProcess => {
    const started = startTied(join(dir, 'daemon.log'), [...options.daemonCommand, ...flags]);
    // What systemd or Kubernetes do: a daemon that ended comes back.
    started.child.once('exit', () => {
      if (over || options.mutation?.change === 'no-restart') return;
      setTimeout(() => {
        if (!over) program = start();
      }, 500);
    });
    return started;
  };
  let program = start();
  stack.defer(async () => {
    over = true;
    await program[Symbol.asyncDispose]();
  });
  await answering('the daemon', `http://${ops}/readyz`, program);
  return { address, ops, root, runtime, pid: () => program.pid };
}

const SMALL_DISK = '400m';
function mountSmallDisk(root: string, stack: AsyncDisposableStack): void {
  const { status, stderr } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${SMALL_DISK},mode=711`, 'tmpfs', root], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new BuildError('unavailable', `the game needs a small disk of its own: ${stderr}`);
  stack.defer(() => void spawnSync('umount', ['-l', root]));
}

async function startAlertmanager(
  dir: string,
  stack: AsyncDisposableStack,
  game: Game,
  options: StandOptions,
  webhooks: string,
): Promise<{ readonly host: string; readonly pid: number }> {
  const shipped = parse(readFileSync(join(options.alertsDir, 'alertmanager.yml'), 'utf8')) as RoutingFile;
  const routing = mutatedRouting(compressRouting(shipped, game.timeScale, webhooks), options.mutation);
  const config = join(dir, 'alertmanager.yml');
  writeFileSync(config, stringify(routing));
  const host = await freeHost();
  const program = stack.use(
    startTied(join(dir, 'alertmanager.log'), [
      'prometheus-alertmanager',
      `--config.file=${config}`,
      `--storage.path=${join(dir, 'alertmanager')}`,
      `--web.listen-address=${host}`,
      '--cluster.listen-address=',
      '--log.level=warn',
    ]),
  );
  await answering('Alertmanager', `http://${host}/-/ready`, program);
  return { host, pid: program.pid };
}

function mutatedRouting(routing: RoutingFile, mutation: Mutation | undefined): RoutingFile {
  if (mutation?.change === 'no-inhibition') return { ...routing, inhibit_rules: [] };
  if (mutation?.change !== 'misroute') return routing;
  // `value` is the receiver everything but the heartbeat goes to.
  const kept = (routing.route.routes ?? []).filter(({ matchers }) => matchers?.some((text) => text.includes('CooperWatchdog')));
  return { ...routing, route: { ...routing.route, receiver: mutation.value, routes: kept } };
}

async function startPrometheus(
  dir: string,
  stack: AsyncDisposableStack,
  game: Game,
  options: StandOptions,
  addresses: { readonly ops: string; readonly alertmanager: string },
): Promise<{ readonly host: string; readonly pid: number; readonly rules: RuleFile }> {
  const shipped = parse(readFileSync(join(options.alertsDir, 'rules.yaml'), 'utf8')) as RuleFile;
  const rules = compressRules(shipped, game.timeScale);
  const { mutation } = options;
  const loaded: RuleFile =
    mutation?.change === 'rename-alert'
      ? {
          groups: rules.groups.map((group) => ({
            ...group,
            rules: group.rules.map((rule) => (rule.alert === mutation.value ? { ...rule, alert: `${rule.alert}Renamed` } : rule)),
          })),
        }
      : rules;
  writeFileSync(join(dir, 'rules.yaml'), stringify(loaded));
  const config = join(dir, 'prometheus.yml');
  writeFileSync(
    config,
    stringify({
      global: { scrape_interval: '500ms', scrape_timeout: '500ms', evaluation_interval: '500ms' },
      rule_files: [join(dir, 'rules.yaml')],
      alerting: { alertmanagers: [{ static_configs: [{ targets: [addresses.alertmanager] }] }] },
      scrape_configs: [{ job_name: 'cooper', static_configs: [{ targets: [addresses.ops] }] }],
    }),
  );
  const host = await freeHost();
  const program = stack.use(
    startTied(join(dir, 'prometheus.log'), [
      'prometheus',
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(dir, 'prometheus')}`,
      `--web.listen-address=${host}`,
      '--rules.alert.resend-delay=1s',
      '--log.level=warn',
    ]),
  );
  await answering('Prometheus', `http://${host}/-/ready`, program);
  return { host, pid: program.pid, rules };
}

async function freeHost(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return `127.0.0.1:${port}`;
}
