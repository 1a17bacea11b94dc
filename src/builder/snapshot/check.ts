/** Compares what is known of snapshots with what lies on disk and in the metadata store, and repairs what can be repaired. */
import { existsSync, readdirSync } from 'node:fs';
import { Breather } from '../../core/breather.ts';
import type { Metadata } from '../metadata/ports.ts';
import type { SnapshotCore } from './core.ts';
import type { CheckFinding } from './ports.ts';
import type { SnapshotRecord } from './records.ts';

/**
 * Finds records whose directory is gone (they go, with what stands on them, unless somebody holds them), directories without a record,
 * blobs of layers that are gone or have another size (the layer is made anew when somebody asks), and rows that nobody knows.
 */
export async function checkSnapshots(
  core: SnapshotCore,
  metadata: Metadata,
  { repair, forget }: { readonly repair: boolean; readonly forget: (record: SnapshotRecord) => void },
): Promise<CheckFinding[]> {
  const findings: CheckFinding[] = [];
  const breather = new Breather();
  for (const record of topFirst([...core.records.all()])) {
    if (core.records.get(record.id) !== record) continue; // went while we looked at others
    const missing = missingBelow(core, record);
    if (missing !== undefined) findings.push(missingTree(record, missing, repair, forget));
    else findings.push(...(await layerFindings(core, record, repair)));
    if (breather.dueNow) await breather.pause();
  }
  findings.push(...(await strayDirectories(core, repair)), ...(await strayRows(core, metadata, repair)));
  return findings;
}

/** Children before parents, so that a parent is free to go when its turn comes. */
function topFirst(records: readonly SnapshotRecord[]): SnapshotRecord[] {
  const depths = new Map<SnapshotRecord, number>();
  const depthOf = (record: SnapshotRecord): number => {
    let depth = 0;
    for (let at = record.parent; at !== undefined; at = at.parent) depth += 1;
    return depth;
  };
  for (const record of records) depths.set(record, depthOf(record));
  return records.toSorted((a, b) => (depths.get(b) ?? 0) - (depths.get(a) ?? 0));
}

/** The snapshot of the chain whose directory is gone, the record itself included. */
function missingBelow(core: SnapshotCore, record: SnapshotRecord): SnapshotRecord | undefined {
  for (let at: SnapshotRecord | undefined = record; at !== undefined; at = at.parent)
    if (!existsSync(core.trees.treeOf(at.id))) return at;
  return undefined;
}

function missingTree(
  record: SnapshotRecord,
  missing: SnapshotRecord,
  repair: boolean,
  forget: (record: SnapshotRecord) => void,
): CheckFinding {
  const free = record.refs === 0 && record.children === 0;
  if (repair && free) forget(record);
  return {
    kind: 'snapshot-missing',
    subject: record.id,
    detail: `${missing === record ? 'its directory is gone' : `the directory of ${missing.id} below it is gone`}: ${record.description}${
      free ? '' : '; something holds it'
    }`,
    repaired: repair && free,
  };
}

async function layerFindings(core: SnapshotCore, record: SnapshotRecord, repair: boolean): Promise<CheckFinding[]> {
  const findings: CheckFinding[] = [];
  for (const blob of [...record.blobs]) {
    const found = await core.content.info(blob.digest);
    if (found?.sizeBytes === blob.sizeBytes) continue;
    findings.push({
      kind: found === undefined ? 'layer-blob-missing' : 'layer-blob-size',
      subject: record.id,
      detail: `${blob.digest} ${found === undefined ? 'is not in the content store' : `has ${found.sizeBytes} bytes, its record says ${blob.sizeBytes}`}`,
      repaired: repair,
    });
    if (repair) core.records.dropBlob(record, blob);
  }
  return findings;
}

async function strayDirectories(core: SnapshotCore, repair: boolean): Promise<CheckFinding[]> {
  const known = (name: string): boolean =>
    core.records.get(name) !== undefined || core.isBeingMade(name) || `${core.dir}/${name}` === core.trash;
  const stray = readdirSync(core.dir).filter((name) => !known(name));
  if (repair) await Promise.all(stray.map((name) => core.discard(name)));
  return stray.map((name) => ({
    kind: 'snapshot-stray',
    subject: name,
    detail: 'a directory without a record',
    repaired: repair,
  }));
}

async function strayRows(core: SnapshotCore, metadata: Metadata, repair: boolean): Promise<CheckFinding[]> {
  const findings: CheckFinding[] = [];
  for (const [table, column] of [
    ['snapshots', 'id'],
    ['snapshot_blobs', 'snapshot'],
  ] as const) {
    const rows = await metadata.read(`select distinct ${column} as id from ${table}`, []);
    for (const id of rows.map((row) => String(row.id)).filter((id) => core.records.get(id) === undefined)) {
      if (repair) metadata.write(`delete from ${table} where ${column} = ?`, [id]);
      findings.push({ kind: 'row-stray', subject: id, detail: `a row of ${table} without a record`, repaired: repair });
    }
  }
  return findings;
}
