/** `cooper builds`: running builds and the newest finished ones. */
import { type BuildHistoryRecord, Control } from '../../builder/proto/gen/moby/buildkit/v1/control_pb.ts';
import { formatFlags, isOn, parseArguments, textOf } from '../args.ts';
import { millisOf } from '../progress/intervals.ts';
import { ENDPOINT_FLAGS, openClient } from './endpoint.ts';
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
  const request = { EarlyExit: true, Limit: Number(textOf(args, 'limit') ?? '20') };
  for await (const { record } of client.serverStream(Control.method.listenBuildHistory, request))
    if (record !== undefined) records.push(record);
  console.log(formatTable(['REF', 'STATUS', 'STEPS', 'CACHED', 'DURATION', 'CREATED', 'TARGET'], records.map(rowOf)));
  return 0;
}

function rowOf(record: BuildHistoryRecord): string[] {
  const { CreatedAt, CompletedAt, error } = record;
  const seconds =
    CreatedAt !== undefined && CompletedAt !== undefined
      ? `${((millisOf(CompletedAt) - millisOf(CreatedAt)) / 1000).toFixed(1)}s`
      : '';
  const status =
    CompletedAt === undefined
      ? 'running'
      : error === undefined || error.code === 0
        ? 'completed'
        : error.message.includes('context canceled')
          ? 'canceled'
          : 'error';
  const created = CreatedAt === undefined ? '' : new Date(millisOf(CreatedAt)).toISOString().slice(0, 19).replace('T', ' ');
  return [
    record.Ref,
    status,
    String(record.numTotalSteps),
    String(record.numCachedSteps),
    seconds,
    created,
    record.FrontendAttrs.target ?? '',
  ];
}
