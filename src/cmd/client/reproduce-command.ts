/** `cooper reproduce REF`: makes the image of a finished build again and tells in what it came out different. */
import type { Difference } from '../../builder/reproduce/image-diff.ts';
import type { ReproducibilityVerdict } from '../../builder/reproduce/reproducer.ts';
import { BuildError } from '../../core/errors.ts';
import { formatFlags, isOn, parseArguments } from '../args.ts';
import { REPRODUCE_METHOD } from '../reproduce-method.ts';
import { ENDPOINT_FLAGS, openClient } from './endpoint.ts';
import { formatTable } from './table.ts';

const FLAGS = [
  ...ENDPOINT_FLAGS,
  { name: 'json', kind: 'switch', doc: 'print the verdict as JSON' },
  { name: 'help', short: 'h', kind: 'switch', doc: 'show this text' },
] as const;
const EXIT = { same: 0, different: 1, skipped: 3, error: 4 } as const;
const USAGE = `Usage: cooper reproduce REF [flags]

Runs every step of a finished build again, on the same sources, and compares the images.
Exit status: 0 same, 1 different, 3 it cannot be repeated (the reason is printed), 4 repeating it failed.
`;

export async function run(argv: readonly string[]): Promise<number> {
  const args = parseArguments(argv, FLAGS);
  if (isOn(args, 'help')) {
    console.log(`${USAGE}\n${formatFlags(FLAGS)}`);
    return 0;
  }
  const [ref, ...more] = args.operands;
  if (ref === undefined || more.length > 0)
    throw new BuildError('invalid-input', 'usage: cooper reproduce REF', { hint: 'cooper builds lists the refs' });
  await using client = await openClient(args);
  const answer = await client.unaryBytes(REPRODUCE_METHOD, new TextEncoder().encode(JSON.stringify({ ref })));
  const verdict = JSON.parse(new TextDecoder().decode(answer)) as ReproducibilityVerdict;
  console.log(isOn(args, 'json') ? JSON.stringify(verdict, null, 2) : formatVerdict(verdict));
  return EXIT[verdict.result];
}

export function formatVerdict({ result, reason, was, now, differences = [], more = 0, seconds }: ReproducibilityVerdict): string {
  const took = `(${seconds.toFixed(1)} s)`;
  switch (result) {
    case 'same':
      return `same: ${was} ${took}`;
    case 'skipped':
      return `cannot be repeated: ${reason}`;
    case 'error':
      return `repeating it failed: ${reason}`;
    case 'different': {
      const table = formatTable(['WHERE', 'PATH', 'WHAT', 'WAS', 'NOW'], differences.map(rowOf));
      return `different ${took}\n  was ${was}\n  now ${now}\n\n${table}${more > 0 ? `\nand ${more} more` : ''}`;
    }
  }
}

function rowOf({ platform, where, layer, path, what, was = '', now = '' }: Difference): string[] {
  const place = layer === undefined ? where : `layer ${layer}`;
  return [platform === undefined ? place : `${platform} ${place}`, path, what.join(','), was, now];
}
