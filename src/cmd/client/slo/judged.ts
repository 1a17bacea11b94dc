/** `cooper slo gate`, `report` and `backtest`: what the recorded counts say. */
import { BuildError } from '../../../core/errors.ts';
import { type Backtest, backtest as judgeRange } from '../../../slo/backtest.ts';
import { gateOf } from '../../../slo/gate.ts';
import { SIGNIFICANT_SHARE } from '../../../slo/incidents.ts';
import { type Evidence, keptSecondsOf } from '../../../slo/judge.ts';
import { OBJECTIVES } from '../../../slo/objectives.ts';
import { type FailedBuild, periodReport } from '../../../slo/period-report.ts';
import { type SloRecords, slotsOf } from '../../../slo/records.ts';
import type { SloReport } from '../../../slo/report.ts';
import { backtestMarkdown, reportHtml, reportMarkdown } from '../../../slo/report-text.ts';
import { CHANGES, type Change, type Objective } from '../../../slo/spec.ts';
import { type Arguments, isOn, textOf, textsOf } from '../../args.ts';
import { specFilesOf, specsOf } from '../../slo-files.ts';
import { getOps } from '../endpoint.ts';
import { countsOfPrometheus } from './prometheus-source.ts';
import { timeOf } from './times.ts';

const SLO_FLAG = { name: 'slo', kind: 'texts', value: 'NAME', doc: 'only these objectives (repeatable)' } as const;
export const GATE_FLAGS = [
  { name: 'for', kind: 'text', value: 'CHANGE', doc: `what is to be done: ${CHANGES.join(', ')}` },
  { name: 'allow-unknown', kind: 'switch', doc: 'do not refuse because an objective could not be read' },
  SLO_FLAG,
] as const;
export const REPORT_FLAGS = [
  { name: 'from', kind: 'text', value: 'TIME', doc: 'beginning: 2026-01-31, or 7d for that long ago (where each budget begins)' },
  { name: 'to', kind: 'text', value: 'TIME', doc: 'end (now)' },
  { name: 'format', kind: 'text', value: 'FORMAT', doc: 'md, html or json (md)' },
  SLO_FLAG,
] as const;
export const BACKTEST_FLAGS = [
  { name: 'prometheus', kind: 'text', value: 'URL', doc: 'read counts from this Prometheus in place of the daemon' },
  { name: 'job', kind: 'text', value: 'JOB', doc: 'job label the daemons are scraped under (cooper)' },
  { name: 'from', kind: 'text', value: 'TIME', doc: 'beginning: 2026-01-31, or 7d for that long ago (7d)' },
  { name: 'to', kind: 'text', value: 'TIME', doc: 'end (now)' },
  {
    name: 'significant',
    kind: 'text',
    value: 'PERCENT',
    doc: `budget that bad events must spend to be an incident (${SIGNIFICANT_SHARE * 100})`,
  },
  SLO_FLAG,
] as const;

/** Exit status 0: the change may be made; 1: the policy refuses it. A daemon that does not answer is an error (8), not a yes. */
export async function gate(args: Arguments): Promise<number> {
  const change = textOf(args, 'for') ?? 'release';
  if (!CHANGES.some((one) => one === change))
    throw new BuildError('invalid-input', `--for ${change}: expected one of ${CHANGES.join(', ')}`);
  const report = await getOps<SloReport>(args, '/slo');
  const objectives = chosen(report.objectives, args);
  const verdict = gateOf({ ...report, objectives }, change as Change, { allowUnknown: isOn(args, 'allow-unknown') });
  if (isOn(args, 'json')) console.log(JSON.stringify(verdict, null, 2));
  else {
    console.log(
      verdict.allowed ? `${change}: allowed by the error budget policy` : `${change}: refused by the error budget policy`,
    );
    for (const reason of verdict.reasons) console.log(`  ${reason}`);
  }
  return verdict.allowed ? 0 : 1;
}

export async function report(args: Arguments): Promise<number> {
  const format = isOn(args, 'json') ? 'json' : (textOf(args, 'format') ?? 'md');
  if (!['md', 'html', 'json'].includes(format))
    throw new BuildError('invalid-input', `--format ${format}: expected md, html or json`);
  const toS = timeOf('to', textOf(args, 'to') ?? 'now');
  const from = textOf(args, 'from');
  const fromS = from === undefined ? undefined : timeOf('from', from);
  if (fromS !== undefined && fromS >= toS) throw new BuildError('invalid-input', '--from is not before --to');
  const records = await getOps<SloRecords>(args, '/api/v1/slo-records');
  const range = { toS, ...(fromS !== undefined && { fromS }) };
  const made = periodReport(records.objectives, evidenceOf(records), range, await failedBuilds(args));
  const shown = { ...made, objectives: chosen(made.objectives, args) };
  console.log(format === 'json' ? JSON.stringify(shown, null, 2) : format === 'html' ? reportHtml(shown) : reportMarkdown(shown));
  return 0;
}

