/** What the daemon must reach: registries and their mirrors, default remote caches, the collector; and whether clocks agree. */
import { lookup } from 'node:dns/promises';
import { accessSync, constants } from 'node:fs';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect } from 'node:net';
import type { DoctorFacts, RegistryFacts } from './facts.ts';
import { error, type Finding, info, ok, warning } from './finding.ts';

const WAIT_MS = 5_000;
const MAX_SKEW_S = 60; // tokens and certificates are compared with the clock; registries allow about a minute
const PROXIES = ['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'http_proxy', 'https_proxy', 'no_proxy'];

type Answer = { readonly status: number; readonly skewS: number | undefined } | { readonly trouble: string };

export async function checkNetwork(facts: DoctorFacts): Promise<Finding[]> {
  const { settings, env, askNetwork } = facts;
  if (settings === undefined) return [];
  const proxies = PROXIES.filter((name) => env[name] !== undefined && env[name] !== '');
  const proxy =
    proxies.length === 0
      ? []
      : [
          info(
            'network.proxy',
            'Proxies are named in the environment.',
            `${proxies.join(', ')} are set; the doctor asks registries directly`,
            { cause: 'network' as const },
          ),
        ];
  const caches = Promise.all([
    ...settings.caches.map(cacheFinding),
    ...(settings.collector === undefined ? [] : [collectorFinding(settings.collector)]),
  ]);
  if (!askNetwork) return [...proxy, ...(await caches)];
  const hosts = settings.registries.flatMap((registry) => [
    registry,
    ...registry.mirrors.map((mirror) => ({
      ...registry,
      host: mirror.replace(/^https?:\/\//, '').split('/')[0] ?? '',
      http: mirror.startsWith('http://') || isLoopback(mirror),
      mirrors: [],
      configured: true,
    })),
  ]);
  const answers = await Promise.all(hosts.map(async (registry) => ({ registry, answer: await askRegistry(registry) })));
  return [
    ...proxy,
    ...answers.map(({ registry, answer }) => registryFinding(registry, answer)),
    ...skewOf(answers),
    ...(await caches),
  ];
}

const isLoopback = (host: string): boolean => /^(localhost|127\.|\[::1\])/.test(host);

/** `GET /v2/`: any answer of a registry will do, 401 above all. */
async function askRegistry({ host, http, insecure }: RegistryFacts): Promise<Answer> {
  const authority = host === 'docker.io' ? 'registry-1.docker.io' : host;
  try {
    await lookup(authority.replace(/:\d+$/, '').replace(/^\[|\]$/g, ''));
  } catch (thrown) {
    return { trouble: `its name does not resolve (${(thrown as NodeJS.ErrnoException).code})` };
  }
  return await new Promise<Answer>((resolve) => {
    const take = (response: IncomingMessage): void => {
      response.resume();
      const date = Date.parse(response.headers.date ?? '');
      resolve({ status: response.statusCode ?? 0, skewS: Number.isNaN(date) ? undefined : (Date.now() - date) / 1000 });
    };
    const options = { timeout: WAIT_MS, agent: false } as const;
    const call = http
      ? httpRequest(`http://${authority}/v2/`, options, take)
      : httpsRequest(`https://${authority}/v2/`, { ...options, rejectUnauthorized: !insecure }, take);
    call.on('timeout', () => call.destroy(new Error(`no answer within ${WAIT_MS / 1000} s`)));
    call.on('error', (thrown) => resolve({ trouble: thrown.message || String((thrown as NodeJS.ErrnoException).code) }));
    call.end();
  });
}

function registryFinding({ host, configured }: RegistryFacts, answer: Answer): Finding {
  const id = 'registry.reachable';
  const fix =
    'check name resolution, route, firewall and proxy from this machine; in the configuration: mirrors, http, insecure and ca of this registry';
  if ('trouble' in answer) {
    const say = configured ? error : warning;
    return say(id, `The registry ${host} cannot be reached.`, `${host}: ${answer.trouble}`, { cause: 'network', fix });
  }
  if (answer.status >= 500 || answer.status === 429)
    return warning(id, `The registry ${host} refuses or is ill.`, `${host} answered ${answer.status} to /v2/`, {
      cause: 'network',
      fix: 'runbook CooperRegistryErrors',
    });
  return ok(id, `The registry ${host} answers.`, `${host} answered ${answer.status}`, { cause: 'network' });
}

function skewOf(answers: readonly { readonly registry: RegistryFacts; readonly answer: Answer }[]): Finding[] {
  const skews = answers.flatMap(({ registry, answer }) =>
    'skewS' in answer && answer.skewS !== undefined ? [{ host: registry.host, skewS: answer.skewS }] : [],
  );
  if (skews.length === 0) return [];
  const worst = skews.reduce((a, b) => (Math.abs(a.skewS) > Math.abs(b.skewS) ? a : b));
  const seen = `this clock is ${Math.abs(worst.skewS).toFixed(0)} s ${worst.skewS < 0 ? 'behind' : 'ahead of'} ${worst.host}`;
  if (Math.abs(worst.skewS) <= MAX_SKEW_S) return [ok('host.clock', 'The clock agrees with the registries.', seen)];
  return [
    error('host.clock', 'The clock is wrong: tokens and certificates are refused, and garbage collection misjudges ages.', seen, {
      fix: 'let NTP set it (timedatectl set-ntp true, or chronyd), or look at the registry’s clock when it alone differs',
    }),
  ];
}

async function cacheFinding({ type, at }: { readonly type: string; readonly at: string }): Promise<Finding> {
  const id = 'cache.remote';
  const fix = 'bring it back, or take it out of [[cache.blob]] and [[cache.registry]]; builds go on without it';
  if (type === 'filesystem') {
    try {
      accessSync(at, constants.W_OK | constants.X_OK);
      return ok(id, 'The cache folder can be written.', at);
    } catch (thrown) {
      return warning(id, 'The cache folder cannot be written.', `${at}: ${(thrown as NodeJS.ErrnoException).code}`, { fix });
    }
  }
  const trouble = await connectTo(at);
  return trouble === undefined
    ? ok(id, `The ${type} cache can be reached.`, shown(at))
    : warning(id, `The ${type} cache cannot be reached.`, `${shown(at)}: ${trouble}`, { cause: 'network', fix });
}

async function collectorFinding(url: string): Promise<Finding> {
  const trouble = await connectTo(url);
  return trouble === undefined
    ? ok('telemetry.collector', 'The collector can be reached.', shown(url))
    : warning('telemetry.collector', 'The collector cannot be reached; traces stay in the daemon.', `${shown(url)}: ${trouble}`, {
        fix: 'bring it back, or take cooper.otlp.endpoint out',
      });
}

/** Addresses of caches and collectors may hold credentials. */
const shown = (address: string): string => address.replace(/^([a-z]+:\/\/)?[^/@]*@/i, '$1***@');

/** What went wrong when connecting to `host:port` or a URL, or undefined. */
function connectTo(where: string): Promise<string | undefined> {
  const url = URL.parse(where.includes('://') ? where : `tcp://${where}`);
  if (url === null) return Promise.resolve('not an address');
  const port = Number(url.port) || { 'https:': 443, 'redis:': 6379, 'rediss:': 6379, 'tcp:': 6379 }[url.protocol] || 80;
  return new Promise((resolve) => {
    const socket = connect({ host: url.hostname.replace(/^\[|\]$/g, ''), port, timeout: WAIT_MS });
    const end = (trouble?: string): void => {
      socket.destroy();
      resolve(trouble);
    };
    socket.on('connect', () => end());
    socket.on('timeout', () => end(`no answer within ${WAIT_MS / 1000} s`));
    socket.on('error', (thrown) => end(thrown.message || String((thrown as NodeJS.ErrnoException).code)));
  });
}
