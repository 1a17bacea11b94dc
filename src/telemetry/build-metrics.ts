/**
 * Build events in, instruments out. State per build is dropped when the build ends; nothing here waits, and nothing here can fail a
 * build (metrics.ts never throws on data).
 */
import type { BuildEvent, BuildId, CacheLocation, EventSink, ResourceSample, StepInfo } from '../builder/events.ts';
import { type Clock, nsToSeconds } from '../core/clock.ts';
import type { VertexDigest } from '../core/digest.ts';
import { assertNever, ERROR_KINDS, type ErrorKind, GRPC } from '../core/errors.ts';
import * as catalog from './catalog.ts';
import * as cicd from './catalog-cicd.ts';
import { FIRST_ARTIFACT, SECRET_LEAKS } from './catalog-service.ts';

import type { ExemplarLabels, Metrics } from './metrics.ts';
import { countEnd, countResources, showRunning } from './step-resources.ts';

/** Where the spans of a build are, so that an observation can point at one. */
export interface SpanLookup {
  rootOf(build: BuildId): ExemplarLabels | undefined;
  stepOf(build: BuildId, step: VertexDigest): ExemplarLabels | undefined;
}

interface StepState {
  readonly info: StepInfo | undefined;
  startedAtNs: bigint | undefined;
  queuedNs: bigint;
  hit: CacheLocation | undefined;
  missed: boolean;
  outcome: string | undefined;
  /** The last one of a process that runs. */
  sample: ResourceSample | undefined;
}
interface BuildState {
  readonly internal: boolean;
  readonly queuedAtNs: bigint;
  readonly triggeredAtNs: bigint | undefined;
  startedAtNs: bigint | undefined;
  exportStartedAtNs: bigint | undefined;
  exportEndedAtNs: bigint | undefined;
  warnings: number;
  readonly steps: Map<VertexDigest, StepState>;
}

/** Builds remembered at once; far above what a daemon admits, so only a builder that never reports an end could reach it. */
const MAX_BUILDS = 10_000;

/** The sink that feeds every build, step and cache metric of the catalog. */
export function buildMetrics(metrics: Metrics, clock: Clock, spans: SpanLookup): EventSink {
  const builds = new Map<BuildId, BuildState>();
  /** Output and usage reach every build that shares a step as the same object; the process existed once. */
  const counted = new WeakSet<object>();
  const running = new RunningSteps(metrics);
  metrics.onCollect(() => collectBuilds(metrics, builds, clock.nowNs()));
  return {
    emit(event) {
      if (event.type === 'build-queued') {
        if (builds.size < MAX_BUILDS) builds.set(event.build, newBuild(event));
        return;
      }
      const build = builds.get(event.build);
      if (build === undefined) return; // a late report of a build that has ended
      onEvent({ metrics, spans, counted }, build, event);
      running.see(event);
      if (event.type === 'build-finished') builds.delete(event.build);
    },
  };
}

function newBuild({ internal, atNs, triggeredAtNs }: BuildEvent & { type: 'build-queued' }): BuildState {
  return {
    internal,
    queuedAtNs: atNs,
    triggeredAtNs,
    startedAtNs: undefined,
    exportStartedAtNs: undefined,
    exportEndedAtNs: undefined,
    warnings: 0,
    steps: new Map(),
  };
}

/** Which steps run now, and for how many builds: a step that starts for a second build while the first runs it is shared. */
class RunningSteps {
  readonly #metrics: Metrics;
  readonly #builds = new Map<VertexDigest, Set<BuildId>>();

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
    metrics.onCollect(() => metrics.set(catalog.STEPS_IN_FLIGHT, {}, this.#builds.size));
  }

  see(event: LaterEvent): void {
    if (event.type === 'step-started') this.#started(event.step, event.build);
    else if (event.type === 'step-finished') this.#ended(event.step, event.build);
    else if (event.type === 'build-finished') for (const step of this.#builds.keys()) this.#ended(step, event.build);
  }

  #started(step: VertexDigest, build: BuildId): void {
    const builds = this.#builds.get(step);
    if (builds === undefined) this.#builds.set(step, new Set([build]));
    else if (!builds.has(build)) {
      builds.add(build);
      this.#metrics.add(catalog.STEPS_SHARED, {});
    }
  }

  #ended(step: VertexDigest, build: BuildId): void {
    const builds = this.#builds.get(step);
    if (builds?.delete(build) === true && builds.size === 0) this.#builds.delete(step);
  }
}

