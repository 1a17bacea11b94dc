/** Everything a load run needs, on this machine: a registry with a base image, a daemon with certificates, and k6 against it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { issueCertificates } from '../src/builder/rpc/certificates.test-rig.ts';
import { freePort, TestDaemon } from '../test/fixtures/daemon.ts';
import { busyboxRootfs, pushImage } from '../test/fixtures/images.ts';
import { startRegistry, type TestRegistry } from '../test/fixtures/registry.ts';
import type { SummaryData } from './summary.ts';

const SCRIPT = join(import.meta.dirname, 'builds.ts');
const PROTO_DIR = join(import.meta.dirname, '..', 'src', 'builder', 'proto');

export interface LoadOptions {
  /** Settings of the script by their environment names: DURATION, RUN_RATE, ... (README.md). */
  readonly settings: Readonly<Record<string, string>>;
  /** Where summary.json and summary.md go. */
  readonly summaryDir: string;
  /** Looks at the daemon once the load is over and before it stops. */
  readonly afterwards?: (daemon: TestDaemon) => Promise<void>;
}
export interface LoadResult {
  /** False when a threshold is broken or the script failed. */
  readonly ok: boolean;
  /** Undefined when the script never got as far. */
  readonly summary: SummaryData | undefined;
  /** What k6 printed. */
  readonly output: string;
}

/** Starts everything, runs the load, and leaves nothing behind but the summary. */
export async function runLoad({ settings, summaryDir, afterwards }: LoadOptions): Promise<LoadResult> {
  await using stack = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), 'cooper-load-'));
  stack.defer(() => rm(dir, { recursive: true, force: true }));
  await mkdir(summaryDir, { recursive: true });
  const registry = stack.use(await startRegistry());
  await pushImage(registry.host, 'base', 'latest', [await busyboxRootfs()]);
  const port = await freePort();
  const tls = await writeCertificates(dir);
  const toml = `[grpc.tls]\ncert = "${tls.serverCert}"\nkey = "${tls.serverKey}"\nca = "${tls.ca}"\n`;
  const daemon = stack.use(await TestDaemon.start({ toml, args: ['--addr', `tcp://127.0.0.1:${port}`] }));
  const { code, output } = await k6({
    ...settings,
    COOPER_ADDR: `127.0.0.1:${port}`,
    IMAGE: imageIn(registry),
    PROTO_DIR,
    SUMMARY_DIR: summaryDir,
    TLS_CA: tls.ca,
    TLS_CERT: tls.clientCert,
    TLS_KEY: tls.clientKey,
  });
  const text = await readFile(join(summaryDir, 'summary.json'), 'utf8').catch(() => undefined);
  await afterwards?.(daemon);
  return { ok: code === 0, summary: text === undefined ? undefined : (JSON.parse(text) as SummaryData), output };
}

const imageIn = ({ host }: TestRegistry): string => `${host}/base:latest`;

/** k6 as it is, told to report its use to nobody. */
async function k6(
  environment: Readonly<Record<string, string>>,
): Promise<{ readonly code: number | null; readonly output: string }> {
  const child = spawn('k6', ['run', '--quiet', '--no-color', '--no-usage-report', SCRIPT], {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, output };
}

interface CertificateFiles {
  readonly ca: string;
  readonly serverCert: string;
  readonly serverKey: string;
  readonly clientCert: string;
  readonly clientKey: string;
}

async function writeCertificates(dir: string): Promise<CertificateFiles> {
  const { ca, server, client } = issueCertificates('load');
  const write = async (name: string, text: string): Promise<string> => {
    const path = join(dir, name);
    await writeFile(path, text, { mode: 0o600 });
    return path;
  };
  return {
    ca: await write('ca.pem', ca),
    serverCert: await write('server.pem', server.cert),
    serverKey: await write('server-key.pem', server.key),
    clientCert: await write('client.pem', client.cert),
    clientKey: await write('client-key.pem', client.key),
  };
}
