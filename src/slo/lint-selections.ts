/** Does an indicator read series that exist, on edges that exist, with a denominator that is there before the first event? */
import type { MetricSpec, Selection } from '../telemetry/catalog.ts';
import type { Report } from './lint-problem.ts';
import type { Measured } from './spec.ts';

const selectionsOf = (indicator: Measured): [string, Selection][] => {
  switch (indicator.kind) {
    case 'events':
      return [
        ['good', indicator.good],
        ['total', indicator.total],
      ];
    case 'failures':
      return [
        ['bad', indicator.bad],
        ['total', indicator.total],
      ];
    case 'state':
      return [
        ['gauge', indicator.gauge],
        ...(indicator.per === undefined ? [] : [['per', indicator.per] as [string, Selection]]),
      ];
  }
};

/** Reports what the catalogue does not have. */
export function checkSelections(indicator: Measured, catalogue: readonly MetricSpec[], report: Report): void {
  for (const [role, selection] of selectionsOf(indicator)) {
    const spec = catalogue.find(({ name }) => name === selection.metric);
    const field = `indicator.${role}`;
    if (spec === undefined) {
      report(`${field}.metric`, 'unknown-metric', `${selection.metric} is not in the catalogue`, 'see docs/metrics.md');
      if (role === 'total') report(field, 'no-denominator', 'without the metric there is no denominator', 'name one that exists');
      continue;
    }
    checkKind(indicator, spec, field, report);
    checkLabels(selection, spec, field, report);
    checkEdge(selection, spec, field, report);
    if (role === 'total') checkDenominator(selection, spec, field, report);
  }
}

function checkKind(indicator: Measured, spec: MetricSpec, field: string, report: Report): void {
  const gauge = spec.kind === 'gauge';
  if (gauge === (indicator.kind === 'state')) return;
  const [is, fix] = gauge ? ['is a gauge, not counted', 'use a state indicator'] : ['is counted, not a gauge', 'use events'];
  report(`${field}.metric`, 'unknown-metric', `${spec.name} ${is}`, fix);
}

function checkLabels(selection: Selection, spec: MetricSpec, field: string, report: Report): void {
  for (const [label, values] of Object.entries(selection.where)) {
    const known = spec.labels[label];
    if (known === undefined) {
      const names = Object.keys(spec.labels).join(', ') || 'none';
      report(`${field}.where.${label}`, 'unknown-label', `${spec.name} has no label ${label}`, `its labels are: ${names}`);
      continue;
    }
    for (const value of values) {
      if (known.length > 0 && !known.includes(value)) {
        report(
          `${field}.where.${label}`,
          'unknown-label',
          `${spec.name}{${label}="${value}"} never exists`,
          `one of: ${known.join(', ')}`,
        );
      }
    }
  }
}

function checkEdge({ le }: Selection, spec: MetricSpec, field: string, report: Report): void {
  if (le === undefined) return;
  if (spec.kind !== 'histogram') {
    report(`${field}.le`, 'bucket-edge', `${spec.name} is no histogram`, 'leave the edge out');
  } else if (!spec.buckets.includes(le)) {
    const near = [...spec.buckets].sort((a, b) => Math.abs(a - le) - Math.abs(b - le)).slice(0, 2);
    const edges = near.sort((a, b) => a - b).join(' or ');
    report(`${field}.le`, 'bucket-edge', `${spec.name} has no bucket edge at ${le}: the SLI could not be exact`, `use ${edges}`);
  }
}

/** A denominator whose series appear with the first event loses that event: increase() needs a sample before it. */
function checkDenominator({ where }: Selection, spec: MetricSpec, field: string, report: Report): void {
  const there = spec.series.some((labels) =>
    Object.entries(where).every(([label, values]) => values.includes(labels[label] ?? '')),
  );
  if (!there) {
    report(field, 'no-denominator', `no series of ${spec.name} that it selects exists from the start`, 'initialise it at 0');
  }
}
