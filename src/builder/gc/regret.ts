/** The key index as the solver sees it, with an ear for regret: a look-up that misses what was collected a short while ago. */
import type { CacheIndex } from '../solver/ports.ts';
import type { Evictions } from './evictions.ts';

/** Answers as `index` does; what was evicted is known as such even when the index has forgotten the key itself. `onRegret` is told
 *  once for each eviction that is wanted back within the window. */
export function regretting(index: CacheIndex, evictions: Evictions, onRegret: () => void): CacheIndex {
  return {
    linked: (from, link) => index.linked(from, link),
    addLink: (from, link, to) => index.addLink(from, link, to),
    contentNames: (key, input) => index.contentNames(key, input),
    results: (key) => index.results(key),
    addResult(key, result) {
      evictions.restored(key);
      index.addResult(key, result);
    },
    forgetResult: (key, id) => index.forgetResult(key, id),
    hadResult(key) {
      if (evictions.wanted(key)) onRegret();
      return index.hadResult(key) || evictions.findEviction(key) !== undefined;
    },
    seen: (digest) => index.seen(digest),
  };
}
