/**
 * One build as a trace: `BUILD <target>` over a span per step over a span per phase. Steps are siblings below the root, because a
 * graph is no tree; a step links to the steps whose results it waited for. Names and attributes follow the OpenTelemetry CICD
 * conventions (https://opentelemetry.io/docs/specs/semconv/cicd/cicd-spans/), ours are under `cooper.`.
 */
import type { BuildEvent, BuildId, MissCause, StepInfo, StepUsage } from '../builder/events.ts';
import { nsToSeconds, rfc3339 } from '../core/clock.ts';
import type { VertexDigest } from '../core/digest.ts';
import { ERROR_KINDS, type ErrorKind } from '../core/errors.ts';
import {
  type Attributes,
  type AttributeValue,
  type FinishedSpan,
  parseTraceparent,
  type SpanEvent,
  spanIdOf,
  type TraceContext,
  traceIdOf,
} from './span.ts';

type Queued = BuildEvent & { type: 'build-queued' };
type Finished = BuildEvent & { type: 'build-finished' };

interface Interval {
  readonly name: string;
  readonly startNs: bigint;
  readonly endNs: bigint;
}
interface StepTrace {
  readonly info: StepInfo | undefined;
  startNs: bigint | undefined;
  /** Start of an interval that only finds out the key of a source. */
  keyStartNs: bigint | undefined;
  endNs: bigint | undefined;
  readonly phases: Interval[];
  readonly events: SpanEvent[];
  readonly cache: Record<string, AttributeValue>;
  outcome: 'cached' | 'executed' | ErrorKind | undefined;
  error: string | undefined;
  usage: StepUsage | undefined;
}

export const MAX_SPANS_PER_BUILD = 20_000;
const MAX_EVENTS_PER_STEP = 64; // progress lines of a pull with many layers; more would crowd out the picture
const MAX_NAME = 256;
const SHORTEST_PHASE_NS = 1_000_000n; // a waterfall of a step's microseconds hides its seconds; the metrics count every phase
const SCOPE = 'cooper';

export class BuildTrace {
  readonly build: BuildId;
  readonly traceId: string;
  readonly rootSpanId: string;
  /** False when the client said its trace is not sampled: kept here, not exported. */
  readonly sampled: boolean;
  readonly #queued: Queued;
  readonly #parent: TraceContext | undefined;
  readonly #resource: Attributes;
  readonly #steps = new Map<VertexDigest, StepTrace>();
  #startedNs: bigint | undefined;
  #firstArtifactNs: bigint | undefined;
  #lastNs: bigint;
  #finished: Finished | undefined;
  #spans: readonly FinishedSpan[] | undefined;
  /** Spans not made because the build has too many steps. */
  dropped = 0;

  constructor(queued: Queued, resource: Attributes) {
    this.#queued = queued;
    this.#resource = resource;
    this.#lastNs = queued.atNs;
    this.build = queued.build;
    this.#parent = parseTraceparent(queued.traceparent);
    this.traceId = this.#parent?.traceId ?? traceIdOf(queued.build, String(queued.atNs));
    this.sampled = this.#parent?.sampled ?? true;
    this.rootSpanId = spanIdOf(this.traceId, queued.build);
  }

  get isFinished(): boolean {
    return this.#finished !== undefined;
  }

  /** About how many spans the trace has, without making them. */
  get size(): number {
    return this.#spans?.length ?? Math.min(this.#steps.size * 3 + 2, MAX_SPANS_PER_BUILD);
  }

  stepSpanId(step: VertexDigest): string {
    return spanIdOf(this.traceId, this.build, step);
  }

  /** The span a step's process should take as its parent; known before the step starts. */
  contextOf(step: VertexDigest): TraceContext {
    return { traceId: this.traceId, spanId: this.stepSpanId(step), sampled: this.sampled };
  }

