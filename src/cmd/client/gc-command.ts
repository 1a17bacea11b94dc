/** `cooper gc plan` and `cooper gc run`: what collection would remove and why, and doing it. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { Gc, type PlanResponse, type Removal, type SelectionSchema } from '../../builder/proto/gen/cooper/gc/v1/gc_pb.ts';
import { rfc3339 } from '../../core/clock.ts';
import { BuildError } from '../../core/errors.ts';
import { type Arguments, formatFlags, isOn, parseArguments, textOf, textsOf } from '../args.ts';
import { formatBytes, parseDiskSpace, parseDuration } from '../config/units.ts';
import { ENDPOINT_FLAGS, openClient } from './endpoint.ts';
import { formatTable } from './table.ts';

const FLAGS = [
  ...ENDPOINT_FLAGS,
  { name: 'policy', kind: 'text', value: 'N', doc: 'only this policy of the daemon, counted from 1' },
  { name: 'all', short: 'a', kind: 'switch', doc: 'everything nothing uses, internal and frontend records too' },
  { name: 'filter', kind: 'texts', value: 'FILTER', doc: 'only records that match, for example type==exec.cachemount' },
  { name: 'keep-duration', kind: 'text', value: 'DURATION', doc: 'keep what was used within this time, for example 48h' },
  { name: 'reserved-space', kind: 'text', value: 'SIZE', doc: 'keep at least this much' },
  { name: 'max-used-space', kind: 'text', value: 'SIZE', doc: 'remove until at most this much is used' },
  { name: 'min-free-space', kind: 'text', value: 'SIZE', doc: 'remove until this much of the disk is free' },
  { name: 'json', kind: 'switch', doc: 'print JSON' },
  { name: 'help', short: 'h', kind: 'switch', doc: 'show this text' },
] as const;

export async function run(argv: readonly string[]): Promise<number> {
  const args = parseArguments(argv, FLAGS);
  const [act] = args.operands;
  if (isOn(args, 'help') || act === undefined) {
    console.log(
      `Usage: cooper gc plan|run [flags]\n\nWithout flags that select, the policies of the daemon count.\n\n${formatFlags(FLAGS)}`,
    );
    return act === undefined && !isOn(args, 'help') ? 2 : 0;
  }
  if (act !== 'plan' && act !== 'run') throw new BuildError('invalid-input', 'usage: cooper gc plan|run');
  const selection = selectionOf(args);
  await using client = await openClient(args);
  if (act === 'plan') {
    const plan = await client.unary(Gc.method.plan, selection);
    console.log(isOn(args, 'json') ? JSON.stringify(planJson(plan), null, 2) : formatPlan(plan));
    return 0;
  }
  const removed: Removal[] = [];
  for await (const removal of client.serverStream(Gc.method.run, selection)) removed.push(removal);
  if (isOn(args, 'json'))
    console.log(JSON.stringify({ removals: removed.map(removalJson), freedBytes: sumOf(removed) }, null, 2));
  else
    console.log(
      `${removed.length === 0 ? '' : `${tableOf(removed)}\n`}Removed: ${removed.length}, ${formatBytes(sumOf(removed))}`,
    );
  return 0;
}

/** @throws BuildError `invalid-input` for flags that do not go together. */
function selectionOf(args: Arguments): MessageInitShape<typeof SelectionSchema> {
  const bytes = (flag: string): bigint | undefined => {
    const text = textOf(args, flag);
    if (text === undefined) return undefined;
    const space = parseDiskSpace(text);
    if (space.kind !== 'bytes') throw new BuildError('invalid-input', `--${flag}: give bytes or "10GB", not a share of the disk`);
    return BigInt(space.bytes);
  };
  const duration = textOf(args, 'keep-duration');
  const filter = [...textsOf(args, 'filter')];
  const bounds = [bytes('reserved-space'), bytes('max-used-space'), bytes('min-free-space')] as const;
  const own = isOn(args, 'all') || duration !== undefined || filter.length > 0 || bounds.some((bound) => bound !== undefined);
  const policy = textOf(args, 'policy');
  if (policy !== undefined && own) throw new BuildError('invalid-input', '--policy does not go with rules of your own');
  if (policy !== undefined) return { policy: numberOf(policy) };
  if (!own) return {};
  const [reservedBytes = 0n, maxUsedBytes = 0n, minFreeBytes = 0n] = bounds;
  const keepDurationNs = duration === undefined ? 0n : parseDuration(duration);
  return { rules: { filter, all: isOn(args, 'all'), keepDurationNs, reservedBytes, maxUsedBytes, minFreeBytes } };
}

function numberOf(text: string): number {
  const number = Number(text);
  if (Number.isInteger(number) && number >= 1 && number <= 1000) return number;
  throw new BuildError('invalid-input', `--policy: "${text}" is not the number of a policy`);
}

/** Removals in order, then what stays and why. */
export function formatPlan(plan: PlanResponse): string {
  const lines = plan.removals.length === 0 ? ['Nothing would be removed.'] : [tableOf(plan.removals)];
  const freed = `${plan.removals.length} of ${plan.records} records, ${formatBytes(Number(plan.freesBytes))} of ${formatBytes(Number(plan.usedBytes))}`;
  lines.push('', `Would remove:  ${freed}`);
  for (const { reason, records, sizeBytes } of plan.kept)
    lines.push(`Stays:         ${records} records, ${formatBytes(Number(sizeBytes))}: ${reason}`);
  lines.push(
    `Disk:          ${formatBytes(Number(plan.diskFreeBytes))} of ${formatBytes(Number(plan.diskSizeBytes))} free, ${
      plan.daysToFull === undefined ? 'not filling' : `full in ${plan.daysToFull.toFixed(1)} days at the present pace`
    }`,
  );
  return lines.join('\n');
}

const tableOf = (removals: readonly Removal[]): string =>
  formatTable(
    ['ID', 'SIZE', 'TYPE', 'LAST USED', 'USES', 'WHY', 'DESCRIPTION'],
    removals.map((one) => [
      one.id,
      formatBytes(Number(one.sizeBytes)),
      one.recordType,
      rfc3339(one.lastUsedAtNs || one.createdAtNs).slice(0, 19),
      String(one.usageCount),
      `${one.policy}: ${one.rule}`,
      one.description.slice(0, 60),
    ]),
  );
const sumOf = (removals: readonly Removal[]): number => removals.reduce((sum, { sizeBytes }) => sum + Number(sizeBytes), 0);

const removalJson = (one: Removal): object => ({
  id: one.id,
  sizeBytes: Number(one.sizeBytes),
  recordType: one.recordType,
  description: one.description,
  policy: one.policy,
  rule: one.rule,
  createdAt: rfc3339(one.createdAtNs),
  ...(one.lastUsedAtNs === 0n ? {} : { lastUsedAt: rfc3339(one.lastUsedAtNs) }),
  uses: Number(one.usageCount),
});

const planJson = (plan: PlanResponse): object => ({
  removals: plan.removals.map(removalJson),
  freesBytes: Number(plan.freesBytes),
  usedBytes: Number(plan.usedBytes),
  records: Number(plan.records),
  kept: plan.kept.map(({ reason, records, sizeBytes }) => ({ reason, records: Number(records), sizeBytes: Number(sizeBytes) })),
  disk: { freeBytes: Number(plan.diskFreeBytes), sizeBytes: Number(plan.diskSizeBytes) },
  ...(plan.daysToFull === undefined ? {} : { daysToFull: plan.daysToFull }),
});
