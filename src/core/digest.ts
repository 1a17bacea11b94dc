/**
 * Digests: sha256 text that names bytes. A blob, an uncompressed layer, a chain of layers, a graph vertex and a cache key are all
 * written alike and must never be mixed, so each has its brand and one parser is the only door.
 */
import { hash } from 'node:crypto';
import { BuildError } from './errors.ts';

declare const brand: unique symbol;
type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** Of the bytes as stored, so of the compressed layer (OCI image-spec v1.1, descriptor.md). */
export type Digest = Brand<string, 'Digest'>;
/** Of the uncompressed tar (OCI image-spec v1.1, config.md, rootfs.diff_ids). */
export type DiffId = Brand<string, 'DiffId'>;
/** Of a stack of layers (OCI image-spec v1.1, config.md, layer ChainID). */
export type ChainId = Brand<string, 'ChainId'>;
/** Of a marshalled `pb.Op` exactly as received; names a vertex on the wire and in progress. */
export type VertexDigest = Brand<string, 'VertexDigest'>;
/** The digest half of a cache key: of an op's normalised definition or of the content it reads. */
export type CacheDigest = Brand<string, 'CacheDigest'>;

const DIGEST = /^sha256:[0-9a-f]{64}$/;

/** @throws BuildError `invalid-input` unless `text` is `sha256:` and 64 lowercase hex digits. */
export function parseDigest(text: string): Digest {
  if (isDigest(text)) return text;
  throw new BuildError('invalid-input', `"${text}" is not a digest; expected sha256: and 64 lowercase hex digits`);
}

export function isDigest(text: string): text is Digest {
  return DIGEST.test(text);
}

/** The digest of bytes already in memory. Bulk data is hashed in a worker thread, never with this. */
export function digestOf(bytes: Uint8Array | string): Digest {
  return `sha256:${hash('sha256', bytes, 'hex')}` as Digest;
}

/** A digest made by an incremental hash (`createHash('sha256').digest('hex')`). */
export function digestFromHex(hex: string): Digest {
  return parseDigest(`sha256:${hex}`);
}

/** The 64 hex digits. */
export function hexOf(digest: Digest | DiffId | ChainId | VertexDigest | CacheDigest): string {
  return digest.slice('sha256:'.length);
}

export const diffIdOf = (digest: Digest): DiffId => digest as string as DiffId;
export const vertexDigestOf = (op: Uint8Array): VertexDigest => digestOf(op) as string as VertexDigest;
/** A digest that came over the wire as the name of a vertex. @throws BuildError `invalid-input` when malformed. */
export const parseVertexDigest = (text: string): VertexDigest => parseDigest(text) as string as VertexDigest;
export const cacheDigestOf = (text: Uint8Array | string): CacheDigest => digestOf(text) as string as CacheDigest;

/** Chain ids of a stack of layers, lowest first: the first is the diff id, each further one the digest of `<parent> <diff id>`. */
export function chainIdsOf(diffIds: readonly DiffId[]): ChainId[] {
  const chain: ChainId[] = [];
  for (const diffId of diffIds) {
    const parent = chain.at(-1);
    chain.push((parent === undefined ? diffId : digestOf(`${parent} ${diffId}`)) as string as ChainId);
  }
  return chain;
}
