/** Long work on the main thread in slices: between slices the event loop serves everybody else. */

const SLICE_MS = 8; // the loop's budget is 50 ms with everything else that runs on it
const LOOK_EVERY = 256; // asking the time costs more than one step of such work

export class Breather {
  #startedMs = performance.now();
  #steps = 0;

  /** True when the slice is used up: then `await breather.pause()`. Cheap enough to ask at every step. */
  get due(): boolean {
    this.#steps += 1;
    return this.#steps % LOOK_EVERY === 0 && performance.now() - this.#startedMs >= SLICE_MS;
  }

  /** For steps that are not tiny: looks at the time at every call. */
  get dueNow(): boolean {
    return performance.now() - this.#startedMs >= SLICE_MS;
  }

  async pause(): Promise<void> {
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.#startedMs = performance.now();
  }
}

const RUN = 1024;

/** As `toSorted`, stable, in slices. */
export async function sortedInSlices<T>(items: readonly T[], compare: (a: T, b: T) => number, breather: Breather): Promise<T[]> {
  let from: T[] = [];
  for (let at = 0; at < items.length; at += RUN) {
    for (const item of items.slice(at, at + RUN).sort(compare)) from.push(item);
    if (breather.dueNow) await breather.pause();
  }
  for (let width = RUN; width < items.length; width *= 2) {
    const to: T[] = [];
    for (let start = 0; start < from.length; start += 2 * width) {
      const [middle, end] = [Math.min(start + width, from.length), Math.min(start + 2 * width, from.length)];
      for (let left = start, right = middle; left < middle || right < end; ) {
        const takeLeft = right >= end || (left < middle && compare(from[left] as T, from[right] as T) <= 0);
        to.push(from[takeLeft ? left++ : right++] as T);
        if (breather.due) await breather.pause();
      }
    }
    from = to;
  }
  return from;
}
