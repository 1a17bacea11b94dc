/** Caches that buildkitd.toml names for builds that name none. */
import type { CacheEntry } from '../../builder/cache/remote/remote-caches.ts';

/** All steps are kept: a cache that several builders share is worth most where images share no layers. */
export function defaultCache(type: string, attributes: Readonly<Record<string, string>>): CacheEntry {
  return { type, attributes: new Map([['mode', 'max'], ...Object.entries(attributes)]) };
}
