/** Names of images made here: which manifest or index a name stands for. Survives restarts; the blobs live in the content store. */
import { parseDigest } from '../../core/digest.ts';
import type { Descriptor } from '../content/ports.ts';
import type { Metadata } from '../metadata/ports.ts';

export interface ImageStore {
  /** Resolves when the name is queued for disk; the latest image of a name wins. */
  set(name: string, descriptor: Descriptor): Promise<void>;
  find(name: string): Descriptor | undefined;
}

export async function openImageStore(metadata: Metadata): Promise<ImageStore> {
  await metadata.define([
    'create table if not exists images (name text primary key, media_type text not null, digest text not null, size integer not null)',
  ]);
  const images = new Map<string, Descriptor>();
  for (const row of await metadata.read('select name, media_type, digest, size from images', []))
    images.set(String(row.name), {
      mediaType: String(row.media_type),
      digest: parseDigest(String(row.digest)),
      size: Number(row.size),
    });
  return {
    async set(name, { mediaType, digest, size }) {
      images.set(name, { mediaType, digest, size });
      metadata.write('insert or replace into images (name, media_type, digest, size) values (?, ?, ?, ?)', [
        name,
        mediaType,
        digest,
        size,
      ]);
    },
    find: (name) => images.get(name),
  };
}
