/** `cooper trace REF`: what a build spent its time on. */
import { BuildError } from '../../core/errors.ts';
import { formatFlags, isOn, parseArguments } from '../args.ts';
import { ENDPOINT_FLAGS, getOps } from './endpoint.ts';
import { formatWaterfall, type WaterfallSpan } from './waterfall.ts';

const FLAGS = [
  ...ENDPOINT_FLAGS,
  { name: 'phases', kind: 'switch', doc: 'also show the phases inside steps' },
  { name: 'json', kind: 'switch', doc: 'print the spans as JSON' },
  { name: 'help', short: 'h', kind: 'switch', doc: 'show this text' },
] as const;

export async function run(argv: readonly string[]): Promise<number> {
  const args = parseArguments(argv, FLAGS);
  if (isOn(args, 'help')) {
    console.log(`Usage: cooper trace REF [flags]\n\n${formatFlags(FLAGS)}`);
    return 0;
  }
  const [ref] = args.operands;
  if (ref === undefined)
    throw new BuildError('invalid-input', 'usage: cooper trace REF', { hint: 'cooper builds lists the refs' });
  const { spans } = await getOps<{ readonly spans: readonly WaterfallSpan[] }>(
    args,
    `/api/v1/builds/${encodeURIComponent(ref)}/trace`,
  );
  console.log(
    isOn(args, 'json')
      ? JSON.stringify(spans, null, 2)
      : formatWaterfall(spans, { width: process.stdout.columns ?? 110, phases: isOn(args, 'phases') }),
  );
  return 0;
}
