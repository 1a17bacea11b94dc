/** Addresses as people write them: `unix:///run/cooper/cooperd.sock`, `tcp://builder:1234`. */
import { BuildError } from '../core/errors.ts';

export type ParsedAddress =
  | { readonly type: 'unix'; readonly path: string }
  | { readonly type: 'tcp'; readonly host: string; readonly port: number };

const MAX_SOCKET_PATH = 107; // sun_path of unix(7), without the closing NUL

/** @throws BuildError `invalid-input` that says what is wrong with the address. */
export function parseAddress(text: string): ParsedAddress {
  if (text.startsWith('unix://')) {
    const path = text.slice('unix://'.length);
    if (!path.startsWith('/'))
      throw new BuildError('invalid-input', `"${text}": a unix address needs an absolute path (unix:///path)`);
    if (Buffer.byteLength(path) > MAX_SOCKET_PATH)
      throw new BuildError('invalid-input', `"${text}": the path of a unix socket has at most ${MAX_SOCKET_PATH} bytes`);
    return { type: 'unix', path };
  }
  if (text.startsWith('tcp://')) return { type: 'tcp', ...parseHostPort(text.slice('tcp://'.length)) };
  throw new BuildError('invalid-input', `"${text}" is not an address; expected unix:///path or tcp://host:port`);
}

/** `127.0.0.1:8470`, `[::1]:8470`, `:8470`. @throws BuildError `invalid-input`. */
export function parseHostPort(text: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) throw new BuildError('invalid-input', `"${text}" is not an address; expected host:port`);
  return { host: match[1] ?? (match[2] === '' ? '0.0.0.0' : (match[2] ?? '')), port };
}
