/** What happened, as marks on every time axis of every board. Game days have no series of their own and are not among them. */
import * as catalog from '../src/telemetry/catalog.ts';
import { AUDIT_EVENTS, OUTAGE_ACTIVE } from '../src/telemetry/catalog-service.ts';
import { DATASOURCE } from './datasource.ts';
import { selector } from './query.ts';

interface Annotation {
  readonly name: string;
  /** PromQL; each stretch of time in which it returns a series is a mark. */
  readonly expr: string;
  readonly colour: 'blue' | 'green' | 'orange' | 'red' | 'purple' | 'yellow';
  readonly title: string;
  readonly text: string;
  readonly enabled: boolean;
}

const version = selector(catalog.BUILD_INFO);
const happened = (what: string, by: string): string => `sum by (${by}) (increase(${what}[$__interval])) > 0`;

const SOURCES: readonly Annotation[] = [
  {
    name: 'Releases',
    // A version that the instance did not run in the day before.
    expr: `count by (instance, version) (${version}) unless count by (instance, version) (last_over_time(${version}[1d] offset $__interval))`,
    colour: 'blue',
    title: 'Release {{version}}',
    text: '{{instance}} runs {{version}}',
    enabled: true,
  },
  {
    name: 'Daemon starts',
    expr: `changes(${selector(catalog.PROCESS_START)}[$__interval]) > 0`,
    colour: 'blue',
    title: 'Daemon started',
    text: '{{instance}}',
    enabled: true,
  },
  {
    name: 'Outages',
    expr: `max by (instance, component) (${selector(OUTAGE_ACTIVE)}) > 0`,
    colour: 'red',
    title: 'Outage: {{component}}',
    text: '{{instance}}',
    enabled: true,
  },
  {
    name: 'Garbage collection',
    expr: happened(selector(catalog.GC_RUNS), 'instance, trigger, result'),
    colour: 'green',
    title: 'Garbage collection ({{trigger}})',
    text: '{{instance}}: {{result}}',
    enabled: false,
  },
  {
    name: 'Budget adjustments',
    expr: happened(selector(AUDIT_EVENTS, { type: 'slo-adjustment' }), 'instance'),
    colour: 'purple',
    title: 'Budget adjusted',
    text: 'On {{instance}}; cooper audit --type slo-adjustment says by whom and why',
    enabled: true,
  },
  {
    name: 'Pages',
    expr: 'max by (alertname, instance, slo) (ALERTS{service="cooper",severity="critical",alertstate="firing"})',
    colour: 'orange',
    title: '{{alertname}}',
    text: '{{instance}} {{slo}}',
    enabled: true,
  },
];

export const ANNOTATIONS: readonly { readonly name: string; readonly expr: string }[] = SOURCES.map((source) => ({
  name: source.name,
  datasource: DATASOURCE.prometheus,
  enable: source.enabled,
  hide: false,
  iconColor: source.colour,
  expr: source.expr,
  step: '1m',
  titleFormat: source.title,
  textFormat: source.text,
}));
