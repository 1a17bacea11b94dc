import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CATALOG } from '../../telemetry/catalog.ts';
import { OBJECTIVES } from '../objectives.ts';
import { MONTHLY_PAIRS, type Objective, WEEKLY_PAIRS } from '../spec.ts';
import { findingText } from './finding.ts';
import { writeOpenSlo } from './openslo-write.ts';
import { writeOwn } from './own.ts';
import { mergedWith, readSpecs, type Specs } from './read.ts';

const read = (text: string): Specs =>
  readSpecs([{ file: 'f', text }], { known: CATALOG, catalogue: CATALOG, beside: OBJECTIVES });
const texts = ({ findings }: Specs): string[] => findings.map(findingText);
/** The objectives of a file without a finding. */
function sound(text: string): readonly Objective[] {
  const specs = read(text);
  assert.deepEqual(texts(specs), []);
  return specs.objectives;
}

const [success, latency] = OBJECTIVES as [Objective, Objective];
const BUILDS = { metric: 'cooper_builds_total', where: { result: ['success', 'failure', 'error', 'timeout'] } };
const STATE: Objective['indicator'] = {
  ...{ kind: 'state', of: 'value', gauge: { metric: 'cooper_disk_free_bytes', where: {} } },
  ...{ per: { metric: 'cooper_disk_size_bytes', where: {} }, op: 'gte', threshold: 0.1, everySeconds: 300 },
};
/** One of each kind, with every field. */
const EVERY: readonly Objective[] = [
  ...OBJECTIVES,
  {
    ...success,
    name: 'faults',
    indicator: { kind: 'failures', bad: { metric: BUILDS.metric, where: { result: ['error'] } }, total: BUILDS },
    period: '30d',
    calendar: { unit: 'month', count: 1, start: '2026-01-01', timeZone: 'Europe/Berlin' },
    pairs: MONTHLY_PAIRS,
    gate: { minBad: 3, confidence: 0.99, extend: false },
    floor: { ratio: 0.001, source: 'a quarter of measurements: "quiet"' },
    policy: [{ budgetBelow: 0.1, consequence: 'No releases.', blocks: ['release', 'upgrade'] }],
  },
  { ...success, name: 'room', target: 0.95, indicator: STATE },
  { ...latency, name: 'ratio', budgeting: { kind: 'ratio-timeslices', sliceSeconds: 300 } },
  {
    ...success,
    name: 'both',
    indicator: {
      kind: 'weighted',
      parts: [
        { slo: 'build-success', weight: 3 },
        { slo: 'build-latency', weight: 1 },
      ],
    },
  },
  {
    ...success,
    name: 'worst',
    indicator: {
      kind: 'worst-of',
      parts: [
        { slo: 'build-success', weight: 1 },
        { slo: 'faults', weight: 1 },
      ],
    },
    pairs: [],
  },
];

test('objectives written as our own file or as OpenSLO and read again are the same', () => {
  for (const write of [writeOwn, writeOpenSlo]) assert.deepEqual(sound(write(EVERY)), EVERY);
});

test('a short file of our own gets the defaults, and words for shares, pairs and queries', () => {
  const [objective] = sound(
    `
apiVersion: cooper/v1
kind: Objectives
objectives:
  - name: push
    target: "99.5 %"
    period: 7d
    pairs: weekly
    indicator:
      kind: failures
      bad: cooper_builds_total{result!~"success|failure|cancellation|skip"}
      total: sum(rate(cooper_builds_total{job="x"}[5m]))
`.replace('{job="x"}', ''),
  );
  assert.ok(objective?.indicator.kind === 'failures');
  assert.deepEqual(
    [objective.title, objective.target, objective.pairs, objective.alertName, objective.budgeting, objective.service],
    ['push', 0.995, WEEKLY_PAIRS, 'CooperPushBurn', { kind: 'occurrences' }, 'cooper'],
  );
  assert.ok(objective.indicator.bad.where.result?.includes('error'), 'a negative matcher is the values that are left');
  assert.ok(!objective.indicator.bad.where.result?.includes('success'));
  assert.deepEqual(objective.indicator.total.where, {});
});

