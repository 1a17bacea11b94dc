/** Stores that keep the configuration as BuildKit's plain JSON and blobs by digest, by type. A new one is one line here. */
import type { StoreBackend } from './ports.ts';

const BACKENDS: readonly StoreBackend[] = [];

/** Undefined for a type that is not one of these. */
export function findStoreBackend(type: string): StoreBackend | undefined {
  return BACKENDS.find(({ name }) => name === type);
}
