/** `cooper cache check [--repair]`: asks the daemon, or looks at the state folder of one that is stopped. */
import { mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { openKeyIndex } from '../../builder/cache/key-index.ts';
import { openContentStore } from '../../builder/content/content-store.ts';
import { type CheckReport, checkStores } from '../../builder/gc/check.ts';
import { openMetadata } from '../../builder/metadata/metadata.ts';
import { Gc } from '../../builder/proto/gen/cooper/gc/v1/gc_pb.ts';
import type { RpcClient } from '../../builder/rpc/client.ts';
import type { CheckFinding } from '../../builder/snapshot/ports.ts';
import { openSnapshots } from '../../builder/snapshot/snapshots.ts';
import { openSys } from '../../builder/worker/sys/sys.ts';
import { systemClock } from '../../core/clock.ts';
import { WorkerPool } from '../../core/worker-pool.ts';
import { formatFlags, isOn, parseArguments, textOf } from '../args.ts';
import { formatBytes } from '../config/units.ts';
import { checkLayout, lockRoot } from '../daemon/state-folder.ts';
import { ENDPOINT_FLAGS, openClient } from './endpoint.ts';
import { formatTable } from './table.ts';

const FLAGS = [
  ...ENDPOINT_FLAGS,
  {
    name: 'root',
    kind: 'text',
    value: 'DIR',
    doc: 'state folder of a daemon that is stopped; without it the running daemon is asked',
  },
  { name: 'repair', kind: 'switch', doc: 'quarantine or forget what is bad' },
  { name: 'json', kind: 'switch', doc: 'print JSON' },
  { name: 'help', short: 'h', kind: 'switch', doc: 'show this text' },
] as const;

/** Exit status: 0 nothing wrong, 0 with --repair when all of it was repaired, 9 otherwise. */
export async function run(argv: readonly string[]): Promise<number> {
  const args = parseArguments(argv, FLAGS);
  if (isOn(args, 'help')) {
    console.log(`Usage: cooper cache check [--repair] [flags]\n\n${formatFlags(FLAGS)}`);
    return 0;
  }
  const repair = isOn(args, 'repair');
  const root = textOf(args, 'root');
  const report = root === undefined ? await askNamed(args, repair) : await checkRoot(root, repair);
  console.log(isOn(args, 'json') ? JSON.stringify(report, null, 2) : formatReport(report));
  return report.findings.every(({ repaired }) => repaired) ? 0 : 9;
}

async function askNamed(args: Parameters<typeof openClient>[0], repair: boolean): Promise<CheckReport> {
  await using client = await openClient(args);
  return await askDaemon(client, repair);
}

export async function askDaemon(client: RpcClient, repair: boolean): Promise<CheckReport> {
  const { findings, blobs, blobBytes, snapshots, keys } = await client.unary(Gc.method.check, { repair });
  return {
    findings: findings.map(({ kind, subject, detail, repaired }) => ({ kind, subject, detail, repaired })),
    blobs: Number(blobs),
    blobBytes: Number(blobBytes),
    snapshots: Number(snapshots),
    keys: Number(keys),
  };
}

/**
 * Holds the folder's lock, so no daemon can start meanwhile. Opening the stores does what every start does: drops records without
 * directories and directories without records. Those are told as repaired.
 */
export async function checkRoot(root: string, repair: boolean): Promise<CheckReport> {
  const clock = systemClock();
  const sys = openSys();
  await using stack = new AsyncDisposableStack();
  mkdirSync(root, { recursive: true, mode: 0o711 });
  stack.use(lockRoot(sys, root));
  checkLayout(root);
  const found: CheckFinding[] = [];
  const pool = stack.use(new WorkerPool(availableParallelism()));
  const metadata = stack.use(await openMetadata(join(root, 'cooper.sqlite'), { replaceCorrupt: repair }));
  if (metadata.quarantined !== undefined)
    found.push({ kind: 'database', subject: 'cooper.sqlite', detail: `moved to ${metadata.quarantined}`, repaired: true });
  const content = stack.use(openContentStore({ root, clock, pool }));
  const snapshots = await openSnapshots({ root, metadata, content, pool, clock, sys, snapshotter: 'native' });
  stack.defer(() => snapshots.close());
  for (const subject of snapshots.recovered.stray)
    found.push({ kind: 'snapshot-stray', subject, detail: 'a directory without a record', repaired: true });
  for (const subject of snapshots.recovered.lost)
    found.push({ kind: 'snapshot-missing', subject, detail: 'a record without its directory, or on top of one', repaired: true });
  const index = await openKeyIndex(metadata);
  const report = await checkStores({ content, snapshots, index, metadata }, { repair }, new AbortController().signal);
  await metadata.flush({ durable: true });
  return { ...report, findings: [...found, ...report.findings] };
}

function formatReport({ findings, blobs, blobBytes, snapshots, keys }: CheckReport): string {
  const looked = `Checked ${blobs} blobs (${formatBytes(blobBytes)}), ${snapshots} snapshots, ${keys} results of keys.`;
  if (findings.length === 0) return `${looked}\nNothing is wrong.`;
  const left = findings.filter(({ repaired }) => !repaired).length;
  const table = formatTable(
    ['KIND', 'SUBJECT', 'REPAIRED', 'DETAIL'],
    findings.map(({ kind, subject, repaired, detail }) => [kind, subject, repaired ? 'yes' : 'no', detail]),
  );
  return `${table}\n\n${looked}\n${findings.length} findings, ${findings.length - left} repaired${left === 0 ? '' : `; cooper cache check --repair repairs what it can`}.`;
}
