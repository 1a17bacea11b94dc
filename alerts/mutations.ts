/**
 * Rules that are wrong in one place each, and whether the rule tests notice. A rule that can be changed without any test failing is a
 * rule nobody tests. Runs promtool once for each mutant, against the rules of that objective or alert and its tests alone.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { OBJECTIVES } from '../src/slo/objectives.ts';
import type { RuleGroup } from '../src/slo/rules.ts';
import { toYaml, type YamlValue } from '../src/slo/yaml.ts';
import { objectiveTests, symptomTestsOf } from './rule-tests.ts';
import { ALERT_NAMES, RULE_GROUPS } from './rules.ts';

type Rule = RuleGroup['rules'][number];
/** The rules of one objective or one symptom alert, and their tests. */
interface Subject {
  readonly name: string;
  readonly groups: readonly RuleGroup[];
  readonly tests: readonly YamlValue[];
}
export interface Mutant {
  readonly subject: Subject;
  readonly rule: Rule;
  readonly what: string;
  readonly mutated: Rule;
}
export interface Verdict {
  readonly mutant: Mutant;
  readonly killed: boolean;
}

const ofSlo = (slo: string): Subject => ({
  name: slo,
  groups: RULE_GROUPS.map((group) => ({ ...group, rules: group.rules.filter(({ labels }) => labels?.slo === slo) })),
  tests: objectiveTests(slo),
});
const ofSymptom = (name: string): Subject => ({
  name,
  groups: RULE_GROUPS.map((group) => ({ ...group, rules: group.rules.filter((rule) => 'alert' in rule && rule.alert === name) })),
  tests: symptomTestsOf(name),
});

/** Objectives come from one generator: `slos` says whose rules are changed. */
export const subjects = (slos: readonly string[]): Subject[] => [
  ...slos.map(ofSlo),
  ...ALERT_NAMES.filter((name) => OBJECTIVES.every(({ alertName }) => alertName !== name)).map(ofSymptom),
];

export const mutantsOf = (subject: Subject): Mutant[] =>
  subject.groups.flatMap(({ rules }) =>
    rules.flatMap((rule) => changesOf(rule).map(([what, mutated]) => ({ subject, rule, what, mutated }))),
  );

