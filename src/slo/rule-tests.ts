/**
 * promtool tests of the rules of any objective, from the arithmetic the daemon judges with: each pair fires at the fewest bad events
 * that convince its gate and not at one fewer, and is silent once its short window is clean. Series are one sample a minute.
 */
import type { Selection } from '../telemetry/catalog.ts';
import { fewestEventsFor, gatePasses, maxBurnOf, thresholdOf } from './arithmetic.ts';
import { SEVERITY_LABEL } from './rules.ts';
import { type BurnPair, gateOf, type Measured, type Objective } from './spec.ts';
import { secondsOf } from './windows.ts';
import type { YamlValue } from './yaml.ts';

interface RuleTestOptions {
  /** Value of the `job` label the rules select. */
  readonly job: string;
  /** Name of the rule file beside the tests. */
  readonly rulesFile: string;
  /** Names of its groups in the order they read one another; promtool has none by itself. */
  readonly groups: readonly string[];
}
interface Scenario {
  readonly name: string;
  readonly history: Readonly<Record<string, string>>;
  readonly at: readonly { readonly minute: number; readonly fires: readonly BurnPair[] }[];
}

/** Rules are looked at this often in a test; every look below is a multiple of it. */
const EVALUATED_EVERY = '5m';

/** A promtool test file. Composites have no series of their own and are left to the tests of their parts. */
export function ruleTestFile(objectives: readonly Objective[], options: RuleTestOptions): YamlValue {
  const tests = objectives.flatMap((objective) =>
    scenariosOf(objective, options.job).map((scenario) => testOf(objective, scenario)),
  );
  return { rule_files: [options.rulesFile], group_eval_order: options.groups, evaluation_interval: EVALUATED_EVERY, tests };
}

function testOf({ name }: Objective, { name: title, history, at }: Scenario): YamlValue {
  return {
    name: `${name}: ${title}`,
    interval: '1m',
    input_series: Object.entries(history).map(([series, values]) => ({ series, values })),
    promql_expr_test: at.map(({ minute, fires }) => ({
      expr: `count by (severity, long) (ALERTS{alertstate="firing",slo="${name}"})`,
      eval_time: `${minute}m`,
      exp_samples: fires.map(({ severity, long }) => ({
        labels: `{severity="${SEVERITY_LABEL[severity]}",long="${long}"}`,
        value: 1,
      })),
    })),
  };
}

function scenariosOf(objective: Objective, job: string): Scenario[] {
  const { indicator, budgeting, pairs } = objective;
  if ('parts' in indicator || pairs.length === 0) return [];
  if (indicator.kind === 'state') return stateScenarios(objective, indicator, job);
  const counted = (good: string, bad: string): Record<string, string> | undefined => seriesOf(indicator, job, good, bad);
  const steady = scenario('good events only are silence', counted('0+10x300', '0x300'), [{ minute: 240, fires: [] }]);
  const failing = scenario('bad events only fire every pair', counted('0x300', '0+10x300'), [
    { minute: 240, fires: pairs.filter((pair) => thresholdOf(pair, objective) < 1) },
  ]);
  if (budgeting.kind !== 'occurrences') return [...steady, ...failing];
  return [...steady, ...failing, ...pairs.flatMap((pair) => boundaryScenarios(objective, pair, counted))];
}

const scenario = (name: string, history: Record<string, string> | undefined, at: Scenario['at']): Scenario[] =>
  history === undefined ? [] : [{ name, history, at }];

type Counted = (good: string, bad: string) => Record<string, string> | undefined;

/** All events at one moment, three minutes before the look, so that every window holds the same ones. */
function boundaryScenarios(objective: Objective, pair: BurnPair, counted: Counted): Scenario[] {
  const found = boundaryOf(objective, pair);
  if (found === undefined) return [];
  const { bad, total } = found;
  const which = `the ${pair.severity} pair ${pair.long}/${pair.short}`;
  const firing = (some: number): BurnPair[] => objective.pairs.filter((one) => fires(objective, one, some, total));
  const clean = 60 + secondsOf(pair.short) / 60 + 10;
  const atOnce = (count: number): string => `0x57 ${count}x10`;
  const stillFire = objective.pairs.filter(
    (one) => secondsOf(one.short) > secondsOf(pair.short) && fires(objective, one, bad, total),
  );
  const [good, after] = [total - bad, clean - 60];
  return [
    ...scenario(
      `${bad} bad of ${total} events fire ${which}, which is silent once its short window is clean`,
      counted(`0x57 ${good}x${after} ${good + 1}+1x10`, `0x57 ${bad}x${after + 11}`),
      [
        { minute: 60, fires: firing(bad) },
        { minute: clean + 5, fires: stillFire },
      ],
    ),
    ...scenario(`${bad - 1} bad of ${total} events do not fire ${which}`, counted(atOnce(good + 1), atOnce(bad - 1)), [
      { minute: 60, fires: firing(bad - 1) },
    ]),
  ];
}