type LaterEvent = Exclude<BuildEvent, { type: 'build-queued' }>;

interface Out {
  readonly metrics: Metrics;
  readonly spans: SpanLookup;
  readonly counted: WeakSet<object>;
}

/** True the first time. */
function firstSeen(counted: WeakSet<object>, thing: object): boolean {
  if (counted.has(thing)) return false;
  counted.add(thing);
  return true;
}

function onEvent(out: Out, build: BuildState, event: LaterEvent): void {
  const { metrics, spans } = out;
  switch (event.type) {
    case 'build-started':
      build.startedAtNs = event.atNs;
      return;
    case 'first-artifact':
      return onFirstArtifact(metrics, build, event.atNs, spans.rootOf(event.build));
    case 'steps-announced':
      for (const info of event.steps) if (!build.steps.has(info.step)) build.steps.set(info.step, newStep(info));
      return;
    case 'step-started': {
      const step = stepOf(build, event.step);
      step.startedAtNs = event.atNs;
      step.queuedNs = 0n;
      if (step.info?.op === 'export') build.exportStartedAtNs ??= event.atNs;
      return;
    }
    case 'cache-lookup':
      return build.internal ? undefined : onLookup(metrics, stepOf(build, event.step), event);
    case 'step-phase': {
      const lengthNs = event.atNs - event.startedAtNs;
      if (build.internal) return;
      if (event.phase === 'queue') noteWait(stepOf(build, event.step), event.startedAtNs, event.atNs);
      metrics.observe(
        catalog.STEP_PHASE_DURATION,
        { phase: event.phase },
        nsToSeconds(lengthNs),
        spans.stepOf(event.build, event.step),
      );
      return;
    }
    case 'step-status':
    case 'cache-explained':
    case 'sensitive-use': // counted by the audit log
    case 'request-denied':
      return;
    case 'step-log':
      if (firstSeen(out.counted, event.data)) metrics.add(catalog.STEP_LOG_BYTES, {}, event.data.byteLength);
      return;
    case 'secret-leaked':
      metrics.add(SECRET_LEAKS, {});
      return;
    case 'step-warning':
      build.warnings += 1;
      metrics.add(catalog.STEP_WARNINGS, {});
      return;
    case 'step-resources': {
      const step = stepOf(build, event.step);
      if (firstSeen(out.counted, event.sample)) countResources(metrics, step.sample, event.sample);
      step.sample = event.sample;
      return;
    }
    case 'step-finished':
      return onStepFinished(out, build, event);
    case 'build-finished':
      return onBuildFinished(metrics, spans, build, event);
    default:
      assertNever(event);
  }
}

/** The two counts are apart: one holds the wait before the daemon heard of the build, the other cannot. */
function onFirstArtifact(metrics: Metrics, build: BuildState, atNs: bigint, root: ExemplarLabels | undefined): void {
  if (build.internal) return;
  const from = build.triggeredAtNs === undefined ? 'acceptance' : 'trigger';
  const sinceNs = build.triggeredAtNs ?? build.queuedAtNs;
  metrics.observe(FIRST_ARTIFACT, { from }, nsToSeconds(atNs - sinceNs), root);
}

const newStep = (info: StepInfo | undefined): StepState => ({
  info,
  startedAtNs: undefined,
  queuedNs: 0n,
  hit: undefined,
  missed: false,
  outcome: undefined,
  sample: undefined,
});

/** A step reported before it was announced is counted too, as an internal one. */
function stepOf(build: BuildState, digest: VertexDigest): StepState {
  const known = build.steps.get(digest);
  if (known !== undefined) return known;
  const step = newStep(undefined);
  build.steps.set(digest, step);
  return step;
}

