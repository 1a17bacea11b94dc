/**
 * The steps of a build out of its trace: where each ran, why it was not cached, what it used, and which of them decided how long the
 * build took. Pure. Attributes it has no field for are passed on as facts, so that what the trace learns later is shown without a change here.
 */
import type { TraceSpan } from '../ops-providers.ts';
import type { Step, StepState, Steps } from './model.ts';

type Attributes = TraceSpan['attributes'];
type Writable<T> = { -readonly [K in keyof T]: T[K] };

/** Undefined when the trace has no root, so nothing of ours in it. */
export function stepsOf(spans: readonly TraceSpan[]): Steps | undefined {
  const root = spans.find(({ attributes }) => attributes['cicd.pipeline.run.id'] !== undefined);
  if (root === undefined) return undefined;
  const phases = new Map<string, TraceSpan[]>();
  for (const span of spans) {
    if (span.attributes['cooper.phase'] === undefined || span.parentSpanId === undefined) continue;
    phases.set(span.parentSpanId, [...(phases.get(span.parentSpanId) ?? []), span]);
  }
  const isStep = ({ attributes }: TraceSpan): boolean => attributes['cicd.pipeline.task.run.id'] !== undefined;
  const steps = spans.filter(isStep).map((span) => stepOf(span, root.startNs, phases.get(span.spanId) ?? []));
  withoutWaiting(steps);
  steps.sort((a, b) => a.startMs - b.startMs || a.endMs - b.endMs);
  const durationMs = msBetween(root.startNs, root.endNs);
  const length = ({ startMs, endMs }: Step): number => endMs - startMs;
  const chain = criticalPathOf(steps);
  for (const step of steps) step.critical = chain.has(step.id) && (step.state !== 'cached' || length(step) > durationMs / 100);
  return {
    startedAt: new Date(Number(root.startNs / 1_000_000n)).toISOString(),
    durationMs,
    criticalMs: coveredMs(steps.filter(({ critical }) => critical)),
    accumulatedMs: round(steps.reduce((sum, step) => sum + length(step), 0)),
    complete: root.attributes['cooper.incomplete'] !== true,
    steps,
  };
}

/**
 * A step's span begins with its first look-up and, when it came from the cache, ends when somebody wanted its result. Between is
 * waiting: a cached step ends here with its last phase, and a step that worked begins when its last input was there.
 */
function withoutWaiting(steps: readonly Writable<Step>[]): void {
  for (const step of steps)
    if (step.state === 'cached') step.endMs = Math.max(step.startMs, ...step.phases.map((phase) => phase.endMs));
  const ends = new Map(steps.map(({ id, endMs }) => [id, endMs]));
  for (const step of steps) {
    if (step.state === 'cached') continue;
    const ready = Math.max(step.startMs, ...step.inputs.map((id) => ends.get(id) ?? 0));
    const work = step.phases.filter(({ name }) => !BEFORE_WORK.has(name)).map(({ startMs }) => startMs);
    const from = Math.min(ready, ...work);
    if (from <= step.endMs) step.startMs = from;
  }
}
const BEFORE_WORK = new Set(['lookup', 'key', 'queue']);

/** Time in which at least one of the steps ran. */
function coveredMs(steps: readonly Step[]): number {
  let covered = 0;
  let until = 0;
  for (const { startMs, endMs } of steps.toSorted((a, b) => a.startMs - b.startMs)) {
    covered += Math.max(0, endMs - Math.max(startMs, until));
    until = Math.max(until, endMs);
  }
  return round(covered);
}

/**
 * Ids of the chain that decided the end: from the step that ended last, always to the input that ended last. A step that used no
 * input's result (another build ran them, or the graph is flat) is continued by the step that ended last before it started, when the
 * gap is too small to have another reason.
 */
export function criticalPathOf(steps: readonly Pick<Step, 'id' | 'startMs' | 'endMs' | 'inputs' | 'op'>[]): Set<string> {
  type Node = (typeof steps)[number];
  const byId = new Map(steps.map((step) => [step.id, step]));
  const lastOf = (of: readonly Node[]): Node | undefined =>
    of.reduce<Node | undefined>((last, step) => (last === undefined || step.endMs > last.endMs ? step : last), undefined);
  const chain = new Set<string>();
  const byEnd = steps.toSorted((a, b) => b.endMs - a.endMs);
  for (let at = lastOf(steps); at !== undefined && !chain.has(at.id); ) {
    chain.add(at.id);
    const current: Node = at;
    const inputs = current.inputs.flatMap((id) => byId.get(id) ?? []).filter(({ id }) => !chain.has(id));
    const before = (step: Node): boolean =>
      !chain.has(step.id) && step.endMs <= current.startMs + SLACK_MS && current.startMs - step.endMs < GAP_MS;
    at = lastOf(inputs) ?? byEnd.find(before);
  }
  return chain;
}
const SLACK_MS = 1;
const GAP_MS = 250;

