/**
 * Looks at free space and free inodes every few seconds and has the collector make room before builds fail. Below the threshold it
 * collects; it stops once there is half as much again, so that it does not start over with the next layer.
 */
import type { DiskSpace } from './policy.ts';

export interface GuardOptions {
  readonly space: () => Promise<DiskSpace>;
  /** 0: space is not guarded. */
  readonly minFreeBytes: number;
  /** Per cent of all inodes; 0: inodes are not guarded. */
  readonly minFreeInodesPercent: number;
  /** Frees until the function says that nothing is short any more. Must not reject. */
  readonly relieve: (isShort: () => Promise<boolean>) => Promise<void>;
  readonly onPressure?: (what: Shortage, space: DiskSpace) => void;
  readonly onError: (error: unknown) => void;
  readonly everyMs?: number;
}
export type Shortage = 'space' | 'inodes' | 'a build ran out of space';

const EVERY_MS = 5_000;
const HYSTERESIS = 1.5;
/** When a run could not make room: what is in use cannot go, so the next try is worth it only after a while. */
const RETRY_MS = 60_000;

export class DiskGuard implements AsyncDisposable {
  readonly #options: GuardOptions;
  readonly #timer: NodeJS.Timeout;
  #running: Promise<void> | undefined;
  #retryAtMs = 0;

  constructor(options: GuardOptions) {
    this.#options = options;
    this.#timer = setInterval(() => void this.look(), options.everyMs ?? EVERY_MS);
    this.#timer.unref();
  }

  /** Collects when something is short; resolves when that is done. Never rejects. */
  async look(): Promise<void> {
    try {
      const space = await this.#options.space();
      const short = this.#shortage(space, 1);
      if (short !== undefined && performance.now() >= this.#retryAtMs) await this.#relieve(short, space);
    } catch (error) {
      this.#options.onError(error);
    }
  }

  /** A build failed for lack of space: collects at once, however much is free by now (what the build held has gone meanwhile). */
  async outOfSpace(): Promise<void> {
    try {
      await this.#relieve('a build ran out of space', await this.#options.space());
    } catch (error) {
      this.#options.onError(error);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#running;
  }

  #shortage({ freeBytes, totalInodes = 0, freeInodes = 0 }: DiskSpace, factor: number): Shortage | undefined {
    const { minFreeBytes, minFreeInodesPercent } = this.#options;
    if (freeBytes < minFreeBytes * factor) return 'space';
    if (totalInodes > 0 && freeInodes < (totalInodes * minFreeInodesPercent * factor) / 100) return 'inodes';
    return undefined;
  }

  /** One at a time; who comes meanwhile waits for the one under way. */
  #relieve(what: Shortage, space: DiskSpace): Promise<void> {
    this.#running ??= this.#relieveNow(what, space).finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #relieveNow(what: Shortage, space: DiskSpace): Promise<void> {
    const { relieve, onPressure } = this.#options;
    onPressure?.(what, space);
    const isShort = async (): Promise<boolean> => this.#shortage(await this.#options.space(), HYSTERESIS) !== undefined;
    await relieve(isShort);
    this.#retryAtMs = (await isShort()) ? performance.now() + RETRY_MS : 0;
  }
}