/** Only the part of a wait that lies after the start is in the step's duration; most builders start a step when it has its slot. */
function noteWait(step: StepState, fromNs: bigint, toNs: bigint): void {
  if (step.startedAtNs === undefined || toNs <= step.startedAtNs) return;
  step.queuedNs += toNs - (fromNs > step.startedAtNs ? fromNs : step.startedAtNs);
}

function onLookup(metrics: Metrics, step: StepState, event: LaterEvent & { type: 'cache-lookup' }): void {
  const implied = event.hit && event.implied === true;
  if (!event.hit) step.missed = true;
  else if (!implied) step.hit = event.location;
  if (step.info?.cacheable !== true) return;
  if (event.hit && event.savedNs !== undefined)
    metrics.add(catalog.CACHE_SAVED, { location: implied ? 'implied' : event.location }, nsToSeconds(event.savedNs));
  if (implied) return; // nobody looked
  metrics.add(catalog.CACHE_LOOKUPS, { result: event.hit ? `hit_${event.location}` : 'miss' });
  if (!event.hit) metrics.add(catalog.CACHE_MISSES, { reason: event.reason });
}

function onStepFinished(
  { metrics, spans, counted }: Out,
  build: BuildState,
  event: LaterEvent & { type: 'step-finished' },
): void {
  // A source starts and ends once more for its key alone; that interval counts only when it is where the step failed.
  if (event.forKey === true && (event.outcome === 'executed' || event.outcome === 'cached')) return;
  const step = stepOf(build, event.step);
  const op = step.info?.op ?? 'internal';
  if (op === 'export') build.exportEndedAtNs = event.atNs;
  if (event.usage !== undefined && firstSeen(counted, event.usage)) {
    countResources(metrics, step.sample, event.usage);
    countEnd(metrics, event.usage);
  }
  step.sample = undefined;
  if (build.internal) return; // what the process used is used; but users' steps and ratios are not about it
  if (event.outcome !== 'cached' && step.startedAtNs !== undefined) {
    const outcome = event.outcome === 'executed' || event.outcome === 'cancelled' ? event.outcome : 'failed';
    const seconds = nsToSeconds(event.atNs - step.startedAtNs - step.queuedNs);
    metrics.observe(catalog.STEP_DURATION, { op, outcome }, Math.max(seconds, 0), spans.stepOf(event.build, event.step));
  }
  // A step may report its end again (its result was wanted again); it is one step.
  if (step.outcome === undefined) metrics.add(catalog.STEPS, { kind: op, cache: cacheVerdictOf(step, event.outcome) });
  step.outcome = event.outcome;
}

function cacheVerdictOf(step: StepState, outcome: 'cached' | 'executed' | ErrorKind): (typeof catalog.STEP_CACHE)[number] {
  if (step.info?.cacheable !== true) return 'not_cacheable';
  if (outcome === 'cached') return step.hit === undefined ? 'hit_implied' : `hit_${step.hit}`;
  // A step that was stopped before it was looked up says nothing about the cache.
  return outcome === 'executed' || step.missed ? 'miss' : 'none';
}