/** Counts of the daemon, or of a Prometheus with the shipped objectives or those of files. */
export async function backtest(args: Arguments): Promise<number> {
  const toS = timeOf('to', textOf(args, 'to') ?? 'now');
  const fromS = Math.floor(timeOf('from', textOf(args, 'from') ?? '7d') / 30) * 30;
  if (fromS >= toS) throw new BuildError('invalid-input', '--from is not before --to');
  const significantShare = Number(textOf(args, 'significant') ?? SIGNIFICANT_SHARE * 100) / 100;
  if (!(significantShare > 0)) throw new BuildError('invalid-input', '--significant: expected a percentage above 0');
  const { objectives, evidence } = await materialOf(args, fromS, toS);
  const stepS = toS - fromS > 8 * 86_400 ? 120 : 60;
  const results = chosen(objectives, args)
    .filter(({ indicator }) => indicator.kind !== 'worst-of')
    .map((objective): Backtest => judgeRange(objective, objectives, evidence, { fromS, toS, stepS, significantShare }));
  console.log(isOn(args, 'json') ? JSON.stringify({ fromS, toS, results }, null, 2) : backtestMarkdown(results));
  return 0;
}

interface Material {
  readonly objectives: readonly Objective[];
  readonly evidence: Pick<Evidence, 'slots' | 'adjustments'>;
}

/** Counts begin one period before the range, so that the first windows are whole. */
async function materialOf(args: Arguments, fromS: number, toS: number): Promise<Material> {
  const prometheus = textOf(args, 'prometheus');
  if (prometheus === undefined && args.operands.length > 0)
    throw new BuildError('invalid-input', 'files go with --prometheus: the daemon counts its own objectives only');
  if (prometheus === undefined) {
    const records = await getOps<SloRecords>(args, '/api/v1/slo-records');
    return { objectives: records.objectives, evidence: evidenceOf(records) };
  }
  const files = specFilesOf(args.operands);
  const objectives = args.operands.length === 0 ? OBJECTIVES : specsOf(files, { anyMetrics: true }).objectives;
  if (objectives.length === 0)
    throw new BuildError('invalid-input', 'the files have no sound objective', { hint: 'cooper slo lint says why' });
  const beginS = fromS - Math.max(...objectives.map(keptSecondsOf));
  const job = textOf(args, 'job') ?? 'cooper';
  return { objectives, evidence: { slots: await countsOfPrometheus(prometheus, job, objectives, beginS, toS), adjustments: [] } };
}

const evidenceOf = (records: SloRecords): Material['evidence'] => ({
  slots: slotsOf(records),
  adjustments: records.adjustments.filter(({ removed }) => removed === undefined),
});

/** @throws BuildError `not-found` for a name that is no objective. */
function chosen<T extends { readonly name: string }>(all: readonly T[], args: Arguments): readonly T[] {
  const names = textsOf(args, 'slo');
  for (const name of names) {
    if (!all.some((one) => one.name === name))
      throw new BuildError('not-found', `there is no objective ${name}`, { hint: all.map((one) => one.name).join(', ') });
  }
  return names.length === 0 ? all : all.filter(({ name }) => names.includes(name));
}

interface BuildAnswer {
  readonly builds: readonly {
    readonly ref: string;
    readonly name: string;
    readonly state: string;
    readonly endedAt?: string;
    readonly error?: string;
  }[];
}

/** Builds of the daemon's history that burnt a budget. */
async function failedBuilds(args: Arguments): Promise<FailedBuild[]> {
  const states = ['error', 'timeout'];
  const answers = await Promise.all(states.map((state) => getOps<BuildAnswer>(args, `/api/v1/builds?limit=500&state=${state}`)));
  return answers.flatMap(({ builds }) =>
    builds.flatMap(({ ref, name, state, endedAt, error }) =>
      endedAt === undefined
        ? []
        : [{ ref, name, state, endedS: Date.parse(endedAt) / 1000, ...(error !== undefined && { error }) }],
    ),
  );
}
