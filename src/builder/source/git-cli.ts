/** Runs git without the user's or the machine's configuration, never asking questions, secrets in the environment only. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { BuildError } from '../../core/errors.ts';

export interface GitOptions {
  readonly gitDir?: string;
  readonly workTree?: string;
  /** Configuration for this run; values may be secret. */
  readonly config: readonly (readonly [key: string, value: string])[];
  readonly signal: AbortSignal;
  /** What git says while it works, credentials removed. */
  readonly onOutput: (text: string) => void;
}

const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * Runs git and resolves with its output. Rejects with `unsupported` when git is not installed, `not-found` or `denied` when the server
 * says so, `unavailable` when it does not answer, and `invalid-input` otherwise; the message ends with git's own.
 */
export async function git(args: readonly string[], options: GitOptions): Promise<string> {
  const { signal } = options;
  if (signal.aborted) throw BuildError.from(signal.reason);
  const child = start(args, options);
  const kill = (): void => void child.kill('SIGKILL');
  signal.addEventListener('abort', kill, { once: true });
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > MAX_OUTPUT_BYTES) child.kill('SIGKILL');
    else chunks.push(chunk);
  });
  child.stderr.on('data', (chunk: Buffer) => {
    const text = redactUrls(chunk.toString());
    said = (said + text).slice(-4096);
    options.onOutput(text);
  });
  const { promise, resolve, reject } = Promise.withResolvers<number | null>();
  child.on('error', (error: NodeJS.ErrnoException) =>
    reject(
      error.code === 'ENOENT'
        ? new BuildError('unsupported', 'git sources need git, which is not installed on the daemon')
        : BuildError.from(error),
    ),
  );
  child.on('close', resolve);
  try {
    const status = await promise;
    if (signal.aborted) throw BuildError.from(signal.reason);
    if (status !== 0) throw gitFailed(args, said.trim());
    return Buffer.concat(chunks).toString();
  } finally {
    signal.removeEventListener('abort', kill);
  }
}

/** What no program can be given (a NUL, more than the kernel takes) was chosen by the client: `invalid-input`. */
function start(args: readonly string[], options: GitOptions): ChildProcessByStdio<null, Readable, Readable> {
  try {
    return spawn('git', args, {
      env: environment(options),
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd: options.workTree ?? '/',
    });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ERR_INVALID_ARG_VALUE') throw new BuildError('invalid-input', 'invalid git source: it contains a NUL byte');
    if (code === 'E2BIG') throw new BuildError('invalid-input', 'invalid git source: it is too long');
    throw BuildError.from(error);
  }
}

/** User names and passwords in addresses are not for logs and errors. */
export const redactUrls = (text: string): string => text.replace(/([a-z][a-z0-9+.-]*:\/\/)[^\s/@]+@/gi, '$1xxxxx@');

function environment({ gitDir, workTree, config }: GitOptions): NodeJS.ProcessEnv {
  const env: Record<string, string> = {
    PATH,
    HOME: '/nonexistent',
    LC_ALL: 'C',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_TERMINAL_PROMPT: '0',
    GIT_ASKPASS: '/bin/false',
    GIT_SSH_COMMAND: 'ssh -F /dev/null -o BatchMode=yes',
    GIT_CONFIG_COUNT: String(config.length),
  };
  if (gitDir !== undefined) env.GIT_DIR = gitDir;
  if (workTree !== undefined) env.GIT_WORK_TREE = workTree;
  for (const [at, [key, value]] of config.entries()) {
    env[`GIT_CONFIG_KEY_${at}`] = key;
    env[`GIT_CONFIG_VALUE_${at}`] = value;
  }
  return env;
}

function gitFailed(args: readonly string[], said: string): BuildError {
  const command = redactUrls(`git ${args.join(' ')}`);
  const message = `${command}: ${said === '' ? 'failed' : said}`;
  if (/not found|does not exist|couldn't find remote ref/i.test(said)) return new BuildError('not-found', message);
  if (/authentication failed|could not read (username|password)|permission denied|403/i.test(said))
    return new BuildError('denied', message);
  if (/could not resolve host|timed out|connection refused|early eof|unable to (access|connect)/i.test(said))
    return new BuildError('unavailable', message);
  return new BuildError('invalid-input', message);
}
