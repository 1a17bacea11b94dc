/**
 * `cooper cache check`: every blob against its digest, every record against its directory and its blobs, every key against its result,
 * the database against itself. With `repair` the bad is quarantined or forgotten, so that a build makes it anew. Runs beside builds:
 * what is in use or being made is left alone, and nothing is ever deleted that a lease names.
 */
import { throwIfAborted } from '../../core/abort.ts';
import { Semaphore } from '../../core/semaphore.ts';
import type { KeyIndex } from '../cache/key-index.ts';
import type { DiskContentStore } from '../content/content-store.ts';
import type { BlobInfo } from '../content/ports.ts';
import type { Metadata } from '../metadata/ports.ts';
import type { CheckFinding, Snapshots } from '../snapshot/ports.ts';

export interface CheckReport {
  readonly findings: readonly CheckFinding[];
  /** What was looked at. */
  readonly blobs: number;
  readonly blobBytes: number;
  readonly snapshots: number;
  readonly keys: number;
}
export interface CheckedStores {
  readonly content: Pick<DiskContentStore, 'list' | 'inspect' | 'quarantine' | 'strays' | 'quarantineStray' | 'isLeased'>;
  readonly snapshots: Pick<Snapshots, 'usage' | 'check' | 'has'>;
  readonly index: Pick<KeyIndex, 'resultIds' | 'removed'>;
  readonly metadata: Metadata;
}

const HASHES_AT_ONCE = 2; // leaves the worker pool to builds

/** Rejects only when the signal aborts or a store fails as a whole. */
export async function checkStores(
  stores: CheckedStores,
  { repair }: { readonly repair: boolean },
  signal: AbortSignal,
): Promise<CheckReport> {
  const blobs: BlobInfo[] = [];
  for await (const blob of stores.content.list()) blobs.push(blob);
  const findings: CheckFinding[] = [
    ...(await databaseFindings(stores.metadata)),
    ...(await blobFindings(stores.content, blobs, repair, signal)),
    ...(await strayFindings(stores.content, repair)),
    ...(await stores.snapshots.check({ repair })),
    ...keyFindings(stores, repair),
  ];
  return {
    findings,
    blobs: blobs.length,
    blobBytes: blobs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    snapshots: (await stores.snapshots.usage()).length,
    keys: stores.index.resultIds().length,
  };
}

/** SQLite's own check. Damage is not repaired under a running daemon: a start moves an unreadable file aside. */
async function databaseFindings(metadata: Metadata): Promise<CheckFinding[]> {
  const rows = await metadata.read('pragma integrity_check(20)', []);
  return rows
    .map((row) => String(Object.values(row)[0]))
    .filter((text) => text !== 'ok')
    .map((detail) => ({ kind: 'database', subject: 'cooper.sqlite', detail, repaired: false }));
}

async function blobFindings(
  content: CheckedStores['content'],
  blobs: readonly BlobInfo[],
  repair: boolean,
  signal: AbortSignal,
): Promise<CheckFinding[]> {
  const findings: CheckFinding[] = [];
  const turns = new Semaphore(HASHES_AT_ONCE);
  await Promise.all(
    blobs.map(async ({ digest }) => {
      using _turn = await turns.acquire(signal);
      throwIfAborted(signal);
      const wrong = await content.inspect(digest, signal);
      if (wrong === undefined) return;
      if (repair) await content.quarantine(digest);
      const gone = wrong === 'its file is gone';
      findings.push({ kind: gone ? 'blob-missing' : 'blob-corrupt', subject: digest, detail: wrong, repaired: repair });
    }),
  );
  return findings;
}

async function strayFindings(content: CheckedStores['content'], repair: boolean): Promise<CheckFinding[]> {
  const findings: CheckFinding[] = [];
  for (const name of await content.strays()) {
    if (repair) await content.quarantineStray(name);
    findings.push({ kind: 'blob-stray', subject: name, detail: 'a file that is no blob of the store', repaired: repair });
  }
  return findings;
}

function keyFindings({ index, snapshots }: Pick<CheckedStores, 'index' | 'snapshots'>, repair: boolean): CheckFinding[] {
  return danglingIds(index, snapshots).map((id) => {
    if (repair) index.removed(id);
    return { kind: 'key-dangling', subject: id, detail: 'a cache key leads to a result that is gone', repaired: repair };
  });
}

/** Results of keys that are no snapshot; names of remote results have another form. */
const danglingIds = (index: Pick<KeyIndex, 'resultIds'>, snapshots: Pick<Snapshots, 'has'>): string[] =>
  index.resultIds().filter((id) => /^[0-9a-z]+$/.test(id) && !snapshots.has(id));

/** At start: what a kill left between the removal of a record and that of its keys. Returns how many. */
export function dropDanglingKeys(index: Pick<KeyIndex, 'resultIds' | 'removed'>, snapshots: Pick<Snapshots, 'has'>): number {
  const ids = danglingIds(index, snapshots);
  for (const id of ids) index.removed(id);
  return ids.length;
}
