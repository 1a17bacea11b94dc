/** Where the daemon is: `--addr`, else COOPER_HOST, else BUILDKIT_HOST, else the default socket; its ops server likewise. */
import { readFileSync } from 'node:fs';
import { connect, type RpcClient, type TlsIdentity } from '../../builder/rpc/client.ts';
import { BuildError } from '../../core/errors.ts';
import { parseAddress } from '../addresses.ts';
import { type Arguments, type FlagSpec, textOf } from '../args.ts';
import { defaultsFor } from '../defaults.ts';

export const ENDPOINT_FLAGS: readonly FlagSpec[] = [
  { name: 'addr', kind: 'text', value: 'ADDRESS', doc: 'address of the build API (COOPER_HOST, BUILDKIT_HOST)' },
  { name: 'ops-addr', kind: 'text', value: 'HOST:PORT', doc: 'address of the ops server (COOPER_OPS_ADDR)' },
  { name: 'tlscacert', kind: 'text', value: 'FILE', doc: 'authority of the server certificate, for tcp:// addresses' },
  { name: 'tlscert', kind: 'text', value: 'FILE', doc: 'client certificate' },
  { name: 'tlskey', kind: 'text', value: 'FILE', doc: 'client key' },
  { name: 'tlsservername', kind: 'text', value: 'NAME', doc: 'name in the server certificate' },
];

const uid = (): number => process.getuid?.() ?? -1;

export function addressOf(args: Arguments): string {
  return textOf(args, 'addr') ?? process.env.COOPER_HOST ?? process.env.BUILDKIT_HOST ?? defaultsFor(uid(), process.env).address;
}

/** Rejects with `unavailable` and what to do when no daemon answers. */
export const openClient = (args: Arguments): Promise<RpcClient> => connectTo(addressOf(args), tlsOf(args));

export async function connectTo(text: string, tls: TlsIdentity = {}): Promise<RpcClient> {
  const address = parseAddress(text);
  try {
    return await connect(address.type === 'unix' ? address : { ...address, tls });
  } catch (cause) {
    throw new BuildError(
      'unavailable',
      `no daemon answers at ${text}: ${(cause as Error).message}`,
      { hint: 'start one with: cooper daemon' },
      { cause },
    );
  }
}

/** TCP is always TLS: the daemon takes no plain TCP. */
function tlsOf(args: Arguments): TlsIdentity {
  const file = (flag: string): Buffer | undefined => {
    const path = textOf(args, flag);
    return path === undefined ? undefined : readFileSync(path);
  };
  const [ca, cert, key, serverName] = [file('tlscacert'), file('tlscert'), file('tlskey'), textOf(args, 'tlsservername')];
  return { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }), ...(serverName !== undefined && { serverName }) };
}

/** For calls that change something. */
export const TOKEN_FLAGS: readonly FlagSpec[] = [
  {
    name: 'token-file',
    kind: 'text',
    value: 'FILE',
    doc: 'file with the bearer token, `TOKEN` or `NAME TOKEN` (COOPER_OPS_TOKEN holds the token itself)',
  },
];

const opsHostOf = (args: Arguments): string =>
  textOf(args, 'ops-addr') ?? process.env.COOPER_OPS_ADDR ?? defaultsFor(uid(), process.env).opsAddress;

/** GET of a JSON document on the ops server that the flags name. */
export const getOps = <T>(args: Arguments, path: string): Promise<T> => getOpsJson(opsHostOf(args), path);

/** POST of a JSON document with the token of the flags or the environment. Rejects with the server's words. */
export const postOps = <T>(args: Arguments, path: string, body: object): Promise<T> =>
  askOps(`http://${opsHostOf(args)}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${tokenOf(args)}` },
    body: JSON.stringify(body),
  });

/** The first token of the file, or the environment's. */
function tokenOf(args: Arguments): string {
  const file = textOf(args, 'token-file');
  const text = file === undefined ? (process.env.COOPER_OPS_TOKEN ?? '') : readFileSync(file, 'utf8');
  const line = text.split('\n').find((one) => one.trim() !== '' && !one.startsWith('#'));
  const token = line?.trim().split(/\s+/).at(-1);
  if (token !== undefined) return token;
  throw new BuildError('denied', 'this needs a token', {
    hint: 'give --token-file or COOPER_OPS_TOKEN, with a token of cooper.ops.token-file',
  });
}

export const getOpsJson = <T>(host: string, path: string): Promise<T> => askOps(`http://${host}${path}`);

async function askOps<T>(url: string, init: RequestInit = {}): Promise<T> {
  let response: Response;
  try {
    response = await fetch(url, init);
  } catch (cause) {
    throw new BuildError(
      'unavailable',
      `no ops server answers at ${url}`,
      { hint: 'is the daemon running, with cooper.ops.address set?' },
      { cause },
    );
  }
  if (response.ok) return (await response.json()) as T;
  const kinds = { 400: 'invalid-input', 401: 'denied', 403: 'denied', 404: 'not-found' } as const;
  const kind = kinds[response.status as keyof typeof kinds] ?? 'unavailable';
  throw new BuildError(kind, `${url} answered ${response.status}: ${(await response.text()).slice(0, 500)}`);
}
