/** Finds out that a client has died behind a connection that still looks open. */
import { BuildError } from '../../core/errors.ts';
import type { Session } from './ports.ts';

const CHECK = '/grpc.health.v1.Health/Check';
const TIMEOUT_MS = 15_000;
/** A slow client gets half as much time again as it needed last. */
const SLACK = 1.5;

/** Checks every `intervalMs` until the session ends; after two failures in a row closes it with `unavailable`. */
export function watchHealth(
  session: Session & { close(reason: BuildError): void },
  options: { readonly intervalMs: number; readonly timeoutMs?: number },
): void {
  const { intervalMs, timeoutMs = TIMEOUT_MS } = options;
  let failures = 0;
  let lastMs = 0;
  const check = async (): Promise<void> => {
    const startedMs = performance.now();
    try {
      await session.unary(CHECK, new Uint8Array(0), { signal: session.closed, timeoutMs: Math.max(timeoutMs, lastMs * SLACK) });
      failures = 0;
    } catch (thrown) {
      // A client that answers that it does not know the method is alive.
      failures = BuildError.from(thrown).kind === 'unsupported' ? 0 : failures + 1;
      if (failures >= 2)
        session.close(new BuildError('unavailable', `session ${session.id} has ended: its health checks failed`));
    }
    lastMs = performance.now() - startedMs;
    if (!session.closed.aborted) schedule();
  };
  let timer: NodeJS.Timeout | undefined;
  const schedule = (): void => {
    timer = setTimeout(() => void check(), intervalMs);
    timer.unref();
  };
  schedule();
  session.closed.addEventListener('abort', () => clearTimeout(timer), { once: true });
}