type Change = readonly [what: string, mutated: Rule];
/** Kind, pattern, and what each match becomes; one mutant a match. */
const EDITS: readonly (readonly [kind: string, pattern: RegExp, becomes: (...match: string[]) => string])[] = [
  ['operator', / (>=|<=|==|>|<) (?!bool)/g, (_, op = '') => ` ${NEGATED[op]} `],
  ['operator', / (>=|<=) bool /g, (_, op = '') => ` ${NEGATED[op]} bool `],
  ['operator', /\b(and|unless)\b(?= |$)/gm, (_, op) => (op === 'and' ? 'unless' : 'and')],
  ['operator', / - (?=\(|cooper|[\d.])/g, () => ' + '],
  ['threshold', /(?<=(?:>=|<=|>|<) (?:bool )?)(\d[\d.]*)/g, (_, number) => String(Number(number) * 1.5 + 0.4)],
  ['threshold', /(?<=(?:>=|<=|>|<) (?:bool )?)(\d[\d.]*)/g, (_, number) => String(Number(number) * 0.5 - 0.2)],
  ['label', /(\w+)="([^"]+)"/g, (_, label) => `${label}="mutant"`],
  ['label', /=~"([^"|]+)\|[^"]+"/g, (_, first) => `=~"${first}"`],
  ['label', /=~"[^"|]+\|([^"]+)"/g, (_, rest) => `=~"${rest}"`],
  ['window', /\[(\d+)([mhd])(?=[\]:])/g, (_, count, unit) => `[${Number(count) * 4}${unit}`],
  [
    'window',
    /\[(\d+)([mhd])(?=[\]:])/g,
    (_, count, unit) => `[${Math.max(1, Math.floor(Number(count) / 4))}${unit === 'd' && count === '1' ? 'm' : unit}`,
  ],
  ['clause', /^(and|unless|or) [^\n(]*$|^(and|unless) on [^\n]*$/gm, () => ''],
  ['aggregation', /\b(sum|max|min|count)(?=( by \([^)]*\))? ?\()/g, (_, name) => (name === 'min' ? 'max' : 'min')],
];
const NEGATED: Readonly<Record<string, string>> = { '>': '<=', '<': '>=', '>=': '<', '<=': '>', '==': '!=' };

function changesOf(rule: Rule): Change[] {
  const edits = EDITS.flatMap(([kind, pattern, becomes]) =>
    [...rule.expr.matchAll(pattern)].map((match): Change => {
      const [text] = match;
      const changed = becomes(...match.map((part) => part ?? ''));
      const expr = rule.expr.slice(0, match.index) + changed + rule.expr.slice(match.index + text.length);
      return [`${kind}: ${text.trim()} -> ${changed.trim() || 'nothing'} at ${match.index}`, { ...rule, expr }];
    }),
  );
  const gone: Change = ['rule: gives nothing', { ...rule, expr: 'vector(1) < 0' }];
  const held: Change[] =
    'for' in rule && rule.for !== undefined
      ? [
          ['for: a tenth of a second', { ...rule, for: '100ms' }],
          ['for: a day', { ...rule, for: '1d' }],
        ]
      : [];
  const severity: Change[] = 'alert' in rule ? [['severity', { ...rule, labels: { ...rule.labels, severity: 'mutant' } }]] : [];
  return [gone, ...held, ...severity, ...edits].filter(([, mutated]) => JSON.stringify(mutated) !== JSON.stringify(rule));
}

/** Runs the tests of a subject against its rules with one of them changed; without a mutant, against the rules as they are. */
export async function testsPass(subject: Subject, mutant?: Mutant): Promise<boolean> {
  const groups = subject.groups
    .map((group) => ({ ...group, rules: group.rules.map((rule) => (rule === mutant?.rule ? mutant.mutated : rule)) }))
    .filter(({ rules }) => rules.length > 0);
  const dir = mkdtempSync(join(tmpdir(), 'cooper-mutant-'));
  try {
    writeFileSync(join(dir, 'rules.yaml'), toYaml({ groups: groups as unknown as YamlValue }));
    const files = subject.tests.map((content, index) => {
      const name = `${index}.yaml`;
      const order = { rule_files: ['rules.yaml'], group_eval_order: groups.map((group) => group.name) };
      writeFileSync(join(dir, name), toYaml({ ...(content as Record<string, YamlValue>), ...order }));
      return name;
    });
    const child = spawn('promtool', ['test', 'rules', ...files], { cwd: dir, stdio: 'ignore' });
    const [code] = (await once(child, 'exit')) as [number | null];
    return code === 0;
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Two at a time. */
export async function judge(mutants: readonly Mutant[], onVerdict: (verdict: Verdict) => void = () => {}): Promise<Verdict[]> {
  const verdicts: Verdict[] = [];
  const rest = [...mutants];
  const worker = async (): Promise<void> => {
    for (let mutant = rest.shift(); mutant !== undefined; mutant = rest.shift()) {
      const verdict = { mutant, killed: !(await testsPass(mutant.subject, mutant)) };
      verdicts.push(verdict);
      onVerdict(verdict);
    }
  };
  await Promise.all([worker(), worker()]);
  return verdicts;
}

/** Every n-th of them, so that each kind of change and each rule is drawn from. */
export const sampleOf = <T>(all: readonly T[], count: number): T[] =>
  all.length <= count
    ? [...all]
    : Array.from({ length: count }, (_, index) => all[Math.floor(((index + 0.5) * all.length) / count)] as T);

export const nameOf = (rule: Rule): string => ('alert' in rule ? `${rule.alert} ${rule.labels.severity}` : rule.record);
