/** Wires builds over HTTP: where uploads lie, which socket they are built through, and what is known of a build meanwhile. */
import { join } from 'node:path';
import type { Builder } from '../../../builder/build/builder.ts';
import { type Listener, listen } from '../../../builder/rpc/listener.ts';
import type { RpcServer } from '../../../builder/rpc/server.ts';
import type { Clock } from '../../../core/clock.ts';
import type { WorkerPool } from '../../../core/worker-pool.ts';
import type { DaemonConfig } from '../daemon-config.ts';
import { Submissions } from './submissions.ts';

const ARRIVAL_MS = 30_000;

export interface SubmissionParts {
  readonly config: Pick<DaemonConfig, 'addresses' | 'submit'>;
  readonly tempDir: string;
  readonly clock: Clock;
  readonly pool: WorkerPool;
  readonly builder: Builder;
  /** Looked at with the first build. */
  readonly server: () => RpcServer;
}

/** A daemon that listens on TCP only opens a socket in its own folder with the first build: the thread has no client certificate. */
export function openSubmissions({ config, tempDir, clock, pool, builder, server }: SubmissionParts): Submissions {
  const known = config.addresses.find((address) => address.type === 'unix')?.path;
  const path = join(tempDir, 'submit.sock');
  let own: Promise<Listener> | undefined;
  return new Submissions({
    clock,
    pool,
    dir: join(tempDir, 'submit'),
    limits: config.submit,
    socket: async () => {
      if (known !== undefined) return known;
      own ??= listen(server(), { type: 'unix', path });
      await own;
      return path;
    },
    status: async function* (ref, signal) {
      yield* (await builder.find(ref, ARRIVAL_MS, signal)).status.read(signal);
    },
    counts: (ref) => builder.peek(ref)?.status.counts() ?? { total: 0, cached: 0 },
    close: async () => void (await (await own)?.close()),
  });
}
