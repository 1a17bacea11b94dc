/** `cooper slo adjust` and `cooper slo maintenance`: stretches of time set aside, with an author and a reason, through the ops API. */
import { userInfo } from 'node:os';
import { BuildError } from '../../../core/errors.ts';
import { type Arguments, isOn, textOf, textsOf } from '../../args.ts';
import { getOps, postOps, TOKEN_FLAGS } from '../endpoint.ts';
import { formatTable } from '../table.ts';
import { lengthOf, rfc3339, timeOf } from './times.ts';

export const ADJUST_FLAGS = [
  { name: 'slo', kind: 'texts', value: 'NAME', doc: 'the objective (repeatable); `all` for every one' },
  { name: 'from', kind: 'text', value: 'TIME', doc: 'beginning: 2026-01-31T12:00:00Z, `now`, or 2h for that long ago' },
  { name: 'to', kind: 'text', value: 'TIME', doc: 'end' },
  { name: 'for', kind: 'text', value: 'DURATION', doc: 'length, in place of --to' },
  { name: 'forgive', kind: 'text', value: 'N', doc: 'count up to N bad events as good, in place of leaving the stretch out' },
  { name: 'reason', kind: 'text', value: 'TEXT', doc: 'why; it is shown with every figure' },
  { name: 'author', kind: 'text', value: 'NAME', doc: 'who is responsible (the user of this command)' },
  ...TOKEN_FLAGS,
] as const;

interface Shown {
  readonly id: string;
  readonly slos: readonly string[];
  readonly from: string;
  readonly to: string;
  readonly kind: string;
  readonly effect: { readonly kind: string; readonly bad?: number };
  readonly author: string;
  readonly reason: string;
  readonly removed?: { readonly at: string; readonly author: string; readonly reason: string };
}

/** `add`, `list` and `remove ID`. Corrections may forgive; maintenance leaves the stretch out. */
export async function adjust(args: Arguments, kind: 'correction' | 'maintenance'): Promise<number> {
  const [act, id] = args.operands;
  switch (act) {
    case 'list':
      return await list(args, kind);
    case 'add':
      return await add(args, kind);
    case 'remove': {
      if (id === undefined) throw new BuildError('invalid-input', 'which one? cooper slo adjust list shows the ids');
      const removed = await postOps<Shown>(args, `/api/v1/slo-adjustments/${encodeURIComponent(id)}/remove`, {
        author: authorOf(args),
        reason: needed(args, 'reason'),
      });
      print(args, [removed]);
      return 0;
    }
    default:
      throw new BuildError('invalid-input', `usage: cooper slo ${kind === 'correction' ? 'adjust' : kind} add|list|remove`);
  }
}

async function add(args: Arguments, kind: 'correction' | 'maintenance'): Promise<number> {
  const slos = textsOf(args, 'slo');
  if (slos.length === 0) throw new BuildError('invalid-input', '--slo is needed: the name of an objective, or all');
  const fromS = timeOf('from', needed(args, 'from'));
  const [to, length] = [textOf(args, 'to'), textOf(args, 'for')];
  if ((to === undefined) === (length === undefined)) throw new BuildError('invalid-input', 'give --to or --for');
  const toS = to === undefined ? fromS + lengthOf('for', length ?? '') : timeOf('to', to);
  const forgive = textOf(args, 'forgive');
  if (forgive !== undefined && kind === 'maintenance')
    throw new BuildError('invalid-input', 'maintenance leaves the stretch out; to forgive events use: cooper slo adjust');
  if (forgive !== undefined && !/^[1-9]\d{0,8}$/.test(forgive))
    throw new BuildError('invalid-input', `--forgive ${forgive}: expected a number from 1`);
  const body = {
    ...{ from: rfc3339(fromS), to: rfc3339(toS), kind },
    ...(forgive !== undefined && { forgive: Number(forgive) }),
    ...{ author: authorOf(args), reason: needed(args, 'reason') },
  };
  const added: Shown[] = [];
  for (const slo of slos) added.push(await postOps<Shown>(args, `/api/v1/slo-adjustments/${encodeURIComponent(slo)}`, body));
  print(args, added);
  return 0;
}

async function list(args: Arguments, kind: string): Promise<number> {
  const { adjustments } = await getOps<{ readonly adjustments: readonly Shown[] }>(args, '/api/v1/slo-adjustments');
  print(args, kind === 'maintenance' ? adjustments.filter((one) => one.kind === kind) : adjustments);
  return 0;
}

function print(args: Arguments, shown: readonly Shown[]): void {
  if (isOn(args, 'json')) return console.log(JSON.stringify(shown, null, 2));
  const rows = shown.map(({ id, slos, from, to, kind, effect, author, reason, removed }) => [
    ...[id, slos.join(', '), from, to, effect.kind === 'forgive' ? `${kind}, ${effect.bad} forgiven` : kind, author],
    removed === undefined ? reason : `${reason} (removed ${removed.at} by ${removed.author}: ${removed.reason})`,
  ]);
  console.log(formatTable(['ID', 'OBJECTIVES', 'FROM', 'TO', 'WHAT', 'AUTHOR', 'REASON'], rows));
}

const authorOf = (args: Arguments): string => textOf(args, 'author') ?? userInfo().username;

function needed(args: Arguments, flag: string): string {
  const text = textOf(args, flag);
  if (text === undefined || text.trim() === '') throw new BuildError('invalid-input', `--${flag} is needed`);
  return text;
}