const OPENSLO = `
apiVersion: openslo/v1
kind: SLO
metadata: {name: builds, displayName: Builds}
spec:
  service: ci
  indicatorRef: builds
  timeWindow: [{duration: 1M, calendar: {startTime: 2026-01-01 00:00:00, timeZone: America/New_York}}]
  budgetingMethod: Timeslices
  objectives: [{targetPercent: 95, timeSliceTarget: 0.9, timeSliceWindow: 5}]
  alertPolicies: [{alertPolicyRef: fast}]
  x-cooper: {rootCause: cache, eventWord: slices}
---
apiVersion: openslo/v1
kind: SLI
metadata: {name: builds}
spec:
  ratioMetric:
    rawType: failure
    raw:
      metricSource:
        type: Prometheus
        spec: {query: 'sum(rate(cooper_builds_total{result=~"error|timeout"}[5m])) / sum(rate(cooper_builds_total[5m]))'}
---
apiVersion: openslo/v1
kind: AlertPolicy
metadata: {name: fast}
spec:
  conditions: [{conditionRef: hour}]
---
apiVersion: openslo/v1
kind: AlertCondition
metadata: {name: hour}
spec: {severity: page, condition: {kind: burnrate, op: gt, threshold: 14.4, lookbackWindow: 1h, alertAfter: 5m}}
---
apiVersion: openslo/v1
kind: DataSource
metadata: {name: prometheus}
spec: {type: Prometheus, connectionDetails: {url: http://localhost}}
`;

test('an OpenSLO file of others is read with its references, calendar, slices, raw ratio and alert conditions', () => {
  const [objective] = sound(OPENSLO);
  assert.deepEqual(objective, {
    ...{ name: 'builds', title: 'Builds', service: 'ci', description: '', reasoning: '', alertName: 'CooperBuildsBurn' },
    ...{ eventWord: 'slices', rootCause: 'cache', period: '30d', target: 0.95 },
    calendar: { unit: 'month', count: 1, start: '2026-01-01', timeZone: 'America/New_York' },
    indicator: {
      kind: 'failures',
      bad: { metric: 'cooper_builds_total', where: { result: ['error', 'timeout'] } },
      total: { metric: 'cooper_builds_total', where: {} },
    },
    budgeting: { kind: 'timeslices', sliceSeconds: 300, threshold: 0.9 },
    pairs: [{ severity: 'page', long: '1h', short: '5m', budgetPercent: 2 }],
  });
});

test('OpenSLO objectives with indicators of their own are parts of a composite', () => {
  const metric = (result: string): string => `{metricSource: {type: Prometheus, spec: {query: 'cooper_builds_total${result}'}}}`;
  const sli = `{spec: {ratioMetric: {counter: true, bad: ${metric('{result="error"}')}, total: ${metric('')}}}}`;
  const objectives = sound(`
apiVersion: openslo/v1
kind: SLO
metadata: {name: journey}
spec:
  service: ci
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives:
    - {displayName: First step, target: 0.99, compositeWeight: 3, indicator: ${sli}}
    - {target: 0.95, indicator: ${sli}}
`);
  assert.deepEqual(
    objectives.map(({ name, target, indicator }) => [name, target, 'parts' in indicator ? indicator.parts : indicator.kind]),
    [
      ['journey-first-step', 0.99, 'failures'],
      ['journey-2', 0.95, 'failures'],
      [
        'journey',
        0.98,
        [
          { slo: 'journey-first-step', weight: 3 },
          { slo: 'journey-2', weight: 1 },
        ],
      ],
    ],
  );
});

