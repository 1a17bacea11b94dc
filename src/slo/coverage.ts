/**
 * When the counters were looked at, as stretches without a gap. A window that was not looked at knows nothing: its share of observed
 * time is the coverage, and a verdict over too little of it is frozen instead of resolved.
 */
import { SLOT_SECONDS } from './count-history.ts';

/** A pause longer than this ends a stretch. */
export const GAP_SECONDS = 2 * SLOT_SECONDS;

export interface Stretch {
  /** Seconds since the Unix epoch. */
  readonly fromS: number;
  readonly toS: number;
}

export class Coverage {
  #stretches: { fromS: number; toS: number }[] = [];

  /** Puts back what was kept from before a restart, ascending. */
  restore(stretches: readonly Stretch[]): void {
    this.#stretches = stretches.map((stretch) => ({ ...stretch }));
  }

  /** The counters were read at `nowS`; returns the stretch that now ends there. Forgets what ended before `keepFromS`. */
  observed(nowS: number, keepFromS: number): Stretch {
    while ((this.#stretches[0]?.toS ?? keepFromS) < keepFromS) this.#stretches.shift();
    const last = this.#stretches.at(-1);
    if (last !== undefined && nowS - last.toS <= GAP_SECONDS) {
      last.toS = Math.max(last.toS, nowS);
      return last;
    }
    const stretch = { fromS: nowS, toS: nowS };
    this.#stretches.push(stretch);
    return stretch;
  }

  /** Has nothing been read for longer than a gap? */
  blindAt(nowS: number): boolean {
    const last = this.#stretches.at(-1);
    return last === undefined || nowS - last.toS > GAP_SECONDS;
  }

  /** Share of the last `windowS` seconds that was observed, 0 to 1. */
  over(windowS: number, nowS: number): number {
    const fromS = nowS - windowS;
    const seen = this.#stretches.reduce(
      (sum, stretch) => sum + Math.max(Math.min(stretch.toS, nowS) - Math.max(stretch.fromS, fromS), 0),
      0,
    );
    return Math.min(seen / windowS, 1);
  }

  /** The same, of the part of the window since the very first look: what was before it is no gap. */
  gapless(windowS: number, nowS: number): number {
    const sinceFirstS = nowS - (this.#stretches[0]?.fromS ?? nowS);
    return sinceFirstS <= 0 ? 1 : this.over(Math.min(windowS, sinceFirstS), nowS);
  }

  /** Seconds since the epoch of the last look; undefined before the first. */
  get lastS(): number | undefined {
    return this.#stretches.at(-1)?.toS;
  }
}
