/** Between the solver's results and the snapshots they are. */
import { cacheDigestOf } from '../../core/digest.ts';
import { BuildError, GRPC } from '../../core/errors.ts';
import type { Selector, Snapshot, Snapshots } from '../snapshot/ports.ts';
import type { CacheMapInput, Result } from '../solver/ports.ts';

/** BuildKit's ops fail with plain errors, which reach clients as status UNKNOWN. */
export const UNTYPED = { grpcCode: GRPC.UNKNOWN } as const;

/** A reference of one's own to the snapshot behind a result; undefined for scratch. */
export async function openResult(snapshots: Snapshots, result: Result | undefined): Promise<Snapshot | undefined> {
  if (result?.id === undefined) return undefined;
  const snapshot = await snapshots.open(result.id);
  if (snapshot === undefined) throw new BuildError('internal', `snapshot ${result.id} was collected while a step used it`);
  return snapshot;
}

/** A selector of one path, symlinks followed. */
export const pathSelector = (path: string, followLinks = true): Selector => ({
  path,
  wildcard: false,
  followLinks,
  includePatterns: [],
  excludePatterns: [],
  requiredPaths: [],
});

export interface KeyDeps {
  readonly snapshots: Snapshots;
  readonly workerId: string;
}

/** How an input counts whose selected paths are read. */
export const byContentOf = (
  selectors: readonly Selector[],
  deps: KeyDeps,
): Required<Pick<CacheMapInput, 'contentKey' | 'reads'>> => ({ contentKey: contentKeyOf(selectors, deps), reads: selectors });

/** The key function of an input that counts by the content of the selected paths (buildkit-wire.md section 7.4). */
export function contentKeyOf(selectors: readonly Selector[], deps: KeyDeps): NonNullable<CacheMapInput['contentKey']> {
  return async (input, { signal }) => {
    await using snapshot = await openResult(deps.snapshots, input);
    if (snapshot === undefined) return scratchKey(selectors);
    try {
      return await snapshot.checksum(selectors, signal);
    } catch (error) {
      throw BuildError.from(error).wrap(`failed to calculate checksum of ref ${deps.workerId}::${snapshot.id}`, UNTYPED);
    }
  };
}

/** Scratch holds nothing but its root. */
function scratchKey(selectors: readonly Selector[]): ReturnType<typeof cacheDigestOf> {
  const missing = selectors.find(({ path }) => path !== '/' && path !== '');
  if (missing !== undefined) {
    throw new BuildError(
      'not-found',
      `failed to calculate checksum of ref : ${missing.path}: no such file or directory`,
      UNTYPED,
    );
  }
  return cacheDigestOf(selectors.map(() => cacheDigestOf('')).join('\0'));
}
