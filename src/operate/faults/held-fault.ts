/** A fault held by a keeper process under a lease this process renews. Disposing heals it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { BuildError } from '../../core/errors.ts';
import { type FaultOrder, orderOf } from './catalog.ts';

export interface HeldFault extends AsyncDisposable {
  readonly injectedAtMs: number;
  readonly keeperPid: number;
  /** Resolves once the fault is gone; rejects when it could not be taken away. Safe to repeat. */
  heal(): Promise<void>;
}
interface KeeperFact {
  readonly state: 'injected' | 'healed' | 'not-healed' | 'failed';
  readonly message?: string;
  readonly atMs?: number;
}

/** Rejects with the reason when the fault cannot be made. `ttlMs`: how long it may outlive us. */
export async function holdFault(order: FaultOrder, options: { readonly ttlMs?: number } = {}): Promise<HeldFault> {
  const { fault, parameters } = orderOf(order.fault, order.parameters); // says what is wrong before anything starts
  const ttlMs = options.ttlMs ?? 10_000;
  const file = join(import.meta.dirname, import.meta.filename.endsWith('.ts') ? 'keeper.ts' : 'keeper.js');
  const child = spawn(process.execPath, [file, JSON.stringify({ fault, parameters, ttlMs })], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true, // Ctrl-C of the terminal is ours to act upon
  });
  child.stdin.on('error', () => undefined);
  const facts = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<KeeperFact> => {
    const { value, done } = await facts.next();
    return done === true ? { state: 'failed', message: 'its keeper ended' } : (JSON.parse(value) as KeeperFact);
  };
  const first = await next();
  if (first.state !== 'injected') throw new BuildError('unavailable', `fault ${fault} could not be made: ${first.message}`);
  const beat = setInterval(() => child.stdin.write('renew\n'), ttlMs / 3);
  beat.unref();
  let healing: Promise<void> | undefined;
  const heal = async (): Promise<void> => {
    clearInterval(beat);
    child.stdin.write('heal\n');
    const last = await next();
    await ended(child);
    if (last.state !== 'healed') throw new BuildError('internal', `fault ${fault} was not taken away: ${last.message}`);
  };
  const healOnce = (): Promise<void> => {
    healing ??= heal();
    return healing;
  };
  return {
    injectedAtMs: first.atMs ?? Date.now(),
    keeperPid: child.pid ?? -1,
    heal: healOnce,
    [Symbol.asyncDispose]: healOnce,
  };
}

const ended = (child: ChildProcess): Promise<void> =>
  child.exitCode !== null || child.signalCode !== null
    ? Promise.resolve()
    : new Promise((resolve) => child.once('exit', () => resolve()));
