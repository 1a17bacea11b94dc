/** Wires what the daemon does to check itself: canary builds. */
import { join } from 'node:path';
import { duplexPair } from 'node:stream';
import type { Admission } from '../../builder/build/admission.ts';
import type { Collector } from '../../builder/gc/prune.ts';
import { connect, openTunnel, type RpcClient } from '../../builder/rpc/client.ts';
import type { RpcServer } from '../../builder/rpc/server.ts';
import type { Snapshots } from '../../builder/snapshot/ports.ts';
import type { Solver } from '../../builder/solver/solver.ts';
import type { Logger } from '../../telemetry/logs.ts';
import type { Recorders } from '../../telemetry/recorders.ts';
import type { ReadyCheck } from '../../web/ops-providers.ts';
import type { ParsedAddress } from '../addresses.ts';
import { canaryCheck, startCanary } from './canary.ts';
import type { DaemonConfig } from './daemon-config.ts';

export interface SelfCheckParts {
  readonly config: DaemonConfig;
  readonly tempDir: string;
  readonly server: RpcServer;
  readonly admission: Admission;
  readonly solver: Solver;
  readonly snapshots: Snapshots;
  readonly collector: Collector;
  /** The key index forgets a record that was removed. */
  readonly onRemoved: (id: string) => void;
  readonly recorders: Recorders;
  readonly log: Logger;
}
export interface SelfChecks extends AsyncDisposable {
  readonly ready: () => readonly ReadyCheck[];
}

/** Call once the listeners are open. */
export function startSelfChecks(parts: SelfCheckParts): SelfChecks {
  const { config, log, recorders, admission, solver } = parts;
  if (config.canary === undefined) return { ready: () => [], [Symbol.asyncDispose]: async () => {} };
  const canaryConfig = config.canary;
  let wasFailing = false;
  const canary = startCanary({
    config: canaryConfig,
    dir: join(parts.tempDir, 'canary'),
    connect: () => connectToSelf(config.addresses, parts.server),
    isBusy: () => admission.queued > 0 || solver.stats.exec.waiting > 0,
    tidy: (description) => removeRecords(parts, description),
    onEnd: (result, seconds, error) => {
      recorders.canaryBuild(result, seconds, Date.now() / 1000);
      if (error !== undefined) log.warn('the canary build did not succeed', { result, seconds, error });
      else if (wasFailing) log.info('the canary build succeeds again', { seconds });
      wasFailing = error !== undefined;
    },
  });
  return {
    ready: () => [canaryCheck(canary, canaryConfig)],
    [Symbol.asyncDispose]: () => canary[Symbol.asyncDispose](),
  };
}

/** Through a unix socket where the daemon listens on one, as clients come; else past the listeners, for TCP takes known clients only. */
async function connectToSelf(addresses: readonly ParsedAddress[], server: RpcServer): Promise<RpcClient> {
  const socket = addresses.find((address) => address.type === 'unix');
  if (socket !== undefined) return await connect(socket, { signal: AbortSignal.timeout(5_000) });
  const [ours, theirs] = duplexPair();
  server.attach(theirs, { transport: 'tunnel', address: 'self' });
  return openTunnel(ours);
}

/** Children before what they are made of, as often as something goes. */
async function removeRecords({ collector, snapshots, onRemoved }: SelfCheckParts, description: string): Promise<void> {
  for (let removed = 1; removed > 0; ) {
    removed = 0;
    for (const { id, inUse } of await collector.usage([`description~=${description}`], 0n)) {
      if (inUse || !(await snapshots.remove(id))) continue;
      onRemoved(id);
      removed += 1;
    }
  }
}
