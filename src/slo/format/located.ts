/** An objective with the places its fields were written at, so that what is wrong with its numbers is said where they stand. */
import type { Objective } from '../spec.ts';
import type { Entry } from './entry.ts';
import type { Place } from './finding.ts';

/** Fields of an objective (`pairs[0].budgetPercent`) to where they are written. */
export class Places {
  readonly #known = new Map<string, Place>();

  /** Remembers an entry, when there is one. Returns it. */
  at<E extends Entry | undefined>(field: string, entry: E): E {
    if (entry !== undefined) this.#known.set(field, entry.place);
    return entry;
  }

  /** The place of a field, or of the nearest thing around it. */
  of(field: string): Place | undefined {
    for (let path = field; path !== ''; path = path.replace(/(\.[^.[]*|\[\d+\])$/, '')) {
      const found = this.#known.get(path);
      if (found !== undefined) return found;
      if (!/[.[]/.test(path)) break;
    }
    return this.#known.get('');
  }
}

export interface Located {
  readonly objective: Objective;
  readonly places: Places;
}
