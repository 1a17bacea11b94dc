/**
 * Where the content of a registry host is asked for: its mirrors in order, then the host itself, each with its scheme and TLS
 * settings (buildkitd.toml, `[registry."host"]`).
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BuildError } from '../../core/errors.ts';

/** One `[registry."host"]` table. */
export interface RegistryHostConfig {
  /** Hosts, each with an optional path, that are tried before the host itself; only for pulls. */
  readonly mirrors?: readonly string[];
  /** Plain HTTP. Absent: only for hosts on loopback. */
  readonly http?: boolean;
  /** TLS without verification; with `http`, plain HTTP when the host does not speak TLS. */
  readonly insecure?: boolean;
  /** PEM files with certificate authorities, on top of the system's. */
  readonly ca?: readonly string[];
  readonly keypairs?: readonly { readonly key: string; readonly cert: string }[];
  /** Directories with `*.crt` authorities and `*.cert`/`*.key` pairs. */
  readonly tlsConfigDirs?: readonly string[];
}

/** Kept serialisable: it crosses into transfer threads. */
export interface TlsSettings {
  readonly ca?: readonly string[];
  readonly cert?: readonly string[];
  readonly key?: readonly string[];
  readonly rejectUnauthorized: boolean;
}

export interface Endpoint {
  /** `registry-1.docker.io`, `localhost:5000`: what is dialled and what credentials are asked for. */
  readonly authority: string;
  readonly scheme: 'http' | 'https';
  /** `/v2`, or `/v2/<path>` of a mirror. */
  readonly path: string;
  readonly mirror: boolean;
  /** Set when the scheme is a first guess: plain HTTP is used when the host turns out not to speak TLS. */
  readonly fallsBackToHttp: boolean;
  readonly tls: TlsSettings | undefined;
}

export type RegistryHosts = Readonly<Record<string, RegistryHostConfig>>;

/**
 * Endpoints of `host` in the order they are tried. TLS files are read anew on each call, so callers remember the answer.
 * @throws BuildError `invalid-input` for a certificate file that cannot be read.
 */
export async function endpointsOf(hosts: RegistryHosts, host: string, insecure: boolean): Promise<readonly Endpoint[]> {
  const config = hosts[host] ?? {};
  const mirrors = (config.mirrors ?? []).map(async (text) => {
    const { authority, path } = splitMirror(text);
    return await endpointOf(authority, hosts[authority] ?? {}, { path: `/v2${path}`, mirror: true, insecure: false });
  });
  const authority = host === 'docker.io' ? 'registry-1.docker.io' : host;
  const upstream = endpointOf(authority, config, { path: '/v2', mirror: false, insecure });
  return await Promise.all([...mirrors, upstream]);
}

async function endpointOf(
  authority: string,
  config: RegistryHostConfig,
  options: { readonly path: string; readonly mirror: boolean; readonly insecure: boolean },
): Promise<Endpoint> {
  const insecure = options.insecure || config.insecure === true;
  // `registry.insecure` on a call allows both kinds of leniency at once, as the upstream daemon does.
  const http = options.insecure || (config.http ?? isLoopback(authority));
  const scheme = http && !insecure ? 'http' : 'https';
  return {
    authority,
    scheme,
    path: options.path,
    mirror: options.mirror,
    fallsBackToHttp: http && insecure,
    tls: scheme === 'https' ? await tlsOf(config, insecure) : undefined,
  };
}

function splitMirror(text: string): { authority: string; path: string } {
  const bare = text.replace(/^https?:\/\//, '').replace(/\/+$/, '');
  const slash = bare.indexOf('/');
  return slash === -1 ? { authority: bare, path: '' } : { authority: bare.slice(0, slash), path: bare.slice(slash) };
}

export function isLoopback(authority: string): boolean {
  const name = authority.replace(/:\d+$/, '');
  return name === 'localhost' || name === '[::1]' || name === '::1' || /^127\.\d+\.\d+\.\d+$/.test(name);
}

async function tlsOf(config: RegistryHostConfig, insecure: boolean): Promise<TlsSettings> {
  const fromDirs = await Promise.all((config.tlsConfigDirs ?? []).map(filesOfTlsDir));
  const caFiles = [...(config.ca ?? []), ...fromDirs.flatMap((dir) => dir.ca)];
  const pairs = [...(config.keypairs ?? []), ...fromDirs.flatMap((dir) => dir.keypairs)];
  const own = await Promise.all(caFiles.map(readPem));
  const ca = own.length === 0 ? [] : [...(await systemAuthorities()), ...own]; // a list of one's own replaces the system's
  const [cert, key] = await Promise.all([
    Promise.all(pairs.map((pair) => readPem(pair.cert))),
    Promise.all(pairs.map((pair) => readPem(pair.key))),
  ]);
  return {
    ...(ca.length === 0 ? {} : { ca }),
    ...(pairs.length === 0 ? {} : { cert, key }),
    rejectUnauthorized: !insecure,
  };
}

async function systemAuthorities(): Promise<readonly string[]> {
  const { getCACertificates } = await import('node:tls');
  return [...new Set([...getCACertificates('default'), ...getCACertificates('system')])];
}

async function filesOfTlsDir(dir: string): Promise<{ ca: string[]; keypairs: { key: string; cert: string }[] }> {
  const names = await readdir(dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'EACCES') return [];
    throw unreadable(dir, error);
  });
  return {
    ca: names.filter((name) => name.endsWith('.crt')).map((name) => join(dir, name)),
    keypairs: names
      .filter((name) => name.endsWith('.cert'))
      .map((name) => ({ cert: join(dir, name), key: join(dir, `${name.slice(0, -'.cert'.length)}.key`) })),
  };
}

const readPem = async (path: string): Promise<string> => {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw unreadable(path, error as Error);
  }
};
const unreadable = (path: string, error: Error): BuildError =>
  new BuildError('invalid-input', `registry configuration: failed to read ${path}: ${error.message}`, {}, { cause: error });
