/** A real Prometheus for tests: scrapes the given addresses, evaluates the given rule files, answers queries. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { toYaml } from '../src/slo/yaml.ts';

/** The reason to skip a test that needs a program, or undefined when it is there. */
export function missing(...programs: readonly string[]): string | undefined {
  const absent = programs.filter((program) => spawnSync('sh', ['-c', `command -v ${program}`]).status !== 0);
  return absent.length === 0 ? undefined : `needs ${absent.join(' and ')}`;
}

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}
export interface Exemplar {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}
export interface Series {
  readonly labels: Readonly<Record<string, string>>;
  /** Seconds since the epoch to value. */
  readonly values: ReadonlyMap<number, number>;
}
export interface PrometheusOptions {
  /** `host:port` of operations ports. */
  readonly targets: readonly string[];
  readonly job?: string;
  /** Rule files; their groups are evaluated every second here, whatever interval they name. */
  readonly rules?: readonly string[];
  readonly scrapeIntervalMs?: number;
  /** A history that is there from the start, as OpenMetrics text with timestamps, however old. */
  readonly history?: string;
}
export interface Prometheus extends AsyncDisposable {
  readonly url: string;
  /** An instant query, now. Throws with the server's words when it is refused. */
  query(expr: string): Promise<Sample[]>;
  /** Polls an instant query until it satisfies; throws with the last answer after `timeoutMs`. */
  until(expr: string, satisfied: (samples: readonly Sample[]) => boolean, timeoutMs?: number): Promise<Sample[]>;
  /** A range query; times in seconds. One series per label set, as time to value. */
  range(expr: string, fromS: number, toS: number, stepS: number): Promise<Series[]>;
  exemplars(expr: string): Promise<Exemplar[]>;
  /** Values of a label among series that match now, as a dashboard variable asks for them. */
  labelValues(label: string, match: string): Promise<string[]>;
}

const POLL_MS = 100;

export async function startPrometheus(options: PrometheusOptions): Promise<Prometheus> {
  const dir = await mkdtemp(join(tmpdir(), 'cooper-prometheus-'));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  await writeConfiguration(dir, options);
  if (options.history !== undefined) await backfill(dir, options.history);
  const child = spawn(
    'prometheus',
    [
      `--config.file=${join(dir, 'prometheus.yml')}`,
      `--storage.tsdb.path=${join(dir, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--enable-feature=exemplar-storage',
      ...(options.history === undefined ? [] : ['--storage.tsdb.retention.time=100y']),
      '--log.level=warn',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let log = '';
  child.stderr.on('data', (chunk: Buffer) => {
    log = (log + chunk.toString()).slice(-4000);
  });
  const stop = async (): Promise<void> => {
    await kill(child);
    await rm(dir, { recursive: true, force: true });
  };
  try {
    await poll(
      async () => (await fetch(`${url}/-/ready`)).ok,
      30_000,
      () => `Prometheus did not become ready: ${log}`,
    );
  } catch (error) {
    await stop();
    throw error;
  }
  return { ...client(url), url, [Symbol.asyncDispose]: stop };
}

async function backfill(dir: string, history: string): Promise<void> {
  const file = join(dir, 'history.om');
  await writeFile(file, history);
  const args = ['tsdb', 'create-blocks-from', '--max-block-duration=2400h', 'openmetrics', file, join(dir, 'data')];
  const { status, stderr } = spawnSync('promtool', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`promtool could not take the history: ${stderr}`);
}

function client(url: string): Pick<Prometheus, 'query' | 'until' | 'range' | 'exemplars' | 'labelValues'> {
  const ask = async <T>(path: string, params: Record<string, string>): Promise<T> => {
    const body = new URLSearchParams(params);
    // A rule of an objective can be longer than a URL may be.
    const response = await (path === 'query_range'
      ? fetch(`${url}/api/v1/${path}`, { method: 'POST', body })
      : fetch(`${url}/api/v1/${path}?${body}`));
    const answer = (await response.json()) as { status: string; data: T; error?: string };
    if (answer.status !== 'success') throw new Error(`${(params.query ?? path).slice(0, 500)}: ${answer.error}`);
    return answer.data;
  };
  const query = async (expr: string): Promise<Sample[]> => {
    const { result } = await ask<{ result: { metric: Record<string, string>; value: [number, string] }[] }>('query', {
      query: expr,
    });
    return result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
  };
  return {
    query,
    async until(expr, satisfied, timeoutMs = 30_000) {
      let last: Sample[] = [];
      await poll(
        async () => {
          last = await query(expr);
          return satisfied(last);
        },
        timeoutMs,
        () => `${expr} stayed at ${JSON.stringify(last)}`,
      );
      return last;
    },
    async range(expr, fromS, toS, stepS) {
      const data = await ask<{ result: { metric: Record<string, string>; values: [number, string][] }[] }>('query_range', {
        query: expr,
        start: String(fromS),
        end: String(toS),
        step: String(stepS),
      });
      return data.result.map(({ metric, values }) => ({
        labels: metric,
        values: new Map(values.map(([time, value]) => [time, Number(value)])),
      }));
    },
    async exemplars(expr) {
      const now = Date.now() / 1000;
      const data = await ask<{ exemplars: { labels: Record<string, string>; value: string }[] }[]>('query_exemplars', {
        query: expr,
        start: String(now - 3600),
        end: String(now + 60),
      });
      return data.flatMap(({ exemplars }) => exemplars.map(({ labels, value }) => ({ labels, value: Number(value) })));
    },
    labelValues: (label, match) => ask<string[]>(`label/${label}/values`, { 'match[]': match }),
  };
}

async function writeConfiguration(dir: string, options: PrometheusOptions): Promise<void> {
  const files: string[] = [];
  for (const path of options.rules ?? []) {
    const copy = join(dir, basename(path));
    await copyFile(path, copy);
    await writeFile(copy, (await readFile(copy, 'utf8')).replaceAll(/^( *interval:) .*$/gm, '$1 1s'));
    files.push(copy);
  }
  const interval = `${options.scrapeIntervalMs ?? 500}ms`;
  await writeFile(
    join(dir, 'prometheus.yml'),
    toYaml({
      global: { scrape_interval: interval, scrape_timeout: interval, evaluation_interval: '1s' },
      rule_files: files,
      scrape_configs: [{ job_name: options.job ?? 'cooper', static_configs: [{ targets: options.targets }] }],
    }),
  );
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export async function poll(condition: () => Promise<boolean>, timeoutMs: number, complaint: () => string): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    if (await condition().catch(() => false)) return;
    if (Date.now() > deadline) throw new Error(complaint());
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

export async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL'); // nothing of it is kept
  await ended;
}
