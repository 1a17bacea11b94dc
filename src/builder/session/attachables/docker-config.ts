/**
 * Registry credentials as `docker login` leaves them: config.json, and the helper programs it names
 * (https://github.com/docker/docker-credential-helpers). Read each time, since logins happen while we run.
 */
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BuildError } from '../../../core/errors.ts';

/** All empty: anonymous. Empty user name: `secret` is an identity token. `registryToken` is used as it is. */
export interface Credentials {
  readonly username: string;
  readonly secret: string;
  readonly registryToken?: string;
}

const ANONYMOUS: Credentials = { username: '', secret: '' };
const DOCKER_HUB = 'https://index.docker.io/v1/';
const HELPER_MS = 30_000; // some ask their user
const HELPER_BYTES = 1024 * 1024;

interface ConfigFile {
  readonly auths?: Readonly<Record<string, AuthEntry>>;
  readonly credsStore?: string;
  readonly credHelpers?: Readonly<Record<string, string>>;
}
interface AuthEntry {
  readonly auth?: string;
  readonly username?: string;
  readonly password?: string;
  readonly identitytoken?: string;
  readonly registrytoken?: string;
}

/** Credentials for the registry `host` (`host:port`). @throws BuildError `invalid-input` for a config.json that is no JSON object. */
export async function readCredentials(configDir: string, host: string, signal?: AbortSignal): Promise<Credentials> {
  const config = await readConfig(join(configDir, 'config.json'));
  const server = serverNameOf(host);
  const helper = config.credHelpers?.[server] ?? config.credHelpers?.[host] ?? config.credsStore;
  if (helper !== undefined && helper !== '') return await askHelper(helper, server, signal);
  const entries = Object.entries(config.auths ?? {});
  const entry = entries.find(([name]) => name === server) ?? entries.find(([name]) => hostOf(name) === hostOf(server));
  return entry === undefined ? ANONYMOUS : credentialsOf(entry[1]);
}

/** Docker Hub's credentials are kept under the address of an older service. */
const serverNameOf = (host: string): string =>
  ['docker.io', 'index.docker.io', 'registry-1.docker.io'].includes(host) ? DOCKER_HUB : host;

/** `https://host/v1/` and `host` are the same registry. */
const hostOf = (server: string): string => server.replace(/^https?:\/\//, '').split('/')[0] ?? '';

async function readConfig(file: string): Promise<ConfigFile> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR') return {};
    throw BuildError.from(error);
  }
  try {
    const config: unknown = JSON.parse(text);
    if (typeof config === 'object' && config !== null) return config;
  } catch {}
  throw new BuildError('invalid-input', `${file} is not a JSON object`);
}

function credentialsOf(entry: AuthEntry): Credentials {
  const registryToken = entry.registrytoken === undefined ? {} : { registryToken: entry.registrytoken };
  if (entry.identitytoken !== undefined && entry.identitytoken !== '') {
    return { username: '', secret: entry.identitytoken, ...registryToken };
  }
  // `user:password`; a password may hold colons and, from some writers, ends with a NUL.
  const text = Buffer.from(entry.auth ?? '', 'base64')
    .toString()
    .replace(/\0+$/, '');
  const colon = text.indexOf(':');
  const [username, secret] = colon === -1 ? [entry.username, entry.password] : [text.slice(0, colon), text.slice(colon + 1)];
  return { username: username ?? '', secret: secret ?? '', ...registryToken };
}

/** `docker-credential-<helper> get`: the server's name on stdin, JSON on stdout. A helper that knows nothing means anonymous. */
async function askHelper(helper: string, server: string, signal: AbortSignal | undefined): Promise<Credentials> {
  const program = `docker-credential-${helper}`;
  const limit = AbortSignal.timeout(HELPER_MS);
  const child = spawn(program, ['get'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    signal: signal === undefined ? limit : AbortSignal.any([signal, limit]),
  });
  child.stdin.on('error', () => {}); // a helper may end without reading
  child.stdin.end(server);
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(0, HELPER_BYTES);
  });
  const status = await new Promise<number | null>((resolve, reject) => {
    child.on('error', (error) =>
      reject(new BuildError('invalid-input', `cannot run ${program}: ${error.message}`, {}, { cause: error })),
    );
    child.on('close', resolve);
  });
  if (status !== 0) {
    if (/credentials not found/i.test(output)) return ANONYMOUS;
    throw new BuildError('invalid-input', `${program} failed for ${server}: ${output.trim() || `exit status ${status}`}`);
  }
  let answer: { Username?: string; Secret?: string };
  try {
    answer = JSON.parse(output);
  } catch {
    throw new BuildError('invalid-input', `${program} answered something other than JSON for ${server}`); // its text may hold a secret
  }
  return { username: answer.Username === '<token>' ? '' : (answer.Username ?? ''), secret: answer.Secret ?? '' };
}