  record(event: BuildEvent): void {
    if (this.isFinished) return; // a late report; the trace may have been sent already
    if (event.atNs > this.#lastNs) this.#lastNs = event.atNs;
    if (event.type === 'build-started') this.#startedNs = event.atNs;
    else if (event.type === 'build-finished') this.#finished = event;
    else if (event.type === 'first-artifact') this.#firstArtifactNs = event.atNs;
    else if (event.type === 'steps-announced') for (const info of event.steps) this.#announce(info);
    else if ('step' in event) recordStep(this.#step(event.step), event);
  }

  /** Root first, then steps in the order they were announced, each followed by its phases. A running build ends "now". */
  spans(): readonly FinishedSpan[] {
    if (this.#spans !== undefined) return this.#spans;
    const spans = [this.#root(), ...this.#rootPhases()];
    for (const [digest, step] of this.#steps) {
      const made = this.#stepSpans(digest, step);
      if (spans.length + made.length <= MAX_SPANS_PER_BUILD) spans.push(...made);
      else this.dropped += made.length;
    }
    if (this.isFinished) this.#spans = spans;
    return spans;
  }

  #announce(info: StepInfo): void {
    if (!this.#steps.has(info.step)) this.#steps.set(info.step, newStep(info));
  }

  #step(digest: VertexDigest): StepTrace {
    const known = this.#steps.get(digest);
    if (known !== undefined) return known;
    const step = newStep(undefined);
    this.#steps.set(digest, step);
    return step;
  }

  #root(): FinishedSpan {
    const { exporters, triggeredAtNs } = this.#queued;
    const target = this.#queued.target || 'default'; // no target asked for: the last stage
    const end = this.#finished;
    const failed = end !== undefined && end.result !== 'success' && end.result !== 'cancellation';
    return {
      ...this.#base(`BUILD ${target}`, this.rootSpanId, this.#queued.atNs, this.#lastNs),
      kind: 'server',
      ...(this.#parent !== undefined && { parentSpanId: this.#parent.spanId, parentIsRemote: true }),
      attributes: {
        'cicd.pipeline.name': target,
        'cicd.pipeline.action.name': 'BUILD',
        'cicd.pipeline.run.id': this.build,
        ...(end === undefined ? { 'cooper.incomplete': true } : { 'cicd.pipeline.result': end.result }),
        ...(end?.kind !== undefined && { 'error.type': end.kind, 'cooper.fault': ERROR_KINDS[end.kind].fault }),
        'cicd.worker.id': String(this.#resource['service.instance.id'] ?? ''),
        ...vcsAttributes(this.#queued.vcs),
        'cooper.exporters': exporters,
        ...(triggeredAtNs !== undefined && { 'cooper.triggered_at': rfc3339(triggeredAtNs) }),
        ...(this.#firstArtifactNs !== undefined && {
          'cooper.first_artifact_seconds': nsToSeconds(this.#firstArtifactNs - (triggeredAtNs ?? this.#queued.atNs)),
        }),
        'cooper.steps': this.#steps.size,
      },
      status: failed ? 'error' : 'unset',
      ...(failed && end.error !== undefined && { statusMessage: end.error }),
    };
  }

  #rootPhases(): FinishedSpan[] {
    const startedNs = this.#startedNs;
    if (startedNs === undefined || startedNs - this.#queued.atNs < SHORTEST_PHASE_NS) return [];
    return [this.#phase(this.rootSpanId, { name: 'queue', startNs: this.#queued.atNs, endNs: startedNs }, 0)];
  }

  /** A step nobody started or ended has no span: it was announced and not needed. */
  #stepSpans(digest: VertexDigest, step: StepTrace): FinishedSpan[] {
    const begunNs = step.startNs ?? step.keyStartNs ?? step.endNs;
    if (begunNs === undefined) return [];
    const startNs = this.#inside(earliest([begunNs, ...step.phases.map((phase) => phase.startNs)]));
    const spanId = this.stepSpanId(digest);
    const result = resultOf(step.outcome);
    const failed = result === 'failure' || result === 'error' || result === 'timeout';
    const span: FinishedSpan = {
      ...this.#base(step.info?.name ?? digest, spanId, startNs, this.#inside(step.endNs ?? this.#lastNs)),
      parentSpanId: this.rootSpanId,
      attributes: {
        'cicd.pipeline.task.name': step.info?.name ?? digest,
        'cicd.pipeline.task.run.id': digest,
        'cicd.pipeline.task.type': 'build',
        ...(result === undefined ? { 'cooper.incomplete': true } : { 'cicd.pipeline.task.run.result': result }),
        'cooper.step.op': step.info?.op ?? 'internal',
        'cooper.step.cached': step.outcome === 'cached',
        'cooper.step.cacheable': step.info?.cacheable === true,
        ...step.cache,
        ...(failed && { 'error.type': step.outcome ?? 'internal' }),
        ...(step.info?.progressGroup !== undefined && { 'cooper.step.group': step.info.progressGroup.name }),
        ...usageAttributes(step.usage),
      },
      events: step.events,
      links: (step.info?.inputs ?? [])
        .filter((input) => this.#hasSpan(input))
        .map((input) => ({ traceId: this.traceId, spanId: this.stepSpanId(input), attributes: { 'cooper.link': 'input' } })),
      status: failed ? 'error' : 'unset',
      ...(failed && step.error !== undefined && { statusMessage: step.error }),
    };
    const phases = step.phases.map((phase) => ({
      ...phase,
      startNs: this.#inside(phase.startNs),
      endNs: this.#inside(phase.endNs),
    }));
    return [span, ...phases.map((phase, index) => this.#phase(spanId, phase, index))];
  }

  /** A step that another build began earlier begins, in this trace, with this build. */
  #inside(ns: bigint): bigint {
    return ns < this.#queued.atNs ? this.#queued.atNs : ns;
  }

  #hasSpan(digest: VertexDigest): boolean {
    const step = this.#steps.get(digest);
    return step !== undefined && (step.startNs ?? step.keyStartNs ?? step.endNs) !== undefined;
  }

  #phase(parentSpanId: string, phase: Interval, index: number): FinishedSpan {
    const spanId = spanIdOf(parentSpanId, phase.name, String(index));
    return {
      ...this.#base(phase.name, spanId, phase.startNs, phase.endNs),
      parentSpanId,
      attributes: { 'cooper.phase': phase.name },
    };
  }

  #base(name: string, spanId: string, startNs: bigint, endNs: bigint): FinishedSpan {
    return {
      name: name.slice(0, MAX_NAME),
      traceId: this.traceId,
      spanId,
      kind: 'internal',
      startNs,
      endNs: endNs > startNs ? endNs : startNs,
      attributes: {},
      events: [],
      links: [],
      status: 'unset',
      resource: this.#resource,
      scope: SCOPE,
    };
  }
}

/** A password in the address of a repository is not for traces. */
function vcsAttributes(vcs: Queued['vcs']): Attributes {
  const source = vcs?.source?.replace(/(?<=:\/\/)[^/@]*@/, '').slice(0, MAX_NAME);
  return {
    ...(source !== undefined && { 'vcs.repository.url.full': source }),
    ...(vcs?.revision !== undefined && { 'vcs.ref.head.revision': vcs.revision.slice(0, MAX_NAME) }),
  };
}

function earliest(times: readonly bigint[]): bigint {
  const [first = 0n] = [...times].sort((a, b) => (a < b ? -1 : 1));
  return first;
}

const newStep = (info: StepInfo | undefined): StepTrace => ({
  info,
  startNs: undefined,
  keyStartNs: undefined,
  endNs: undefined,
  phases: [],
  events: [],
  cache: {},
  outcome: undefined,
  error: undefined,
  usage: undefined,
});

type StepEvent = Extract<BuildEvent, { readonly step: VertexDigest }>;

function recordStep(step: StepTrace, event: StepEvent): void {
  switch (event.type) {
    case 'step-started':
      if (event.forKey === true) step.keyStartNs = event.atNs;
      else step.startNs ??= event.atNs;
      return;
    case 'cache-lookup':
      return event.hit ? recordHit(step, event) : recordMiss(step, event);
    case 'cache-explained':
      return recordCause(step, event.cause);
    case 'step-phase':
      if (event.atNs - event.startedAtNs < SHORTEST_PHASE_NS) return;
      step.phases.push({ name: event.phase, startNs: event.startedAtNs, endNs: event.atNs });
      return;
    case 'step-status':
      if (event.completedAtNs === undefined) return;
      return addEvent(step, event.name || event.id, event.completedAtNs, {
        'cooper.status.bytes': event.current,
        'cooper.status.seconds': nsToSeconds(event.completedAtNs - event.startedAtNs),
      });
    case 'step-warning':
      return addEvent(step, 'warning', event.atNs, { 'cooper.warning': event.short });
    case 'sensitive-use':
      return addEvent(step, `${event.kind} ${event.granted ? 'used' : 'refused'}`, event.atNs, { 'cooper.audit.id': event.id });
    case 'secret-leaked':
      return addEvent(step, 'secret leaked', event.atNs, { 'cooper.audit.id': event.id, 'cooper.audit.path': event.path });
    case 'step-log':
    case 'step-resources': // the finished step tells the sum; a sample a second would crowd out the picture
      return;
    case 'step-finished':
      step.endNs = event.atNs;
      if (event.forKey === true && step.keyStartNs !== undefined && event.atNs - step.keyStartNs >= SHORTEST_PHASE_NS) {
        step.phases.push({ name: 'key', startNs: step.keyStartNs, endNs: event.atNs });
      }
      step.outcome = event.outcome;
      step.error = event.error;
      step.usage = event.usage ?? step.usage;
      return;
  }
}

type Lookup = Extract<StepEvent, { readonly type: 'cache-lookup' }>;

function recordHit(step: StepTrace, event: Extract<Lookup, { readonly hit: true }>): void {
  Object.assign(step.cache, {
    'cooper.cache.hit': true,
    'cooper.cache.location': event.implied === true ? 'implied' : event.location,
    ...(event.backend !== undefined && { 'cooper.cache.backend': event.backend }),
    ...(event.savedNs !== undefined && { 'cooper.cache.saved_seconds': nsToSeconds(event.savedNs) }),
  });
}

function recordMiss(step: StepTrace, { reason, detail, cause }: Extract<Lookup, { readonly hit: false }>): void {
  Object.assign(step.cache, { 'cooper.cache.hit': false, 'cooper.cache.miss_reason': reason });
  if (cause !== undefined) recordCause(step, cause);
  else if (detail !== undefined) step.cache['cooper.cache.miss_detail'] = detail;
}

function recordCause(step: StepTrace, { summary, because, against }: MissCause): void {
  Object.assign(step.cache, {
    'cooper.cache.miss_detail': summary,
    ...(because !== undefined && { 'cooper.cache.because': because.name }),
    ...(against !== undefined && { 'cooper.cache.compared_with': against }),
  });
}

function addEvent(step: StepTrace, name: string, atNs: bigint, attributes: Attributes): void {
  if (step.events.length < MAX_EVENTS_PER_STEP) step.events.push({ name: name.slice(0, MAX_NAME), atNs, attributes });
}

/** The words of cicd.pipeline.task.run.result. */
function resultOf(outcome: StepTrace['outcome']): string | undefined {
  if (outcome === undefined) return undefined;
  if (outcome === 'cached' || outcome === 'executed') return 'success';
  if (outcome === 'cancelled') return 'cancellation';
  if (outcome === 'timed-out') return 'timeout';
  return ERROR_KINDS[outcome].fault === 'user' ? 'failure' : 'error';
}

function usageAttributes(usage: StepUsage | undefined): Attributes {
  if (usage === undefined) return {};
  return {
    'cooper.step.cpu_seconds': nsToSeconds(usage.cpuNs),
    'cooper.step.peak_memory_bytes': usage.peakMemoryBytes,
    'cooper.step.oom_killed': usage.oomKilled,
    ...(usage.memoryLimitBytes !== undefined && { 'cooper.step.memory_limit_bytes': usage.memoryLimitBytes }),
    ...(usage.readBytes !== undefined && { 'cooper.step.io_read_bytes': usage.readBytes }),
    ...(usage.writeBytes !== undefined && { 'cooper.step.io_write_bytes': usage.writeBytes }),
    ...(usage.throttledNs !== undefined && { 'cooper.step.cpu_throttled_seconds': nsToSeconds(usage.throttledNs) }),
    ...(usage.oom !== undefined && { 'cooper.step.oom_scope': usage.oom.scope }),
    ...(usage.oom?.process !== undefined && { 'cooper.step.oom_process': usage.oom.process }),
    ...pressureAttributes(usage),
  };
}

/** Time that at least one process of the step, or all of them, had to wait for the resource. */
function pressureAttributes({ pressure }: StepUsage): Attributes {
  const entries = Object.entries(pressure ?? {}).flatMap(([resource, { some, full }]) => [
    [`cooper.step.pressure_${resource}_some_seconds`, nsToSeconds(some.totalNs)],
    [`cooper.step.pressure_${resource}_full_seconds`, nsToSeconds(full.totalNs)],
  ]);
  return Object.fromEntries(entries) as Attributes;
}
