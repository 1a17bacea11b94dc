/** `cooper prune`: removes build cache that nothing uses. */
import { Control, type UsageRecord } from '../../builder/proto/gen/moby/buildkit/v1/control_pb.ts';
import { BuildError } from '../../core/errors.ts';
import { formatFlags, isOn, parseArguments, textOf, textsOf } from '../args.ts';
import { formatBytes, parseDiskSpace, parseDuration } from '../config/units.ts';
import { ENDPOINT_FLAGS, openClient } from './endpoint.ts';
import { formatTable } from './table.ts';

const FLAGS = [
  ...ENDPOINT_FLAGS,
  { name: 'all', short: 'a', kind: 'switch', doc: 'also internal and frontend records' },
  { name: 'filter', kind: 'texts', value: 'FILTER', doc: 'only records that match' },
  { name: 'keep-duration', kind: 'text', value: 'DURATION', doc: 'keep what was used within this time, for example 48h' },
  { name: 'reserved-space', kind: 'text', value: 'SIZE', doc: 'keep at least this much' },
  { name: 'max-used-space', kind: 'text', value: 'SIZE', doc: 'remove until at most this much is used' },
  { name: 'min-free-space', kind: 'text', value: 'SIZE', doc: 'remove until this much of the disk is free' },
  { name: 'help', short: 'h', kind: 'switch', doc: 'show this text' },
] as const;

export async function run(argv: readonly string[]): Promise<number> {
  const args = parseArguments(argv, FLAGS);
  if (isOn(args, 'help')) {
    console.log(`Usage: cooper prune [flags]\n\n${formatFlags(FLAGS)}`);
    return 0;
  }
  const bytes = (flag: string): bigint => {
    const text = textOf(args, flag);
    if (text === undefined) return 0n;
    const space = parseDiskSpace(text);
    if (space.kind !== 'bytes') throw new BuildError('invalid-input', `--${flag}: give bytes or "10GB", not a share of the disk`);
    return BigInt(space.bytes);
  };
  const duration = textOf(args, 'keep-duration');
  await using client = await openClient(args);
  const removed: UsageRecord[] = [];
  const request = {
    filter: [...textsOf(args, 'filter')],
    all: isOn(args, 'all'),
    keepDuration: duration === undefined ? 0n : parseDuration(duration),
    reservedSpace: bytes('reserved-space'),
    maxUsedSpace: bytes('max-used-space'),
    minFreeSpace: bytes('min-free-space'),
  };
  for await (const record of client.serverStream(Control.method.prune, request)) removed.push(record);
  if (removed.length > 0)
    console.log(
      formatTable(
        ['ID', 'SIZE', 'DESCRIPTION'],
        removed.map(({ ID, Size, Description }) => [ID, formatBytes(Number(Size)), Description]),
      ),
    );
  console.log(`Total: ${formatBytes(removed.reduce((sum, { Size }) => sum + Number(Size), 0))}`);
  return 0;
}
