/**
 * The instruments: catalog.ts made into a prom-client registry. A label value outside its closed set becomes `other`, and a metric
 * that has spent its series budget folds further label sets into `other`; both are counted, neither throws. Everything is 0 from the
 * start, so that the first event is an increase Prometheus can see.
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { CATALOG, LABEL_OVERFLOW } from './catalog.ts';
import { type Labels, type LabelsOf, type MetricKind, type MetricSpec, OTHER, type Selection } from './metric-spec.ts';

/** Links an observation to the span it came from (OpenMetrics exemplar). */
export interface ExemplarLabels {
  readonly trace_id: string;
  readonly span_id: string;
}

type AnyRegistry = Registry<typeof Registry.PROMETHEUS_CONTENT_TYPE | typeof Registry.OPENMETRICS_CONTENT_TYPE>;
type Instrument = Counter | Gauge | Histogram;
interface Registered {
  readonly spec: MetricSpec;
  readonly names: readonly string[];
  readonly instrument: Instrument;
  /** Label sets in use, as text; bounded by the spec's budget. */
  readonly known: Map<string, Labels>;
}

export interface Scrape {
  readonly contentType: string;
  readonly body: string;
}

/** Scrapes a second that are each rendered anew; more are answered with a rendering that is at most REUSE_MS old. */
const FRESH_SCRAPES_PER_S = 10;
const REUSE_MS = 250;

export class Metrics {
  readonly #registry: AnyRegistry = new Registry();
  readonly #registered = new Map<string, Registered>();
  readonly #collectors: (() => void)[] = [];
  /** The last rendering of each format, and when the last few were made. */
  readonly #rendered = new Map<boolean, { readonly atMs: number; readonly scrape: Promise<Scrape> }>();
  readonly #renderedAtMs: number[] = [];
  /** Scrapes run one after the other: the registry's content type is state (see #render). */
  #rendering: Promise<unknown> = Promise.resolve();
  readonly #onCollectorError: (error: unknown) => void;

  constructor(onCollectorError: (error: unknown) => void = () => {}) {
    this.#onCollectorError = onCollectorError;
    // Exemplars can be declared only on a registry that is OpenMetrics at that moment; #render switches per scrape.
    this.#registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
    for (const spec of CATALOG) this.#register(spec);
  }

