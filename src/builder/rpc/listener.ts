/** Where clients reach an RpcServer: unix sockets, TCP with mutual TLS, and plain TCP for those who insist. */
import { chmod, chown, lstat, mkdir, unlink } from 'node:fs/promises';
import { type AddressInfo, connect, createServer, type ListenOptions, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from 'node:tls';
import { BuildError } from '../../core/errors.ts';
import { holderOfTcpPort, holderOfUnixSocket } from '../../core/socket-holder.ts';
import type { Peer } from './handlers.ts';
import type { RpcServer } from './server.ts';

export interface UnixAddress {
  readonly type: 'unix';
  readonly path: string;
  /** Permissions of the socket; 0o660 by default. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
}
export interface TcpAddress {
  readonly type: 'tcp';
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
  readonly tls?: ServerTls;
  /** Whoever can connect can run code as the daemon, so TCP without TLS has to be asked for. */
  readonly allowPlain?: boolean;
}
/** PEM. With `clientCa`, only clients with a certificate from it get in. */
export interface ServerTls {
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
  readonly clientCa?: string | Buffer;
}

export interface Listener extends AsyncDisposable {
  /** `unix:///run/x.sock` or `tcp://host:port`, with the real port. */
  readonly address: string;
  /** New connections use these certificates; existing ones keep theirs. Only for TLS listeners. */
  reloadTls(tls: ServerTls): void;
  /** Takes no more connections; the ones there are belong to the server. Removes the unix socket. */
  close(): Promise<void>;
}

const HANDSHAKE_MS = 10_000;

/**
 * @throws BuildError `unavailable` when the address is taken, naming the process that holds it; `invalid-input` when it is no address
 * to listen on or plain TCP was not allowed.
 */
export async function listen(server: RpcServer, address: UnixAddress | TcpAddress): Promise<Listener> {
  return address.type === 'unix' ? await listenUnix(server, address) : await listenTcp(server, address);
}

async function listenUnix(server: RpcServer, address: UnixAddress): Promise<Listener> {
  const { path, mode = 0o660, uid, gid } = address;
  await mkdir(dirname(path), { recursive: true });
  await removeStaleSocket(path);
  const net = createServer((socket) => server.attach(socket, { transport: 'unix', address: path }));
  // The socket exists from bind on, so it must be born closed: chmod alone would leave it open for a moment.
  const umask = process.umask(0o777 & ~mode);
  try {
    await bound(net, { path }, () => holderOfUnixSocket(path));
  } finally {
    process.umask(umask);
  }
  await chmod(path, mode);
  if (uid !== undefined || gid !== undefined) await chown(path, uid ?? -1, gid ?? -1);
  return listenerOf(net, `unix://${path}`, () => {
    throw new BuildError('invalid-input', `unix://${path} has no certificates`);
  });
}

/** A socket file that nobody answers on is left over from a daemon that was killed. */
async function removeStaleSocket(path: string): Promise<void> {
  const stat = await lstat(path).catch(() => undefined);
  if (stat === undefined) return;
  if (!stat.isSocket()) throw new BuildError('invalid-input', `cannot listen on ${path}: the file exists and is not a socket`);
  const outcome = await new Promise<'answers' | NodeJS.ErrnoException>((resolve) => {
    const probe = connect(path, () => {
      probe.destroy();
      resolve('answers');
    });
    probe.on('error', resolve);
  });
  if (outcome === 'answers') throw await taken(path, () => holderOfUnixSocket(path));
  if (outcome.code !== 'ECONNREFUSED') throw new BuildError('invalid-input', `cannot listen on ${path}: ${outcome.message}`);
  await unlink(path);
}

async function listenTcp(server: RpcServer, address: TcpAddress): Promise<Listener> {
  const { host, port, tls } = address;
  if (tls === undefined && address.allowPlain !== true) {
    throw new BuildError('invalid-input', `tcp://${host}:${port} has no TLS certificate and plain TCP is not allowed`, {
      hint: 'give the listener a certificate, a key and a client CA',
    });
  }
  const net = tls === undefined ? plainServer(server) : tlsServer(server, tls);
  await bound(net, { host, port }, () => holderOfTcpPort(port));
  const real = (net.address() as AddressInfo).port;
  const text = `tcp://${host.includes(':') ? `[${host}]` : host}:${real}`;
  return listenerOf(net, text, (next) => {
    if (!('setSecureContext' in net)) throw new BuildError('invalid-input', `${text} does not use TLS`);
    (net as TlsServer).setSecureContext(contextOf(next));
  });
}

function plainServer(server: RpcServer): Server {
  return createServer({ noDelay: true }, (socket) => server.attach(socket, { transport: 'tcp', address: remoteOf(socket) }));
}

function tlsServer(server: RpcServer, tls: ServerTls): TlsServer {
  const net = createTlsServer(
    {
      ...contextOf(tls),
      noDelay: true,
      ALPNProtocols: ['h2'],
      minVersion: 'TLSv1.2',
      handshakeTimeout: HANDSHAKE_MS,
      requestCert: tls.clientCa !== undefined,
      rejectUnauthorized: tls.clientCa !== undefined,
    },
    (socket) => {
      if (socket.alpnProtocol === 'h2') server.attach(socket, tlsPeer(socket));
      else socket.destroy();
    },
  );
  net.on('tlsClientError', (_error, socket) => socket.destroy());
  return net;
}

const contextOf = ({
  cert,
  key,
  clientCa,
}: ServerTls): { cert: string | Buffer; key: string | Buffer; ca?: string | Buffer } => ({
  cert,
  key,
  ...(clientCa === undefined ? {} : { ca: clientCa }),
});

function tlsPeer(socket: TLSSocket): Peer {
  const name = socket.authorized ? socket.getPeerCertificate().subject?.CN : undefined;
  const identity = Array.isArray(name) ? name[0] : name;
  return { transport: 'tls', address: remoteOf(socket), ...(identity === undefined ? {} : { identity }) };
}

const remoteOf = (socket: Socket): string => `${socket.remoteAddress}:${socket.remotePort}`;

/** Resolves once `net` listens. */
async function bound(net: Server, options: ListenOptions, holder: () => Promise<string | undefined>): Promise<void> {
  const where = options.path ?? `${options.host}:${options.port}`;
  const error = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
    net.once('error', resolve);
    net.listen(options, () => resolve(undefined));
  });
  net.removeAllListeners('error');
  net.on('error', () => {}); // accept failures (EMFILE) lose one connection, not the daemon
  if (error === undefined) return;
  if (error.code === 'EADDRINUSE') throw await taken(where, holder);
  throw new BuildError('invalid-input', `cannot listen on ${where}: ${error.message}`, {}, { cause: error });
}

async function taken(where: string, holder: () => Promise<string | undefined>): Promise<BuildError> {
  return new BuildError('unavailable', `cannot listen on ${where}: ${(await holder()) ?? 'another process'} already does`, {
    hint: 'stop it, or choose another address',
  });
}

function listenerOf(net: Server, address: string, reloadTls: (tls: ServerTls) => void): Listener {
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      if (!net.listening) return resolve();
      net.close(); // its callback waits for every connection, which live on
      resolve();
    });
  return { address, reloadTls, close, [Symbol.asyncDispose]: close };
}
