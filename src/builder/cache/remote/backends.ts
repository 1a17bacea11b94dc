/** Stores that keep the configuration as BuildKit's plain JSON and blobs by digest, by type. A new one is one line here. */
import { AZBLOB_BACKEND } from './azblob.ts';
import { GHA_BACKEND } from './gha.ts';
import type { StoreBackend } from './ports.ts';
import { REDIS_BACKEND } from './redis.ts';
import { S3_BACKEND } from './s3.ts';

const BACKENDS: readonly StoreBackend[] = [S3_BACKEND, AZBLOB_BACKEND, GHA_BACKEND, REDIS_BACKEND];

/** Undefined for a type that is not one of these. */
export function findStoreBackend(type: string): StoreBackend | undefined {
  return BACKENDS.find(({ name }) => name === type);
}