  add<M extends MetricSpec<'counter' | 'gauge'>>(metric: M, labels: LabelsOf<M>, by = 1): void {
    const found = this.#find(metric);
    if (!Number.isFinite(by) || (by < 0 && metric.kind === 'counter')) return;
    (found.instrument as Counter | Gauge).inc(this.#fit(found, labels), by);
  }

  set<M extends MetricSpec<'gauge'>>(metric: M, labels: LabelsOf<M>, value: number): void {
    const found = this.#find(metric);
    if (Number.isFinite(value)) (found.instrument as Gauge).set(this.#fit(found, labels), value);
  }

  /** Takes a gauge without labels out of the scrape: there is nothing to say. */
  clear(metric: MetricSpec<'gauge'>): void {
    const found = this.#find(metric);
    for (const labels of found.known.values()) (found.instrument as Gauge).remove(labels);
    found.known.clear();
  }

  observe<M extends MetricSpec<'histogram'>>(metric: M, labels: LabelsOf<M>, value: number, exemplar?: ExemplarLabels): void {
    const found = this.#find(metric);
    if (!Number.isFinite(value)) return;
    const fitted = this.#fit(found, labels);
    const histogram = found.instrument as Histogram;
    // prom-client swaps the meaning of observe() when exemplars are on.
    if (metric.exemplars) histogram.observe({ labels: fitted, value, ...(exemplar && { exemplarLabels: { ...exemplar } }) });
    else histogram.observe(fitted, value);
  }

  /** A monotonic total that something else counts: the counter follows it. */
  follow<M extends MetricSpec<'counter'>>(metric: M, labels: LabelsOf<M>, total: number, last: { value: number }): void {
    if (total > last.value) this.add(metric, labels, total - last.value);
    last.value = total;
  }

  /** Runs before every scrape; for gauges that are cheaper to look up than to keep. Must be quick and must not wait. */
  onCollect(collector: () => void): void {
    this.#collectors.push(collector);
  }

  /**
   * The exposition in the format the scraper prefers: OpenMetrics (with exemplars) when `accept` names it, else the text format.
   * Scrapers that ask too often share renderings, so that they cannot keep the control loop busy.
   */
  scrape(accept = ''): Promise<Scrape> {
    const openMetrics = /application\/openmetrics-text/.test(accept);
    const nowMs = performance.now();
    const last = this.#rendered.get(openMetrics);
    const many = nowMs - (this.#renderedAtMs[0] ?? Number.NEGATIVE_INFINITY) < 1_000;
    if (last !== undefined && many && this.#renderedAtMs.length >= FRESH_SCRAPES_PER_S && nowMs - last.atMs < REUSE_MS)
      return last.scrape;
    const scrape = this.#rendering.then(() => this.#render(openMetrics));
    this.#rendering = scrape.catch(() => {});
    this.#rendered.set(openMetrics, { atMs: nowMs, scrape });
    this.#renderedAtMs.push(nowMs);
    if (this.#renderedAtMs.length > FRESH_SCRAPES_PER_S) this.#renderedAtMs.shift();
    return scrape;
  }

  /** Current sums, for the SLO evaluator: the same series Prometheus would add up. Gauges are looked up first, as for a scrape. */
  async read(selections: readonly Selection[]): Promise<number[]> {
    if (selections.some(({ metric }) => this.#registered.get(metric)?.spec.kind === 'gauge')) this.#collect();
    return Promise.all(selections.map((selection) => this.#sum(selection)));
  }

  /** Label sets in use per metric; never above the budget. */
  seriesCounts(): ReadonlyMap<string, number> {
    return new Map([...this.#registered].map(([name, { known }]) => [name, known.size]));
  }

  async #sum({ metric, where, le }: Selection): Promise<number> {
    const found = this.#registered.get(metric);
    if (found === undefined) throw new Error(`${metric} is not in the catalog`);
    const sample = found.spec.kind !== 'histogram' ? metric : le === undefined ? `${metric}_count` : `${metric}_bucket`;
    const { values } = await found.instrument.get();
    let sum = 0;
    for (const value of values as readonly { metricName?: string; value: number; labels: Record<string, string | number> }[]) {
      if (found.spec.kind === 'histogram' && value.metricName !== sample) continue;
      if (le !== undefined && value.labels.le !== le) continue;
      if (Object.entries(where).every(([label, allowed]) => allowed.includes(String(value.labels[label])))) sum += value.value;
    }
    return sum;
  }

  /** prom-client cuts `_total` off the stored names of counters when it renders OpenMetrics, so they are put back afterwards. */
  async #render(openMetrics: boolean): Promise<Scrape> {
    this.#collect();
    const contentType = openMetrics ? Registry.OPENMETRICS_CONTENT_TYPE : Registry.PROMETHEUS_CONTENT_TYPE;
    this.#registry.setContentType(contentType);
    try {
      return { contentType, body: await this.#registry.metrics() };
    } finally {
      for (const { spec, instrument } of this.#registered.values()) (instrument as unknown as { name: string }).name = spec.name;
    }
  }

  #collect(): void {
    for (const collector of this.#collectors) {
      try {
        collector();
      } catch (error) {
        this.#onCollectorError(error);
      }
    }
  }

  #register(spec: MetricSpec): void {
    const options = {
      name: spec.name,
      help: spec.help,
      labelNames: Object.keys(spec.labels),
      registers: [this.#registry],
    };
    const registered: Registered = {
      spec,
      names: Object.keys(spec.labels),
      instrument: instrumentOf(spec, options),
      known: new Map(),
    };
    this.#registered.set(spec.name, registered);
    if (spec.series.length === 0) registered.instrument.remove({}); // without labels it would start at 0
    for (const labels of spec.series) {
      registered.known.set(keyOf(registered.names, labels), labels);
      initialise(registered.instrument, labels);
    }
  }

  #find(metric: MetricSpec): Registered {
    const found = this.#registered.get(metric.name);
    if (found === undefined) throw new Error(`${metric.name} is not in the catalog`);
    return found;
  }

  /** The label set to use: each value inside its closed set, the whole inside the budget. */
  #fit(found: Registered, labels: Labels): Labels {
    const { spec, names, known } = found;
    const key = keyOf(names, labels);
    const hit = known.get(key);
    if (hit !== undefined) return hit;
    const fitted: Record<string, string> = {};
    for (const [name, values] of Object.entries(spec.labels)) {
      const value = labels[name] ?? OTHER;
      const allowed = value === OTHER || values.length === 0 || values.includes(value);
      if (!allowed) this.#overflow('unknown_value');
      fitted[name] = allowed ? value : OTHER;
    }
    const fittedKey = keyOf(names, fitted);
    const existing = known.get(fittedKey);
    if (existing !== undefined) return existing;
    if (known.size < spec.maxSeries) {
      known.set(fittedKey, fitted);
      return fitted;
    }
    this.#overflow('budget');
    return Object.fromEntries(Object.keys(spec.labels).map((name) => [name, OTHER]));
  }

  #overflow(reason: string): void {
    this.add(LABEL_OVERFLOW, { reason });
  }
}

/** On the way of every observation, so without arrays. */
function keyOf(names: readonly string[], labels: Labels): string {
  let key = '';
  for (const name of names) key += `${labels[name] ?? OTHER}\0`;
  return key;
}

function instrumentOf(
  spec: MetricSpec<MetricKind>,
  options: { name: string; help: string; labelNames: string[]; registers: AnyRegistry[] },
): Instrument {
  if (spec.kind === 'counter') return new Counter(options);
  if (spec.kind === 'gauge') return new Gauge(options);
  return new Histogram({ ...options, buckets: [...spec.buckets], enableExemplars: spec.exemplars });
}

function initialise(instrument: Instrument, labels: Labels): void {
  if (instrument instanceof Histogram) instrument.zero(labels);
  else instrument.inc(labels, 0);
}