test('a Sloth file is read, and what has no place here is said', () => {
  const specs = read(`
version: prometheus/v1
service: ci
labels: {owner: team}
slos:
  - name: slow
    objective: 95
    sli:
      events:
        error_query: |
          (sum(rate(cooper_build_duration_seconds_count{result="success"}[{{.window}}]))
            - sum(rate(cooper_build_duration_seconds_bucket{result="success",le="600"}[{{ .window }}])))
        total_query: sum(rate(cooper_build_duration_seconds_count{result="success"}[{{.window}}]))
    alerting:
      name: SlowBuilds
      page_alert: {disable: true}
`);
  assert.deepEqual(texts(specs), [
    'f:4:9: warning: labels: labels have no place in the generated rules and are left out; set them with relabelling or routes [unsupported]',
  ]);
  const [objective] = specs.objectives;
  assert.deepEqual(
    [
      objective?.name,
      objective?.target,
      objective?.period,
      objective?.alertName,
      objective?.pairs.map(({ severity }) => severity),
    ],
    ['ci-slow', 0.95, '30d', 'SlowBuilds', ['ticket', 'ticket']],
  );
  assert.deepEqual(objective?.indicator, {
    kind: 'events',
    good: { metric: 'cooper_build_duration_seconds', where: { result: ['success'] }, le: 600 },
    total: { metric: 'cooper_build_duration_seconds', where: { result: ['success'] } },
  });
});

const own = (
  fields: string,
  indicator = 'kind: failures, bad: "cooper_builds_total{result=\\"error\\"}", total: cooper_builds_total',
): string =>
  `apiVersion: cooper/v1\nkind: Objectives\nobjectives:\n  - name: mine\n    target: 0.99\n    period: 7d\n    indicator: {${indicator}}\n${fields}`;
const openslo = (from: string, to: string): string => OPENSLO.trimStart().replace(from, to);