function stepOf(span: TraceSpan, originNs: bigint, phases: readonly TraceSpan[]): Writable<Step> {
  const { attributes } = span;
  const cpuSeconds = numberOf(attributes['cooper.step.cpu_seconds']);
  const peakMemoryBytes = numberOf(attributes['cooper.step.peak_memory_bytes']);
  return {
    id: span.spanId,
    digest: String(attributes['cicd.pipeline.task.run.id']),
    name: span.name,
    op: String(attributes['cooper.step.op'] ?? 'internal'),
    state: stateOf(span),
    startMs: msBetween(originNs, span.startNs),
    endMs: msBetween(originNs, span.endNs),
    inputs: span.links.map(({ spanId }) => spanId),
    critical: false,
    cacheable: attributes['cooper.step.cacheable'] === true,
    ...cacheOf(attributes),
    phases: phases.map((phase) => ({
      name: String(phase.attributes['cooper.phase']),
      startMs: msBetween(originNs, phase.startNs),
      endMs: msBetween(originNs, phase.endNs),
    })),
    ...(cpuSeconds === undefined ? {} : { cpuSeconds }),
    ...(peakMemoryBytes === undefined ? {} : { peakMemoryBytes }),
    ...(attributes['cooper.step.oom_killed'] === true ? { oomKilled: true } : {}),
    ...(span.statusMessage === undefined ? {} : { error: span.statusMessage }),
    facts: factsOf(attributes),
    events: span.events.map((event) => ({
      name: event.name,
      atMs: msBetween(originNs, event.atNs),
      detail: Object.entries(event.attributes)
        .map(([key, value]) => `${key.replace(/^cooper\./, '')}=${String(value)}`)
        .join(' '),
    })),
  };
}

function stateOf({ attributes, status }: TraceSpan): StepState {
  if (attributes['cooper.incomplete'] === true) return 'running';
  if (attributes['cooper.step.cached'] === true) return 'cached';
  if (attributes['cicd.pipeline.task.run.result'] === 'cancellation') return 'cancelled';
  return status === 'error' ? 'failed' : 'done';
}

function cacheOf(attributes: Attributes): Pick<Step, 'cache'> {
  const hit = attributes['cooper.cache.hit'];
  if (typeof hit !== 'boolean') return {};
  const text = (key: string): string | undefined => (attributes[key] === undefined ? undefined : String(attributes[key]));
  const [location, reason, detail] = ['location', 'miss_reason', 'miss_detail'].map((key) => text(`cooper.cache.${key}`));
  return {
    cache: {
      hit,
      ...(location === undefined ? {} : { location }),
      ...(reason === undefined || hit ? {} : { reason }),
      ...(detail === undefined || hit ? {} : { detail }),
    },
  };
}

const SHOWN = new Set([
  'cooper.step.op',
  'cooper.step.cached',
  'cooper.step.cacheable',
  'cooper.step.cpu_seconds',
  'cooper.step.peak_memory_bytes',
  'cooper.step.oom_killed',
  'cooper.cache.hit',
  'cooper.cache.location',
  'cooper.cache.miss_reason',
  'cooper.cache.miss_detail',
  'cooper.incomplete',
]);
const factsOf = (attributes: Attributes): Record<string, string> =>
  Object.fromEntries(
    Object.entries(attributes)
      .filter(([key]) => !SHOWN.has(key) && !key.startsWith('cicd.'))
      .map(([key, value]) => [key.replace(/^cooper\.(step\.)?/, ''), Array.isArray(value) ? value.join(', ') : String(value)]),
  );

const numberOf = (value: Attributes[string] | undefined): number | undefined => (value === undefined ? undefined : Number(value));
const msBetween = (fromNs: bigint, toNs: bigint): number => round(Number(toNs - fromNs) / 1e6);
const round = (value: number): number => Math.round(value * 1000) / 1000;
