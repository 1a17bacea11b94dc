/** `cooper explain REF [STEP]`: why steps of a build were not served from cache. */
import type { Explanation } from '../../builder/explain/explanation.ts';
import { BuildError } from '../../core/errors.ts';
import { formatFlags, isOn, parseArguments, textOf } from '../args.ts';
import { ENDPOINT_FLAGS, getOps } from './endpoint.ts';
import { formatExplanation, formatStep, stepsNamed } from './explain-text.ts';

const FLAGS = [
  ...ENDPOINT_FLAGS,
  { name: 'against', kind: 'text', value: 'REF', doc: 'compare with this build; otherwise with the nearest earlier one' },
  { name: 'json', kind: 'switch', doc: 'print the answer as JSON' },
  { name: 'exit-code', kind: 'switch', doc: 'exit 1 when a step missed; for scripts' },
  { name: 'help', short: 'h', kind: 'switch', doc: 'show this text' },
] as const;

const USAGE = `Usage: cooper explain REF [STEP] [flags]

STEP is a part of a step's name, its number ("3/7") or the beginning of its digest. Without it the first causes are told, each with
the steps that follow from it. REF "latest" is the newest finished build.

Exit status: 0 answered, 1 a step missed and --exit-code was given, else as for every command (docs/errors.md).
`;

interface BuildList {
  readonly builds: readonly { readonly ref: string; readonly endedAt?: string }[];
}

export async function run(argv: readonly string[]): Promise<number> {
  const args = parseArguments(argv, FLAGS);
  if (isOn(args, 'help')) {
    console.log(`${USAGE}\n${formatFlags(FLAGS)}`);
    return 0;
  }
  const [wanted, ...step] = args.operands;
  if (wanted === undefined)
    throw new BuildError('invalid-input', 'usage: cooper explain REF [STEP]', { hint: 'cooper builds lists the refs' });
  const latest = wanted === 'latest' ? await getOps<BuildList>(args, '/api/v1/builds') : undefined;
  const ref = latest === undefined ? wanted : latest.builds.find(({ endedAt }) => endedAt !== undefined)?.ref;
  if (ref === undefined) throw new BuildError('not-found', 'no build has finished yet');
  const against = textOf(args, 'against');
  const query = against === undefined ? '' : `?against=${encodeURIComponent(against)}`;
  const explanation = await getOps<Explanation>(args, `/api/v1/builds/${encodeURIComponent(ref)}/explain${query}`);
  const missed = step.length === 0 ? explanation.totals.misses > 0 : tellSteps(explanation, step.join(' '), isOn(args, 'json'));
  if (step.length === 0) console.log(isOn(args, 'json') ? JSON.stringify(explanation, null, 2) : formatExplanation(explanation));
  return missed && isOn(args, 'exit-code') ? 1 : 0;
}

/** True when one of the steps missed. */
function tellSteps(explanation: Explanation, wanted: string, json: boolean): boolean {
  const steps = stepsNamed(explanation, wanted);
  if (steps.length === 0)
    throw new BuildError('not-found', `build ${explanation.ref} has no cacheable step "${wanted}"`, {
      hint: `cooper explain ${explanation.ref} --json lists them`,
    });
  console.log(json ? JSON.stringify(steps, null, 2) : steps.map((step) => formatStep(step, explanation)).join('\n\n'));
  return steps.some(({ outcome }) => outcome === 'miss');
}
