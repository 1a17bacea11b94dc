/** `cooper slo lint`, `rules` and `convert`: what works on files of objectives, without a daemon. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError } from '../../../core/errors.ts';
import { findingText, hasErrors } from '../../../slo/format/finding.ts';
import { writeOpenSlo } from '../../../slo/format/openslo-write.ts';
import { writeOwn } from '../../../slo/format/own.ts';
import { mergedWith, type Specs } from '../../../slo/format/read.ts';
import { OBJECTIVES } from '../../../slo/objectives.ts';
import { ruleTestFile } from '../../../slo/rule-tests.ts';
import { type RuleGroup, sloRuleGroups } from '../../../slo/rules.ts';
import { slothGroups } from '../../../slo/sloth-names.ts';
import type { Objective } from '../../../slo/spec.ts';
import { toYaml, type YamlValue } from '../../../slo/yaml.ts';
import { type Arguments, isOn, textOf } from '../../args.ts';
import { parseDuration } from '../../config/units.ts';
import { specFilesOf, specsOf } from '../../slo-files.ts';

export const FILE_FLAGS = [
  { name: 'any-metrics', kind: 'switch', doc: 'do not check names of metrics and labels against those of this daemon' },
  { name: 'retention', kind: 'text', value: 'DURATION', doc: 'how long counts are kept: longer windows are errors' },
] as const;
export const LINT_FLAGS = [{ name: 'strict', kind: 'switch', doc: 'warnings fail as well' }] as const;
export const RULES_FLAGS = [
  { name: 'job', kind: 'text', value: 'JOB', doc: 'job label the daemons are scraped under (cooper)' },
  { name: 'out', kind: 'text', value: 'DIR', doc: 'write slo-rules.yaml and slo-rules.test.yaml there' },
  { name: 'tests', kind: 'switch', doc: 'print the promtool tests in place of the rules' },
  { name: 'all', kind: 'switch', doc: 'the shipped objectives as well, as the daemon has them with this file' },
  { name: 'runbook-url', kind: 'text', value: 'URL', doc: 'link in every alert; {alert} and {slo} are filled in' },
  { name: 'dashboard-url', kind: 'text', value: 'URL', doc: 'link in every alert; {alert} and {slo} are filled in' },
  { name: 'sloth-names', kind: 'switch', doc: 'record under the names of Sloth as well, for its dashboards' },
] as const;
export const CONVERT_FLAGS = [{ name: 'to', kind: 'text', value: 'FORMAT', doc: 'openslo or cooper (openslo)' }] as const;

/** Exit status 0: sound; 1: an error, or a warning with --strict. Without a file the shipped objectives are looked at. */
export function lint(args: Arguments): number {
  const { objectives, findings } = read(args);
  if (isOn(args, 'json')) {
    console.log(JSON.stringify({ objectives: objectives.map(({ name }) => name), findings }, null, 2));
  } else {
    for (const finding of findings) console.log(findingText(finding));
    const errors = findings.filter(({ level }) => level === 'error').length;
    console.log(`${objectives.length} objectives are sound, ${errors} errors, ${findings.length - errors} warnings`);
  }
  return hasErrors(findings) || (isOn(args, 'strict') && findings.length > 0) ? 1 : 0;
}

export function rules(args: Arguments): number {
  const own = sound(args);
  const all = isOn(args, 'all') ? mergedWith(OBJECTIVES, own) : own;
  for (const { name } of isOn(args, 'all') || args.operands.length === 0 ? [] : own) {
    if (OBJECTIVES.some((shipped) => shipped.name === name))
      console.error(`cooper: ${name} replaces a shipped objective: use --all, and these rules in place of alerts/rules.yaml`);
  }
  const job = textOf(args, 'job') ?? 'cooper';
  if (!/^[\w./:-]+$/.test(job)) throw new BuildError('invalid-input', `--job ${job} is not the name of a job`);
  const groups = groupsOf(all, job, args);
  const rulesText = toYaml({ groups: groups as unknown as YamlValue });
  const tests = toYaml(ruleTestFile(all, { job, rulesFile: RULES_FILE, groups: groups.map(({ name }) => name) }));
  const out = textOf(args, 'out');
  if (out === undefined) {
    console.log((isOn(args, 'tests') ? tests : rulesText).trimEnd());
    return 0;
  }
  mkdirSync(out, { recursive: true });
  for (const [name, text] of [[RULES_FILE, rulesText] as const, ['slo-rules.test.yaml', tests] as const]) {
    writeFileSync(join(out, name), text);
    console.log(`wrote ${join(out, name)}`);
  }
  return 0;
}
const RULES_FILE = 'slo-rules.yaml';

function groupsOf(objectives: readonly Objective[], job: string, args: Arguments): RuleGroup[] {
  const slos = new Map(objectives.map(({ alertName, name }) => [alertName, name]));
  const link = (flag: string, alert: string): string | undefined =>
    textOf(args, flag)
      ?.replaceAll('{alert}', alert)
      .replaceAll('{slo}', slos.get(alert) ?? '');
  const links = (alert: string): Record<string, string> => {
    const [runbook, dashboard] = [link('runbook-url', alert), link('dashboard-url', alert)];
    return {
      ...(runbook !== undefined && { runbook_url: runbook }),
      ...(dashboard !== undefined && { dashboard_url: dashboard }),
    };
  };
  return [...sloRuleGroups(objectives, { job, links }), ...(isOn(args, 'sloth-names') ? slothGroups(objectives) : [])];
}

/** Prints the objectives of the files, or the shipped ones, in another format. */
export function convert(args: Arguments): number {
  const to = textOf(args, 'to') ?? 'openslo';
  if (to !== 'openslo' && to !== 'cooper') throw new BuildError('invalid-input', `--to ${to}: expected openslo or cooper`);
  const objectives = sound(args);
  console.log((to === 'openslo' ? writeOpenSlo(objectives) : writeOwn(objectives)).trimEnd());
  return 0;
}

function read(args: Arguments): Specs {
  const retention = textOf(args, 'retention');
  const options = {
    anyMetrics: isOn(args, 'any-metrics'),
    ...(retention !== undefined && { retentionSeconds: Number(parseDuration(retention) / 1_000_000_000n) }),
  };
  const files = args.operands.length > 0 ? specFilesOf(args.operands) : [{ file: 'shipped', text: writeOwn(OBJECTIVES) }];
  return specsOf(files, options);
}

/** @throws BuildError `invalid-input` when a file has errors; they are on standard error by then. */
function sound(args: Arguments): readonly Objective[] {
  const { objectives, findings } = read(args);
  for (const finding of findings) console.error(findingText(finding));
  if (hasErrors(findings))
    throw new BuildError('invalid-input', 'the objectives have errors', { hint: 'cooper slo lint says them all' });
  return objectives;
}
