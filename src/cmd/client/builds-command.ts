/** `cooper builds`: running builds and the newest finished ones. */

import { resultOfStatus } from '../../builder/history/result-of-status.ts';
import { type BuildHistoryRecord, Control } from '../../builder/proto/gen/moby/buildkit/v1/control_pb.ts';
import type { BuildSummary } from '../../web/api/model.ts';
import { type Arguments, formatFlags, isOn, parseArguments, textOf } from '../args.ts';
import { millisOf } from '../progress/intervals.ts';
import { ENDPOINT_FLAGS, getOps, openClient } from './endpoint.ts';
import { formatTable } from './table.ts';

const FLAGS = [
  ...ENDPOINT_FLAGS,
  { name: 'limit', short: 'n', kind: 'text', value: 'N', doc: 'how many finished builds (20)' },
  { name: 'help', short: 'h', kind: 'switch', doc: 'show this text' },
] as const;

export async function run(argv: readonly string[]): Promise<number> {
  const args = parseArguments(argv, FLAGS);
  if (isOn(args, 'help')) {
    console.log(`Usage: cooper builds [flags]\n\n${formatFlags(FLAGS)}`);
    return 0;
  }
  await using client = await openClient(args);
  const records: BuildHistoryRecord[] = [];
  const limit = Number(textOf(args, 'limit') ?? '20');
  const request = { EarlyExit: true, Limit: limit };
  for await (const { record } of client.serverStream(Control.method.listenBuildHistory, request))
    if (record !== undefined) records.push(record);
  const summaries = await summariesOf(args, limit + records.length);
  const header = ['REF', 'STATUS', 'STEPS', 'CACHED', 'HIT', 'SAVED', 'DURATION', 'CREATED', 'TARGET'];
  console.log(
    formatTable(
      header,
      records.map((record) => rowOf(record, summaries.get(record.Ref))),
    ),
  );
  return 0;
}

/** Whose fault it was, hits and time saved are told by the ops server; without one the status is what the record shows, and the others stay empty. */
async function summariesOf(args: Arguments, limit: number): Promise<ReadonlyMap<string, BuildSummary>> {
  try {
    const { builds } = await getOps<{ readonly builds: readonly BuildSummary[] }>(
      args,
      `/api/v1/builds?limit=${Math.min(Math.max(limit, 1), 500)}`,
    );
    return new Map(builds.map((build) => [build.ref, build]));
  } catch {
    return new Map();
  }
}

function rowOf(record: BuildHistoryRecord, summary: BuildSummary | undefined): string[] {
  const { CreatedAt, CompletedAt } = record;
  const { cache } = summary ?? {};
  const seconds =
    CreatedAt !== undefined && CompletedAt !== undefined
      ? `${((millisOf(CompletedAt) - millisOf(CreatedAt)) / 1000).toFixed(1)}s`
      : '';
  const status = summary?.state ?? (CompletedAt === undefined ? 'running' : resultOfStatus(record.error));
  const created = CreatedAt === undefined ? '' : new Date(millisOf(CreatedAt)).toISOString().slice(0, 19).replace('T', ' ');
  return [
    record.Ref,
    status,
    String(record.numTotalSteps),
    String(record.numCachedSteps),
    cache?.hitRatio === undefined ? '' : `${Math.floor(cache.hitRatio * 100)} %`,
    cache === undefined ? '' : `${cache.savedSeconds.toFixed(1)}s`,
    seconds,
    created,
    record.FrontendAttrs.target ?? '',
  ];
}
