/** `cooper slo …`: objectives as the daemon judges them, their files, reports, backtests, the gate of a pipeline, adjustments. */
import { BuildError } from '../../core/errors.ts';
import { nearest } from '../../core/nearest.ts';
import { formatSloTable, type SloReport } from '../../slo/report.ts';
import { type Arguments, type FlagSpec, formatFlags, isOn, parseArguments } from '../args.ts';
import { ENDPOINT_FLAGS, getOps } from './endpoint.ts';
import { ADJUST_FLAGS, adjust } from './slo/adjust.ts';
import { CONVERT_FLAGS, convert, FILE_FLAGS, LINT_FLAGS, lint, RULES_FLAGS, rules } from './slo/files.ts';
import { BACKTEST_FLAGS, backtest, GATE_FLAGS, gate, REPORT_FLAGS, report } from './slo/judged.ts';

interface Subcommand {
  readonly usage: string;
  readonly summary: string;
  readonly flags: readonly FlagSpec[];
  readonly run: (args: Arguments) => number | Promise<number>;
}

const COMMON: readonly FlagSpec[] = [
  { name: 'json', kind: 'switch', doc: 'print JSON' },
  { name: 'help', short: 'h', kind: 'switch', doc: 'show this text' },
];

const SUBCOMMANDS: Readonly<Record<string, Subcommand>> = {
  status: {
    usage: 'status',
    summary: 'the objectives as the daemon judges them now',
    flags: ENDPOINT_FLAGS,
    run: status,
  },
  gate: {
    usage: 'gate --for CHANGE',
    summary: 'may a change be made, by the error budget policy? exit status 0: yes, 1: no',
    flags: [...GATE_FLAGS, ...ENDPOINT_FLAGS],
    run: gate,
  },
  report: {
    usage: 'report',
    summary: 'what was achieved over a range of time, what spent the budget, incidents, adjustments',
    flags: [...REPORT_FLAGS, ...ENDPOINT_FLAGS],
    run: report,
  },
  backtest: {
    usage: 'backtest [FILE…]',
    summary: 'which alerts would have fired over recorded counts, how soon, and which for nothing',
    flags: [...BACKTEST_FLAGS, ...ENDPOINT_FLAGS],
    run: backtest,
  },
  adjust: {
    usage: 'adjust add|list|remove [ID]',
    summary: 'correct a budget: leave a stretch of time out, or forgive bad events',
    flags: [...ADJUST_FLAGS, ...ENDPOINT_FLAGS],
    run: (args) => adjust(args, 'correction'),
  },
  maintenance: {
    usage: 'maintenance add|list|remove [ID]',
    summary: 'planned work: its events do not count',
    flags: [...ADJUST_FLAGS, ...ENDPOINT_FLAGS],
    run: (args) => adjust(args, 'maintenance'),
  },
  lint: {
    usage: 'lint [FILE…]',
    summary: 'everything wrong with files of objectives; exit status 1 when there are errors',
    flags: [...LINT_FLAGS, ...FILE_FLAGS],
    run: lint,
  },
  rules: {
    usage: 'rules [FILE…]',
    summary: 'Prometheus rules of the objectives in files, and promtool tests of them',
    flags: [...RULES_FLAGS, ...FILE_FLAGS],
    run: rules,
  },
  convert: {
    usage: 'convert [FILE…]',
    summary: 'the objectives of files in another format',
    flags: [...CONVERT_FLAGS, ...FILE_FLAGS],
    run: convert,
  },
};

export async function run(argv: readonly string[]): Promise<number> {
  const [name = '', ...rest] = argv;
  const subcommand = SUBCOMMANDS[name];
  if (subcommand === undefined) {
    if (name === '' || name === '--help' || name === '-h' || name === 'help') {
      console.log(usage());
      return name === '' ? 2 : 0;
    }
    const near = nearest(name, Object.keys(SUBCOMMANDS));
    const hint = near === undefined ? 'cooper slo --help lists them' : `did you mean "${near}"?`;
    throw new BuildError('invalid-input', `unknown command "slo ${name}"`, { hint });
  }
  const flags = [...subcommand.flags, ...COMMON];
  const args = parseArguments(rest, flags);
  if (isOn(args, 'help')) {
    console.log(`Usage: cooper slo ${subcommand.usage} [flags]\n\n${subcommand.summary}\n\n${formatFlags(flags)}`);
    return 0;
  }
  return await subcommand.run(args);
}

function usage(): string {
  const lines = Object.values(SUBCOMMANDS).map(({ usage: how, summary }) => `  ${how.padEnd(36)}${summary}`);
  return `Usage: cooper slo COMMAND [flags]\n\n${lines.join('\n')}\n\ncooper slo COMMAND --help tells the flags.`;
}

async function status(args: Arguments): Promise<number> {
  if (args.operands.length > 0) throw new BuildError('invalid-input', 'usage: cooper slo status');
  const report = await getOps<SloReport>(args, '/slo');
  console.log(isOn(args, 'json') ? JSON.stringify(report, null, 2) : formatSloTable(report));
  return 0;
}
