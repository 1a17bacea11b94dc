/** `cooper slo status`: the objectives as the daemon judges them now. */
import { BuildError } from '../../core/errors.ts';
import { formatSloTable, type SloReport } from '../../slo/report.ts';
import { formatFlags, isOn, parseArguments } from '../args.ts';
import { ENDPOINT_FLAGS, getOps } from './endpoint.ts';

const FLAGS = [
  ...ENDPOINT_FLAGS,
  { name: 'json', kind: 'switch', doc: 'print the report as JSON' },
  { name: 'help', short: 'h', kind: 'switch', doc: 'show this text' },
] as const;

export async function run(argv: readonly string[]): Promise<number> {
  const args = parseArguments(argv, FLAGS);
  if (isOn(args, 'help')) {
    console.log(`Usage: cooper slo status [flags]\n\n${formatFlags(FLAGS)}`);
    return 0;
  }
  if (args.operands[0] !== 'status') throw new BuildError('invalid-input', 'usage: cooper slo status');
  const report = await getOps<SloReport>(args, '/slo');
  console.log(isOn(args, 'json') ? JSON.stringify(report, null, 2) : formatSloTable(report));
  return 0;
}
