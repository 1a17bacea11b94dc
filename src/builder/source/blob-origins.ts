/**
 * Where blobs came from: the repositories in which a registry has shown them. A push mounts a base image's layers from there, and a
 * blob that was lost can be fetched again. A memory, not a promise: it is gone with the process.
 */
import type { Digest } from '../../core/digest.ts';
import type { ImageReference } from '../registry/ports.ts';
import { nameOf } from '../registry/reference.ts';

export interface BlobOrigins {
  add(digest: Digest, reference: ImageReference): void;
  /** Repositories that hold the blob, the latest first; on `host` only when given. */
  of(digest: Digest, host?: string): readonly ImageReference[];
}

const MAX_BLOBS = 50_000;
const MAX_PER_BLOB = 8;

export function createBlobOrigins(): BlobOrigins {
  const origins = new Map<Digest, readonly ImageReference[]>();
  return {
    add(digest, reference) {
      const others = (origins.get(digest) ?? []).filter((known) => nameOf(known) !== nameOf(reference));
      origins.delete(digest); // so that the map stays in the order of use
      origins.set(digest, [reference, ...others].slice(0, MAX_PER_BLOB));
      for (const oldest of origins.keys()) {
        if (origins.size <= MAX_BLOBS) break;
        origins.delete(oldest);
      }
    },
    of(digest, host) {
      const known = origins.get(digest) ?? [];
      return host === undefined ? known : known.filter((reference) => reference.host === host);
    },
  };
}
