/**
 * Blobs of remote caches that turned out not to be what their name says. They are not asked for again for a while, by any build, and
 * an export writes them anew. Nothing of them is kept on this machine.
 */
import { type Clock, nsToMs } from '../../../core/clock.ts';
import type { Digest } from '../../../core/digest.ts';
import type { BuildError } from '../../../core/errors.ts';
import type { CacheObserver, CacheStore } from './ports.ts';

type Place = Pick<CacheStore, 'backend' | 'endpoint' | 'label'>;

const FOR_MS = 3_600_000; // long enough for somebody to look, short enough for a repaired cache to be used the same day
const MAX_ENTRIES = 10_000;

export class Quarantine {
  readonly #sinceNs = new Map<string, bigint>();
  readonly #clock: Clock;
  readonly #observer: CacheObserver;

  constructor(clock: Clock, observer: CacheObserver) {
    this.#clock = clock;
    this.#observer = observer;
  }

  has(place: Place, digest: Digest): boolean {
    if (this.#sinceNs.size === 0) return false;
    const key = keyOf(place, digest);
    const sinceNs = this.#sinceNs.get(key);
    if (sinceNs === undefined) return false;
    if (nsToMs(this.#clock.nowNs() - sinceNs) < FOR_MS) return true;
    this.#sinceNs.delete(key);
    return false;
  }

  add(place: Place, digest: Digest, error: BuildError): void {
    if (this.has(place, digest)) return;
    this.#sinceNs.set(keyOf(place, digest), this.#clock.nowNs());
    for (const oldest of this.#sinceNs.keys()) {
      if (this.#sinceNs.size <= MAX_ENTRIES) break;
      this.#sinceNs.delete(oldest);
    }
    this.#observer.quarantined(place.backend, place.endpoint, digest, error);
  }

  /** The blob was written anew. */
  release(place: Place, digest: Digest): void {
    this.#sinceNs.delete(keyOf(place, digest));
  }
}

const keyOf = ({ backend, endpoint, label }: Place, digest: Digest): string => `${backend} ${endpoint} ${label} ${digest}`;