const fires = (objective: Objective, pair: BurnPair, bad: number, total: number): boolean =>
  total >= fewestEventsFor(thresholdOf(pair, objective), gateOf(objective)) &&
  gatePasses({ good: total - bad, total }, thresholdOf(pair, objective), gateOf(objective));

/** Fewest bad events, and of how many, where neither rounding nor increase()'s stretching of a sixtieth changes any pair's answer. */
function boundaryOf(objective: Objective, pair: BurnPair): { readonly bad: number; readonly total: number } | undefined {
  const threshold = thresholdOf(pair, objective);
  if (threshold >= 1 / 1.05 || maxBurnOf(objective.target) <= 1) return undefined;
  const least = Math.max(20, fewestEventsFor(threshold, gateOf(objective)) * 2);
  for (let total = least; total < least * 3; total++) {
    const bad = Array.from({ length: total }, (_, index) => index + 1).find((some) => fires(objective, pair, some, total));
    if (bad === undefined || bad / total <= threshold * 1.05) continue;
    const sure = [bad - 1, bad].every((some) => objective.pairs.every((one) => isSure(objective, one, some, total)));
    if (sure) return { bad, total };
  }
  return undefined;
}

/** Is the answer of a pair the same when the counts are stretched? */
function isSure(objective: Objective, pair: BurnPair, bad: number, total: number): boolean {
  const threshold = thresholdOf(pair, objective);
  const stretched = gatePasses({ good: (total - bad) * STRETCH, total: total * STRETCH }, threshold, gateOf(objective));
  return (
    stretched === gatePasses({ good: total - bad, total }, threshold, gateOf(objective)) &&
    total >= fewestEventsFor(threshold, gateOf(objective))
  );
}
const STRETCH = 60 / 59;

function stateScenarios(objective: Objective, indicator: Measured & { readonly kind: 'state' }, job: string): Scenario[] {
  const { gauge, per, op, threshold, of } = indicator;
  const below = op === 'lt' || op === 'lte';
  const [holds, broken] = below ? [threshold / 2, threshold * 2 + 1] : [threshold * 2 + 1, threshold / 2];
  const history = (value: number): Record<string, string> => ({
    // An age grows by itself: a time that follows the clock at a distance.
    [series(gauge.metric, job, anyOf(gauge))]: of === 'age' ? `${60 - value}+60x400` : `${value}x400`,
    ...(per && { [series(per.metric, job, anyOf(per))]: '1x400' }),
  });
  const all = objective.pairs.filter((pair) => thresholdOf(pair, objective) < 1);
  return [
    ...scenario('a state that holds is silence', history(holds), [{ minute: 360, fires: [] }]),
    ...scenario('a state that does not hold fires every pair', history(broken), [{ minute: 360, fires: all }]),
  ];
}

/** Series that good events and bad events count in; undefined when the selections do not tell them apart. */
function seriesOf(
  indicator: Exclude<Measured, { kind: 'state' }>,
  job: string,
  good: string,
  bad: string,
): Record<string, string> | undefined {
  const part = indicator.kind === 'events' ? indicator.good : indicator.bad;
  const [inside, outside] = indicator.kind === 'events' ? [good, bad] : [bad, good];
  const { total } = indicator;
  if (part.le !== undefined && part.metric === total.metric) {
    const bucket = series(`${part.metric}_bucket`, job, { ...anyOf(part), le: String(part.le) });
    const slow = { ...anyOf(total), pod: 'other' };
    return {
      [bucket]: inside,
      [series(`${part.metric}_count`, job, anyOf(part))]: inside,
      [series(`${part.metric}_count`, job, slow)]: outside,
    };
  }
  const elsewhere = outsideOf(part, total);
  if (part.metric !== total.metric || elsewhere === undefined) return undefined;
  return {
    [series(countedName(part.metric), job, anyOf(part))]: inside,
    [series(countedName(total.metric), job, elsewhere)]: outside,
  };
}

/** Labels that the total selects and the part does not. */
function outsideOf(part: Selection, total: Selection): Record<string, string> | undefined {
  for (const [label, values] of Object.entries(part.where)) {
    const candidates = total.where[label] ?? ['something-else'];
    const other = candidates.find((value) => !values.includes(value));
    if (other !== undefined) return { ...anyOf(total), [label]: other };
  }
  return undefined;
}

const countedName = (metric: string): string => (/_(seconds|bytes)$/.test(metric) ? `${metric}_count` : metric);
const anyOf = ({ where }: Selection): Record<string, string> =>
  Object.fromEntries(Object.entries(where).map(([label, values]) => [label, values[0] ?? '']));

function series(name: string, job: string, labels: Readonly<Record<string, string>>): string {
  const all = { job, instance: 'a:8470', ...labels };
  return `${name}{${Object.entries(all)
    .map(([label, value]) => `${label}="${value}"`)
    .join(',')}}`;
}