/** What is wrong, as file:line:column, field, rule and fix. */
const BAD: readonly (readonly [string, string, readonly string[]])[] = [
  [
    'no YAML',
    'a: [',
    ['f:1:5: error: Flow sequence in block collection must be sufficiently indented and end with a ]; correct the YAML [syntax]'],
  ],
  ['no map', '- a', ['f:1:1: error: expected a map of fields, not a list; write `name: value` lines below it [type]']],
  [
    'no format',
    'kind: SLO',
    [
      'f:1:1: error: the document names no format; write apiVersion: cooper/v1 or openslo/v1, or version: prometheus/v1 [unknown-format]',
    ],
  ],
  [
    'a format of before',
    'apiVersion: openslo/v1alpha',
    [
      'f:1:1: error: "openslo/v1alpha" is not a format that is read here; write apiVersion: cooper/v1 or openslo/v1, or version: prometheus/v1 [unknown-format]',
    ],
  ],
  [
    'several at once, and a field that is nearly one',
    'apiVersion: cooper/v1\nkind: Objectives\nobjectives:\n  - name: Mine\n    titel: x\n    target: high\n    period: 7 days\n    indicator: {kind: event}\n',
    [
      'f:4:11: error: objectives[0].name: "Mine" is not a name; use lower-case letters, digits and dashes, 63 at most, a letter first [value]',
      'f:5:5: warning: objectives[0].titel: there is no field titel here, it has no effect; did you mean title? [unknown-field]',
      'f:6:13: error: objectives[0].target: expected a number, not "high"; write digits, without a unit or quotes [type]',
      'f:7:13: error: objectives[0].period: "7 days" is not a length of time; write a whole number and one of s, m, h, d, w, as in 7d [value]',
      'f:8:23: error: objectives[0].indicator.kind: "event" is not one of events, failures, state, weighted, worst-of; did you mean events? [value]',
    ],
  ],
  [
    'a pair that can never fire, at its line',
    own('    pairs:\n      - {severity: page, long: 1h, short: 5m, budgetPercent: 8}\n').replace('0.99', '0.7'),
    [
      'f:9:62: error: objectives[0].pairs[0].budgetPercent: the page pair 1h/5m needs a burn rate of 13.44, but a target of 0.7 allows 3.33 at most: it can never fire; ask for less than 1.98 % of the budget, raise the target, or count time slices [unreachable-pair]',
    ],
  ],
  [
    'an edge that no bucket has',
    own(
      '',
      'kind: events, good: {metric: cooper_build_duration_seconds, where: {result: success}, le: 500}, total: cooper_build_duration_seconds_count',
    ),
    [
      'f:7:107: error: objectives[0].indicator.good.le: cooper_build_duration_seconds has no bucket edge at 500: the SLI could not be exact; use 300 or 600 [bucket-edge]',
    ],
  ],
  [
    'a value that does not exist',
    own('', 'kind: failures, bad: {metric: cooper_builds_total, where: {result: [broken]}}, total: cooper_builds_total'),
    [
      'f:7:84: error: objectives[0].indicator.bad.where.result: cooper_builds_total{result="broken"} never exists; one of: success, failure, error, timeout, cancellation [unknown-label]',
    ],
  ],
  [
    'a function that does not count',
    own('', 'kind: failures, bad: histogram_quantile(0.9), total: cooper_builds_total'),
    [
      'f:7:38: error: objectives[0].indicator.bad: the function histogram_quantile is not counting; count good and total events with sum(rate(…)) or a bare selector [query]',
    ],
  ],
  [
    'a template in words for alerts',
    own('    title: "{{ $value }}"\n'),
    ['f:8:12: error: objectives[0].title: alert texts are templates: "{{" would be read as one; leave the braces out [value]'],
  ],
  [
    'the same name twice',
    `${own('')}---\n${own('')}`,
    ['f:12:11: error: objectives[0].name: there is an objective "mine" already; give it another name [duplicate]'],
  ],
  [
    'a reference to nothing',
    openslo('indicatorRef: builds', 'indicatorRef: build'),
    [
      'f:6:17: error: spec.indicatorRef: there is no SLI "build"; there are: builds [reference]',
      'f:9:16: error: spec.objectives[0]: there is no indicator; write indicator or indicatorRef, here or below spec [required]',
    ],
  ],
  [
    'a ratio without its halves',
    openslo(' / sum(rate(cooper_builds_total[5m]))', ''),
    [
      'f:20:7: error: spec.ratioMetric.raw: a ratio does not say how many events it stands for, and budgets are counted in events; write it as bad / total, or give bad and total [query]',
    ],
  ],
  [
    'a time zone that does not exist, and an unknown field of an SLO',
    openslo('America/New_York', 'America/Berlin').replace('  service: ci', '  service: ci\n  servise: ci'),
    [
      'f:6:3: warning: spec.servise: there is no field servise here, it has no effect; did you mean service? [unknown-field]',
      'f:8:41: error: spec.timeWindow[0].calendar: "America/Berlin" is not a time zone; use an IANA name such as Europe/Berlin [calendar]',
    ],
  ],
  [
    'a mistake inside the annotation, at its line',
    openslo(
      'metadata: {name: builds, displayName: Builds}',
      'metadata:\n  name: builds\n  annotations:\n    cooper/objective: |\n      gate:\n        minBad: two',
    ).replace(/ {2}x-cooper.*\n/, ''),
    [
      'f:8:17: error: metadata.annotations["cooper/objective"].gate.minBad: expected a number, not "two"; write digits, without a unit or quotes [type]',
    ],
  ],
  [
    'a Sloth plugin',
    'version: prometheus/v1\nservice: ci\nslos:\n  - {name: a, objective: 99, sli: {plugin: {id: x}}}\n',
    ['f:4:44: error: slos[0].sli.plugin: plugins of Sloth are Go code; write the queries it makes under events [unsupported]'],
  ],
];

for (const [name, text, expected] of BAD) {
  test(`a file is refused with line, field, rule and fix: ${name}`, () => {
    const found = texts(read(text));
    assert.deepEqual(found, expected);
  });
}

test('an objective of a file takes the place of the shipped one of its name, others come after', () => {
  const mine = { ...success, target: 0.995 };
  const more = { ...success, name: 'more' };
  assert.deepEqual(mergedWith(OBJECTIVES, [more, mine]), [mine, ...OBJECTIVES.slice(1), more]);
});

test('whatever bytes a file has, it is read or refused, never thrown at', () => {
  for (const text of [
    '',
    '\u0000',
    '&a [*a]',
    'apiVersion: &x cooper/v1\nkind: Objectives\nobjectives: &o [*o]',
    '"',
    '!!binary x',
    '? ? ?',
    '%YAML 9',
  ]) {
    assert.ok(Array.isArray(read(text).findings), text);
  }
});
