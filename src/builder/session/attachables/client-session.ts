/**
 * The client's side of a session: a gRPC server inside `Control.Session`, over which the daemon asks for files, secrets and credentials
 * and hands over results. For our own command line; other programs bring their own.
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../../../core/clock.ts';
import { BuildError, cancelled } from '../../../core/errors.ts';
import { Health, HealthCheckResponse_ServingStatus } from '../../proto/gen/grpc/health/v1/health_pb.ts';
import { bytesDuplex } from '../../rpc/bytes-duplex.ts';
import type { RpcClient } from '../../rpc/client.ts';
import { type RawMethod, type Service, service } from '../../rpc/handlers.ts';
import { RpcServer } from '../../rpc/server.ts';

export interface ClientSessionOptions {
  /** Default: random. */
  readonly id?: string;
  /** Names the source of the files across builds, so that the daemon asks only for what has changed. */
  readonly sharedKey?: string;
  readonly services: readonly Service[];
  readonly clock: Clock;
}

export interface ClientSession extends AsyncDisposable {
  readonly id: string;
  /** Settles when the daemon has ended the session; rejects when the connection broke. */
  readonly ended: Promise<void>;
  /** Tells the daemon that nothing more is offered, and waits until it has let go and what ran for it has cleaned up. */
  close(): Promise<void>;
}

const CLOSE_MS = 5_000; // a daemon that does not answer by then is left

/** Opens the session; the daemon may call as soon as this returns. */
export function openClientSession(client: RpcClient, options: ClientSessionOptions): ClientSession {
  const id = options.id ?? randomId();
  const running = new Set<Promise<void>>();
  const services = [health, ...options.services];
  const server = new RpcServer({ services: services.map((one) => tracked(one, running)), clock: options.clock });
  const methods = services.flatMap(({ methods: served }) => [...served.keys()]);
  const stream = client.stream('/moby.buildkit.v1.Control/Session', {
    headers: [
      ['x-docker-expose-session-uuid', id],
      ['x-docker-expose-session-name', 'cooper'],
      ['x-docker-expose-session-sharedkey', options.sharedKey ?? ''],
      ...methods.map((method) => ['x-docker-expose-session-grpc-method', method] as const),
    ],
  });
  const tunnel = bytesDuplex(stream);
  const over = Promise.withResolvers<void>();
  over.promise.catch(() => {}); // for those who do not ask
  tunnel.on('error', (error) => over.reject(BuildError.from(error)));
  tunnel.on('end', () => over.resolve());
  tunnel.on('close', () => over.resolve());
  server.attach(tunnel, { transport: 'tunnel', address: 'session' });
  let closing: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    const timer = setTimeout(() => stream.cancel(cancelled('the daemon did not end the session')), CLOSE_MS);
    await server.drain(0);
    if (!tunnel.writableEnded) tunnel.end();
    tunnel.resume();
    await over.promise.catch(() => {}); // it has told whoever holds `ended`
    await Promise.allSettled(running); // they have been aborted; half-written outputs are being removed
    clearTimeout(timer);
    stream.cancel();
  };
  const closeOnce = (): Promise<void> => {
    closing ??= close();
    return closing;
  };
  return { id, ended: over.promise, close: closeOnce, [Symbol.asyncDispose]: closeOnce };
}

/** The same service; its calls are in `running` while they run. */
function tracked({ typeName, methods }: Service, running: Set<Promise<void>>): Service {
  const track =
    (method: RawMethod): RawMethod =>
    (stream, context) => {
      const call = method(stream, context);
      running.add(call);
      const done = (): void => void running.delete(call);
      call.then(done, done);
      return call;
    };
  return { typeName, methods: new Map([...methods].map(([path, method]) => [path, track(method)])) };
}

const health = service(Health, { check: () => ({ status: HealthCheckResponse_ServingStatus.SERVING }) });

/** 25 characters of base 36, as other clients make them. */
export function randomId(): string {
  return BigInt(`0x${randomBytes(17).toString('hex')}`)
    .toString(36)
    .padStart(25, '0')
    .slice(-25);
}
