/** Objectives as OpenSLO v1: one SLI and one SLO each, with an AlertPolicy per pair; the rest in an annotation (openslo.ts reads it). */
import { factorOf } from '../arithmetic.ts';
import type { BurnPair, Indicator, Measured, Objective } from '../spec.ts';
import { toYaml, type YamlValue } from '../yaml.ts';
import { OPENSLO_VERSION } from './openslo.ts';
import { queryOf } from './query.ts';

/** A file of documents that readSpecs reads as the same objectives. */
export function writeOpenSlo(objectives: readonly Objective[]): string {
  const services = [...new Set(objectives.map(({ service }) => service))];
  const documents: YamlValue[] = [
    ...services.map((name) => document('Service', { name }, {})),
    ...objectives.flatMap((objective) => [
      ...('parts' in objective.indicator
        ? []
        : [document('SLI', { name: objective.name, displayName: objective.title }, sliOf(objective.indicator))]),
      sloOf(objective, objectives),
    ]),
  ];
  return documents.map(toYaml).join('---\n');
}

const document = (kind: string, metadata: YamlValue, spec: YamlValue): YamlValue => ({
  apiVersion: OPENSLO_VERSION,
  kind,
  metadata,
  spec,
});
const source = (query: string): YamlValue => ({ metricSource: { type: 'Prometheus', spec: { query } } });

function sliOf(indicator: Measured): YamlValue {
  switch (indicator.kind) {
    case 'events':
      return { ratioMetric: { counter: true, good: source(queryOf(indicator.good)), total: source(queryOf(indicator.total)) } };
    case 'failures':
      return { ratioMetric: { counter: true, bad: source(queryOf(indicator.bad)), total: source(queryOf(indicator.total)) } };
    case 'state': {
      const gauge = queryOf(indicator.gauge, true);
      const divided = indicator.per === undefined ? gauge : `${gauge} / ${queryOf(indicator.per, true)}`;
      return {
        thresholdMetric: source(
          indicator.of === 'age' ? `time() - ${indicator.per === undefined ? divided : `(${divided})`}` : divided,
        ),
      };
    }
  }
}

function sloOf(objective: Objective, all: readonly Objective[]): YamlValue {
  const { name, title, description, service, indicator, budgeting } = objective;
  const composite = 'parts' in indicator;
  return document(
    'SLO',
    { name, displayName: title, annotations: { 'cooper/objective': toYaml(extensionOf(objective)).trimEnd() } },
    {
      ...(description !== '' && { description }),
      service,
      ...(!composite && { indicatorRef: name }),
      timeWindow: [windowOf(objective)],
      budgetingMethod: METHODS[budgeting.kind],
      objectives: composite ? partsOf(indicator, all) : [objectiveOf(objective)],
      ...(objective.pairs.length > 0 && {
        alertPolicies: objective.pairs.map((pair, index) => policyOf(objective, pair, index)),
      }),
    },
  );
}

const METHODS = { occurrences: 'Occurrences', timeslices: 'Timeslices', 'ratio-timeslices': 'RatioTimeslices' } as const;

function windowOf({ period, calendar }: Objective): YamlValue {
  if (calendar === undefined) return { duration: period, isRolling: true };
  const [date = '', time = '00:00'] = calendar.start.split(/[T ]/);
  const letter = { day: 'd', week: 'w', month: 'M', quarter: 'Q', year: 'Y' }[calendar.unit];
  return {
    duration: `${calendar.count}${letter}`,
    calendar: { startTime: `${date} ${time}:00`, timeZone: calendar.timeZone },
    isRolling: false,
  };
}

function objectiveOf({ target, indicator, budgeting }: Objective): YamlValue {
  return {
    ...(indicator.kind === 'state' && { op: indicator.op, value: indicator.threshold }),
    target,
    ...(budgeting.kind === 'timeslices' && { timeSliceTarget: budgeting.threshold }),
    ...(budgeting.kind !== 'occurrences' && { timeSliceWindow: `${budgeting.sliceSeconds / 60}m` }),
  };
}

function partsOf(indicator: Indicator, all: readonly Objective[]): YamlValue {
  if (!('parts' in indicator)) return [];
  return indicator.parts.map(({ slo, weight }) => {
    const part = all.find((candidate) => candidate.name === slo);
    return {
      displayName: part?.title ?? slo,
      ...(part?.indicator.kind === 'state' && { op: part.indicator.op, value: part.indicator.threshold }),
      target: part?.target ?? 0.99,
      indicatorRef: slo,
      ...(indicator.kind === 'weighted' && { compositeWeight: weight }),
    };
  });
}

function policyOf(objective: Objective, pair: BurnPair, index: number): YamlValue {
  const name = `${objective.name}-${pair.severity}-${pair.long}`.slice(0, 60);
  const burnrate = {
    kind: 'burnrate',
    op: 'gt',
    threshold: round(factorOf(pair, objective.period)),
    lookbackWindow: pair.long,
    alertAfter: '0m',
  };
  const condition = {
    kind: 'AlertCondition',
    metadata: { name: `${name}-${index}` },
    spec: { severity: pair.severity, condition: burnrate },
  };
  return {
    kind: 'AlertPolicy',
    metadata: { name },
    spec: {
      alertWhenBreaching: true,
      alertWhenResolved: true,
      alertWhenNoData: false,
      conditions: [condition],
      notificationTargets: [],
    },
  };
}

/** Fields of our own that OpenSLO has no place for. */
function extensionOf(objective: Objective): YamlValue {
  const { indicator, pairs, target } = objective;
  const composite = 'parts' in indicator;
  const pick = (value: unknown): YamlValue | undefined => value as YamlValue | undefined;
  return {
    ...(objective.reasoning !== '' && { reasoning: objective.reasoning }),
    alertName: objective.alertName,
    eventWord: objective.eventWord,
    ...(objective.toldApartBy && { toldApartBy: pick(objective.toldApartBy) }),
    rootCause: objective.rootCause,
    ...(composite && { composite: indicator.kind, target, parts: pick(indicator.parts) }),
    ...(indicator.kind === 'state' && { everySeconds: indicator.everySeconds }),
    pairs: pick(pairs),
    ...(objective.gate && { gate: pick(objective.gate) }),
    ...(objective.floor && { floor: pick(objective.floor) }),
    ...(objective.policy && { policy: pick(objective.policy) }),
  } as YamlValue;
}

const round = (value: number): number => Number(value.toPrecision(9));
