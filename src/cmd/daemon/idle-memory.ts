/**
 * Memory of a daemon that has nothing to do. A build leaves garbage in V8's heap and holes in C's; both would be kept for the next
 * build, which may be hours away. So once the daemon has been idle for a while the heap is collected as a whole and what is free goes
 * back to the kernel. Nothing waits meanwhile but the control loop, once, for the time of one collection (50 to 100 ms).
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** The longest that a thread without work is kept (sessions/worker/session-workers.ts): what threads held is free only when they end. */
const IDLE_MS = 35_000;

export interface IdleMemory extends Disposable {
  /** Something has happened: idleness counts from now. Cheap, may be called at any rate. */
  touch(): void;
}

export interface IdleMemoryOptions {
  /** Asked when the time has passed; when it says no, the next `touch` counts. */
  readonly isIdle: () => boolean;
  /** Hands the C heap's holes back. */
  readonly trim: () => Promise<void>;
  readonly idleMs?: number;
}

export function releaseWhenIdle({ isIdle, trim, idleMs = IDLE_MS }: IdleMemoryOptions): IdleMemory {
  let timer: NodeJS.Timeout | undefined;
  const release = async (): Promise<void> => {
    if (!isIdle()) return;
    collectGarbage();
    await trim();
  };
  const touch = (): void => {
    if (timer === undefined) timer = setTimeout(() => void release(), idleMs).unref();
    else timer.refresh();
  };
  touch();
  return { touch, [Symbol.dispose]: () => clearTimeout(timer) };
}

/**
 * V8 hands out its collector only under a flag. The flag is taken back at once: it would change what compiled code may be loaded from
 * disk, and every thread would compile its modules again.
 */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as (options: {
    readonly type: 'major';
    readonly execution: 'sync';
    readonly flavor: 'last-resort';
  }) => void;
  setFlagsFromString('--no-expose-gc');
  collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}
