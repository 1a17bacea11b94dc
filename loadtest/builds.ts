/**
 * Load for a daemon, run by k6: builds start at a constant rate, whatever the ones before take (an open model, so a slow daemon
 * cannot slow its own load down). Two kinds at once: `run` executes a new command every time, `noop` asks for what is cached.
 * Talks to the build API with mutual TLS, and to nothing else. Environment: see README.md beside this file.
 */
import { check } from 'k6';
import exec from 'k6/execution';
import { Counter, Rate, Trend } from 'k6/metrics';
import grpc from 'k6/net/grpc';
import { commandOn, type DefinitionJson } from './llb.ts';
import { markdownOf, type SummaryData } from './summary.ts';

const setting = (name: string, otherwise: string): string => __ENV[name] || otherwise;
const address = setting('COOPER_ADDR', '127.0.0.1:8471');
const image = setting('IMAGE', '');
const duration = setting('DURATION', '60s');

const started = new Counter('builds_started');
const failed = new Rate('builds_failed');
const seconds = new Trend('build_seconds');

const client = new grpc.Client();
client.load([setting('PROTO_DIR', '../src/builder/proto')], 'moby/buildkit/v1/control.proto');
const tls = { cacerts: open(setting('TLS_CA', '')), cert: open(setting('TLS_CERT', '')), key: open(setting('TLS_KEY', '')) };

const arrivals = (kind: 'run' | 'noop', perSecond: string) => ({
  executor: 'constant-arrival-rate' as const,
  exec: kind,
  duration,
  rate: Math.round(Number(perSecond) * 60),
  timeUnit: '1m',
  preAllocatedVUs: 10,
  maxVUs: 200,
  gracefulStop: '60s', // what has been asked for is waited for, so that no build ends half counted
});

export const options = {
  scenarios: { run: arrivals('run', setting('RUN_RATE', '1')), noop: arrivals('noop', setting('NOOP_RATE', '4')) },
  thresholds: {
    builds_failed: ['rate<0.01'],
    'build_seconds{kind:run}': [`p(95)<${setting('RUN_P95', '10')}`],
    'build_seconds{kind:noop}': [`p(95)<${setting('NOOP_P95', '2')}`],
    dropped_iterations: ['count<1'], // k6 itself ran out of workers: the load was not the load that was asked for
  },
  summaryTrendStats: ['min', 'med', 'p(95)', 'p(99)', 'max', 'count'],
};

/** The base image is pulled and the cached graph is made before anything is measured. */
export function setup(): void {
  noop();
}

/** One command nobody has run before. */
export function run(): void {
  const nonce = `${exec.vu.idInTest}-${exec.scenario.iterationInTest}-${Date.now()}`;
  build('run', commandOn(image, `echo ${nonce} > /nonce`));
}

/** The same graph every time. */
export function noop(): void {
  build('noop', commandOn(image, 'echo always the same > /same'));
}

/** `authority` is the name that the server's certificate is checked against; the types do not know it yet. */
const CONNECT: grpc.ConnectParams & { readonly authority: string } = { authority: 'localhost', tls, timeout: '10s' };
let connected = false;

function build(kind: 'run' | 'noop', definition: DefinitionJson): void {
  if (!connected) {
    client.connect(address, CONNECT);
    connected = true;
  }
  const startedAtMs = Date.now();
  started.add(1, { kind });
  const answer = client.invoke(
    'moby.buildkit.v1.Control/Solve',
    { Ref: reference(), Definition: definition },
    { timeout: '60s', tags: { kind } },
  );
  seconds.add((Date.now() - startedAtMs) / 1000, { kind });
  const ok = check(answer, { 'the build succeeded': ({ status }) => status === grpc.StatusOK }, { kind });
  failed.add(!ok, { kind });
  if (!ok) console.error(`${kind}: ${answer.status} ${JSON.stringify(answer.error)}`);
}

/** 25 characters of base 36, as build clients choose them. */
const reference = (): string => Array.from({ length: 25 }, () => Math.floor(Math.random() * 36).toString(36)).join('');

export function handleSummary(data: SummaryData): Record<string, string> {
  const markdown = markdownOf(data);
  const dir = setting('SUMMARY_DIR', '.');
  return {
    [`${dir}/summary.json`]: JSON.stringify(data, undefined, 2),
    [`${dir}/summary.md`]: markdown,
    stdout: markdown,
  };
}