function onBuildFinished(
  metrics: Metrics,
  spans: SpanLookup,
  build: BuildState,
  event: LaterEvent & { type: 'build-finished' },
): void {
  if (build.internal) return;
  const root = spans.rootOf(event.build);
  const { result } = event;
  const phase = (name: (typeof catalog.BUILD_PHASES)[number], fromNs: bigint, toNs: bigint): void =>
    metrics.observe(catalog.BUILD_DURATION, { phase: name, result }, nsToSeconds(toNs - fromNs), root);
  const state = (name: 'pending' | 'executing' | 'finalizing', fromNs: bigint, toNs: bigint): void => {
    const labels = { cicd_pipeline_run_state: name, cicd_pipeline_result: result };
    metrics.observe(cicd.CICD_DURATION, labels, nsToSeconds(toNs - fromNs), root);
  };
  const { startedAtNs, exportStartedAtNs } = build;
  state('pending', build.queuedAtNs, startedAtNs ?? event.atNs);
  if (startedAtNs !== undefined) state('executing', startedAtNs, exportStartedAtNs ?? event.atNs);
  if (exportStartedAtNs !== undefined) state('finalizing', exportStartedAtNs, build.exportEndedAtNs ?? event.atNs);
  phase('total', build.queuedAtNs, event.atNs);
  phase('queue', build.queuedAtNs, build.startedAtNs ?? event.atNs);
  if (build.startedAtNs !== undefined) phase('solve', build.startedAtNs, build.exportStartedAtNs ?? event.atNs);
  if (build.exportStartedAtNs !== undefined) phase('export', build.exportStartedAtNs, build.exportEndedAtNs ?? event.atNs);
  metrics.add(catalog.BUILDS, { result, error_class: result === 'success' ? 'none' : (event.kind ?? 'internal') });
  if (event.kind !== undefined) {
    metrics.add(cicd.CICD_ERRORS, { error_type: event.kind });
    if (ERROR_KINDS[event.kind].fault !== 'user')
      metrics.add(cicd.CICD_SYSTEM_ERRORS, { cicd_system_component: 'builder', error_type: event.kind });
  }
  if (event.clippedLogBytes !== undefined) metrics.add(catalog.STEP_LOG_CLIPPED_BYTES, {}, event.clippedLogBytes);
  reportAliases(metrics, build, event, root);
}

function reportAliases(
  metrics: Metrics,
  build: BuildState,
  event: LaterEvent & { type: 'build-finished' },
  root: ExemplarLabels | undefined,
): void {
  const status = event.result === 'success' ? 'success' : 'failure';
  metrics.add(catalog.ALIAS_BUILDS, { status, error_code: status === 'success' ? '' : goCodeOf(event.kind ?? 'internal') });
  metrics.observe(catalog.ALIAS_DURATION, { status }, nsToSeconds(event.atNs - build.queuedAtNs), root);
  const outcomes = [...build.steps.values()].map((step) => step.outcome);
  metrics.add(catalog.ALIAS_STEPS, { kind: 'total' }, outcomes.length);
  metrics.add(catalog.ALIAS_STEPS, { kind: 'completed' }, outcomes.filter((outcome) => outcome !== undefined).length);
  metrics.add(catalog.ALIAS_STEPS, { kind: 'cached' }, outcomes.filter((outcome) => outcome === 'cached').length);
  metrics.add(catalog.ALIAS_STEPS, { kind: 'warnings' }, build.warnings);
}

/** The upstream daemon reports a failed command as Unknown, whatever its own table says. */
function goCodeOf(kind: ErrorKind): string {
  if (kind === 'step-failed') return 'Unknown';
  const code = Object.entries(GRPC).find(([, number]) => number === ERROR_KINDS[kind].grpc)?.[0] ?? 'UNKNOWN';
  return catalog.goCodeName(code);
}

function collectBuilds(metrics: Metrics, builds: ReadonlyMap<BuildId, BuildState>, nowNs: bigint): void {
  const users = [...builds.values()].filter((build) => !build.internal);
  const queued = users.filter((build) => build.startedAtNs === undefined);
  metrics.set(catalog.BUILDS_IN_FLIGHT, { state: 'queued' }, queued.length);
  metrics.set(catalog.BUILDS_IN_FLIGHT, { state: 'running' }, users.length - queued.length);
  metrics.set(cicd.CICD_ACTIVE, { cicd_pipeline_run_state: 'pending' }, queued.length);
  metrics.set(cicd.CICD_ACTIVE, { cicd_pipeline_run_state: 'executing' }, users.length - queued.length);
  metrics.set(catalog.QUEUE_LENGTH, {}, queued.length);
  showRunning(
    metrics,
    [...builds.values()].flatMap(({ steps }) => [...steps.values()].flatMap(({ sample }) => sample ?? [])),
  );
  const oldestNs = queued[0]?.queuedAtNs ?? nowNs; // the map keeps the order of arrival
  metrics.set(catalog.QUEUE_OLDEST_AGE, {}, nsToSeconds(nowNs - oldestNs));
}
