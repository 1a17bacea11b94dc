/** `cooper doctor`: what is wrong with this machine, this configuration or this daemon, and what to do about it. */
import { examine } from '../../operate/doctor/examine.ts';
import { formatDiagnosis } from '../../operate/doctor/finding.ts';
import { formatFlags, isOn, parseArguments } from '../args.ts';
import { DAEMON_FLAGS, doctorFacts } from './doctor-facts.ts';

const OWN_FLAGS = [
  { name: 'stopped', kind: 'switch', doc: 'the daemon is meant to be stopped: before a first start, or after a stop' },
  { name: 'offline', kind: 'switch', doc: 'ask no registry' },
  {
    name: 'deep',
    kind: 'switch',
    doc: 'compare every blob, record and key of the store, as cooper cache check does; takes minutes',
  },
  { name: 'strict', kind: 'switch', doc: 'exit 1 for warnings too' },
  { name: 'all', short: 'a', kind: 'switch', doc: 'show what is fine with its evidence, too' },
  { name: 'json', kind: 'switch', doc: 'print JSON' },
  { name: 'help', short: 'h', kind: 'switch', doc: 'show this text' },
] as const;
const WHERE = ['config', 'root', 'addr', 'ops-addr'];
const FLAGS = [...DAEMON_FLAGS, ...OWN_FLAGS];

/** Exit status: 0 no error found, 1 errors (with --strict warnings too). */
export async function run(argv: readonly string[]): Promise<number> {
  const args = parseArguments(argv, FLAGS);
  if (isOn(args, 'help')) {
    const shown = [...OWN_FLAGS, ...DAEMON_FLAGS.filter(({ name }) => WHERE.includes(name))];
    console.log(
      `Usage: cooper doctor [flags]\n\nLooks at the state folder, the machine and the daemon that runs on it, as that daemon was started. Changes nothing.\nEvery flag of cooper daemon may be given to say how it would be started. docs/doctor.md lists the checks.\n\n${formatFlags(shown)}`,
    );
    return 0;
  }
  const diagnosis = await examine(doctorFacts(args, process.env), isOn(args, 'strict'));
  console.log(isOn(args, 'json') ? JSON.stringify(diagnosis, null, 2) : formatDiagnosis(diagnosis, isOn(args, 'all')));
  return diagnosis.healthy ? 0 : 1;
}
