/** The grpc-go peer of test/peers/grpc, built into a temp dir and run as a process. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { connect, type RpcClient } from './client.ts';

const run = promisify(execFile);
const SOURCE = new URL('../../../test/peers/grpc/', import.meta.url).pathname;

export interface Outcome {
  readonly code: number;
  readonly message: string;
  readonly details: number;
  readonly bytes?: number;
  readonly text?: string;
  readonly trailer?: readonly string[];
}

export interface GoPeer extends AsyncDisposable {
  /** Calls our server at a unix socket with one scenario of main.go. */
  call(path: string, ...scenario: readonly (string | number)[]): Promise<Outcome>;
  serve(): Promise<GoServer>;
}
export interface GoServer extends AsyncDisposable {
  readonly client: RpcClient;
  /** Asks the peer to stop gracefully: GOAWAY, then exit once the calls are done. */
  stop(): void;
  /** Its next line on stdout. */
  line(): Promise<string>;
  exited(): Promise<void>;
}

/** The peer, or in one sentence why it cannot be had here. A peer that does not compile is an error, not a reason to skip. */
export async function buildGoPeer(): Promise<GoPeer | string> {
  const dir = await mkdtemp(join(tmpdir(), 'cooper-go-peer-'));
  const binary = join(dir, 'peer');
  try {
    await run('go', ['build', '-o', binary, '.'], { cwd: SOURCE });
  } catch (error) {
    await rm(dir, { recursive: true });
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'go is not installed';
    if (/dial tcp|no such host|module lookup disabled|requires go >=/.test(String(error)))
      return 'the Go modules cannot be fetched';
    throw error;
  }
  return {
    async call(path, ...scenario) {
      const { stdout } = await run(binary, ['call', `unix://${path}`, ...scenario.map(String)]);
      return JSON.parse(stdout) as Outcome;
    },
    serve: () => startServer(binary, join(dir, `${Math.random().toString(36).slice(2)}.sock`)),
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true }),
  };
}

async function startServer(binary: string, path: string): Promise<GoServer> {
  const child: ChildProcess = spawn(binary, ['serve', `unix://${path}`], { stdio: ['pipe', 'pipe', 'inherit'] });
  const { stdin, stdout } = child;
  if (stdin === null || stdout === null) throw new Error('the peer has no pipes');
  const exit = once(child, 'exit');
  const lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
  const line = async (): Promise<string> => String((await lines.next()).value);
  await line(); // ready
  const client = await connect({ type: 'unix', path });
  return {
    client,
    line,
    stop: () => void stdin.write('x'),
    exited: async () => void (await exit),
    async [Symbol.asyncDispose]() {
      client.destroy();
      stdin.end();
      await exit;
    },
  };
}
