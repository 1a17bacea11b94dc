/** `cooper du`: what the build cache holds. */
import { Control, type DiskUsageResponse, type UsageRecord } from '../../builder/proto/gen/moby/buildkit/v1/control_pb.ts';
import { formatFlags, isOn, parseArguments, textsOf } from '../args.ts';
import { formatBytes } from '../config/units.ts';
import { ENDPOINT_FLAGS, openClient } from './endpoint.ts';
import { formatTable } from './table.ts';

const FLAGS = [
  ...ENDPOINT_FLAGS,
  { name: 'filter', kind: 'texts', value: 'FILTER', doc: 'only records that match, for example type==source.local' },
  { name: 'verbose', kind: 'switch', doc: 'also show type, use and description' },
  { name: 'help', short: 'h', kind: 'switch', doc: 'show this text' },
] as const;

export async function run(argv: readonly string[]): Promise<number> {
  const args = parseArguments(argv, FLAGS);
  if (isOn(args, 'help')) {
    console.log(`Usage: cooper du [flags]\n\n${formatFlags(FLAGS)}`);
    return 0;
  }
  await using client = await openClient(args);
  const usage: DiskUsageResponse = await client.unary(Control.method.diskUsage, { filter: [...textsOf(args, 'filter')] });
  console.log(formatUsage(usage.record, isOn(args, 'verbose')));
  return 0;
}

/** Records, largest first, and the sums of what is there, shared, private and reclaimable. */
export function formatUsage(records: readonly UsageRecord[], verbose: boolean): string {
  const sorted = [...records].sort((a, b) => Number(b.Size - a.Size));
  const rows = sorted.map((record) => [
    record.ID,
    String(!record.InUse),
    formatBytes(Number(record.Size)),
    ...(verbose ? [record.RecordType, String(record.UsageCount), record.Description] : []),
  ]);
  const sum = (of: (record: UsageRecord) => boolean): string =>
    formatBytes(records.filter(of).reduce((total, { Size }) => total + Number(Size), 0));
  const sums = [
    ['Shared:', sum((record) => record.Shared)],
    ['Private:', sum((record) => !record.Shared)],
    ['Reclaimable:', sum((record) => !record.InUse)],
    ['Total:', sum(() => true)],
  ];
  return `${formatTable(['ID', 'RECLAIMABLE', 'SIZE', ...(verbose ? ['TYPE', 'USES', 'DESCRIPTION'] : [])], rows)}\n${sums.map(([name = '', value = '']) => `${name.padEnd(14)}${value}`).join('\n')}`;
}
