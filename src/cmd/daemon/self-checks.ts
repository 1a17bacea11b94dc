/** Wires what the daemon does to check itself: canary builds, and samples of builds that are made again. */
import { join } from 'node:path';
import { duplexPair } from 'node:stream';
import type { Admission } from '../../builder/build/admission.ts';
import type { Builder } from '../../builder/build/builder.ts';
import type { BuildId } from '../../builder/events.ts';
import type { Collector } from '../../builder/gc/prune.ts';
import type { History } from '../../builder/history/history.ts';
import type { Reproducer } from '../../builder/reproduce/reproducer.ts';
import { connect, openTunnel, type RpcClient } from '../../builder/rpc/client.ts';
import type { RpcServer } from '../../builder/rpc/server.ts';
import type { Snapshots } from '../../builder/snapshot/ports.ts';
import type { Solver } from '../../builder/solver/solver.ts';
import { abortable, delay } from '../../core/abort.ts';
import { BuildError } from '../../core/errors.ts';
import type { Logger } from '../../telemetry/logs.ts';
import type { Recorders } from '../../telemetry/recorders.ts';
import type { ReadyCheck } from '../../web/ops-providers.ts';
import type { ParsedAddress } from '../addresses.ts';
import { type CanaryConfig, canaryCheck, startCanary } from './canary.ts';
import type { DaemonConfig } from './daemon-config.ts';

const IDLE_LOOK_MS = 500;
const GIVE_UP_MS = 600_000;

export interface SelfCheckParts {
  readonly config: DaemonConfig;
  readonly tempDir: string;
  readonly server: RpcServer;
  readonly admission: Admission;
  readonly solver: Solver;
  readonly builder: Builder;
  readonly history: History;
  readonly reproducer: Reproducer;
  readonly snapshots: Snapshots;
  readonly collector: Collector;
  /** The key index forgets a record that was removed. */
  readonly onRemoved: (id: string) => void;
  readonly recorders: Recorders;
  readonly log: Logger;
}
export interface SelfChecks extends AsyncDisposable {
  readonly ready: () => readonly ReadyCheck[];
  /** A build has ended; now and then it is made again. */
  afterBuild(ref: BuildId): void;
}

/** Call once the listeners are open. */
export function startSelfChecks(parts: SelfCheckParts): SelfChecks {
  const canary = parts.config.canary === undefined ? undefined : openCanary(parts, parts.config.canary);
  const sampler = sampleBuilds(parts);
  return {
    ready: () => canary?.ready() ?? [],
    afterBuild: (ref) => sampler.afterBuild(ref),
    [Symbol.asyncDispose]: async () => {
      await sampler[Symbol.asyncDispose]();
      await canary?.[Symbol.asyncDispose]();
    },
  };
}

/**
 * At most one check waits or runs; builds that end meanwhile are not sampled. A check waits for an idle builder, and is given up when a
 * busy one keeps it waiting, so that it never takes a slot from a user.
 */
function sampleBuilds({ config, history, reproducer, builder, solver, log }: SelfCheckParts): Omit<SelfChecks, 'ready'> {
  const closing = new AbortController();
  let running: Promise<void> | undefined;
  const isIdle = (): boolean => builder.running === 0 && solver.stats.exec.running === 0 && !reproducer.isBusy;
  const check = async (ref: BuildId): Promise<void> => {
    for (let waitedMs = 0; waitedMs < GIVE_UP_MS; waitedMs += IDLE_LOOK_MS) {
      await abortable(delay(IDLE_LOOK_MS), closing.signal);
      // The record, and with it the recipe, is written a moment after the build has ended.
      if (isIdle() && history.find(ref)?.CompletedAt !== undefined) {
        if ((await history.noteOf(ref, 'recipe')) !== undefined) await reproducer.check(ref, closing.signal);
        return;
      }
    }
  };
  return {
    afterBuild(ref) {
      const wanted = running === undefined && Math.random() * 100 < config.reproducePercent && !closing.signal.aborted;
      if (!wanted || history.find(ref) === undefined) return; // internal builds have no record
      running = check(ref)
        .catch((error) => void (closing.signal.aborted || log.warn('a sampled build could not be made again', { error })))
        .finally(() => {
          running = undefined;
        });
    },
    async [Symbol.asyncDispose]() {
      closing.abort(new BuildError('cancelled', 'the daemon is stopping'));
      await running;
    },
  };
}

function openCanary(parts: SelfCheckParts, canaryConfig: CanaryConfig): Pick<SelfChecks, 'ready'> & AsyncDisposable {
  const { config, log, recorders, admission, solver } = parts;
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
