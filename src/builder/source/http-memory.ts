/** What servers said about the content of URLs, so that an unchanged one is not fetched again. Kept across restarts. */
import { type Digest, parseDigest } from '../../core/digest.ts';
import type { Metadata } from '../metadata/ports.ts';

export interface KnownContent {
  /** Without the weak mark. */
  readonly etag: string;
  readonly digest: Digest;
  /** The header as it was sent. */
  readonly lastModified: string | undefined;
}
export interface HttpMemory {
  find(key: Digest): KnownContent | undefined;
  remember(key: Digest, content: KnownContent): void;
}

/** @param metadata without it, nothing outlives the process. */
export async function openHttpMemory(metadata?: Metadata): Promise<HttpMemory> {
  const known = new Map<Digest, KnownContent>();
  if (metadata !== undefined) {
    await metadata.define([
      'create table if not exists http_content (key text primary key, etag text not null, digest text not null, last_modified text)',
    ]);
    for (const row of await metadata.read('select key, etag, digest, last_modified from http_content', []))
      known.set(parseDigest(String(row.key)), {
        etag: String(row.etag),
        digest: parseDigest(String(row.digest)),
        lastModified: row.last_modified === null ? undefined : String(row.last_modified),
      });
  }
  return {
    find: (key) => known.get(key),
    remember(key, content) {
      known.set(key, content);
      metadata?.write('insert or replace into http_content (key, etag, digest, last_modified) values (?, ?, ?, ?)', [
        key,
        content.etag,
        content.digest,
        content.lastModified ?? null,
      ]);
    },
  };
}
