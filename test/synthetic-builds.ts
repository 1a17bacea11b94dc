/** Builds made of events only, for tests of what listens to a build: metrics, spans, SLOs, dashboards. */
import type { BuildEvent, BuildResult, CacheLocation, EventSink, MissReason, StepInfo } from '../src/builder/events.ts';
import { msToNs } from '../src/core/clock.ts';
import { type VertexDigest, vertexDigestOf } from '../src/core/digest.ts';
import { ERROR_KINDS, type ErrorKind } from '../src/core/errors.ts';

export interface SyntheticStep {
  readonly name: string;
  readonly op?: StepInfo['op'];
  readonly inputs?: readonly string[];
  readonly cacheable?: boolean;
  readonly cache?: { readonly hit: CacheLocation } | { readonly miss: MissReason } | 'implied';
  readonly ms?: number;
  readonly queueMs?: number;
  readonly fails?: ErrorKind;
  readonly oomKilled?: boolean;
}
export interface SyntheticBuild {
  readonly ref: string;
  readonly target?: string;
  readonly startedAtNs: bigint;
  readonly traceparent?: string;
  readonly queueMs?: number;
  readonly steps?: readonly SyntheticStep[];
  /** Kind of the error the build ends with; success when absent. */
  readonly fails?: ErrorKind;
  readonly result?: BuildResult;
}

export const digestNamed = (name: string): VertexDigest => vertexDigestOf(new TextEncoder().encode(name));

/** A base image, a file copied onto it, a command and an export: one hit, one miss, one step that waits. */
export const TYPICAL_STEPS: readonly SyntheticStep[] = [
  { name: '[internal] load build context', op: 'source', cacheable: false, ms: 40 },
  { name: '[1/3] FROM docker.io/library/base', op: 'source', cacheable: true, cache: { hit: 'local' }, ms: 1 },
  {
    name: '[2/3] COPY . /src',
    op: 'file',
    inputs: ['[internal] load build context', '[1/3] FROM docker.io/library/base'],
    cache: { miss: 'input-changed' },
    ms: 120,
  },
  { name: '[3/3] RUN make', op: 'exec', inputs: ['[2/3] COPY . /src'], cache: { miss: 'never-seen' }, ms: 4000, queueMs: 500 },
  { name: 'exporting to image', op: 'export', inputs: ['[3/3] RUN make'], cacheable: false, ms: 800 },
];

/** The result a builder reports for an error of this kind. */
export function resultOf(kind: ErrorKind | undefined): BuildResult {
  if (kind === undefined) return 'success';
  if (kind === 'cancelled') return 'cancellation';
  if (kind === 'timed-out') return 'timeout';
  return ERROR_KINDS[kind].fault === 'user' ? 'failure' : 'error';
}

/** All events of one build, steps one after the other, in the order a builder emits them. */
export function eventsOf(build: SyntheticBuild): BuildEvent[] {
  const events: BuildEvent[] = [];
  const steps = build.steps ?? TYPICAL_STEPS;
  let atNs = build.startedAtNs;
  const ofBuild = () => ({ build: build.ref, atNs });
  events.push({
    type: 'build-queued',
    ...ofBuild(),
    internal: false,
    target: build.target ?? 'app',
    exporters: ['image'],
    ...(build.traceparent !== undefined && { traceparent: build.traceparent }),
  });
  atNs += msToNs(build.queueMs ?? 10);
  events.push({ type: 'build-started', ...ofBuild() });
  events.push({ type: 'steps-announced', ...ofBuild(), steps: steps.map(infoOf) });
  for (const step of steps) {
    const of = () => ({ ...ofBuild(), step: digestNamed(step.name) });
    if (step.cache !== undefined && step.cache !== 'implied') {
      if ('hit' in step.cache) events.push({ type: 'cache-lookup', ...of(), hit: true, location: step.cache.hit });
      else events.push({ type: 'cache-lookup', ...of(), hit: false, reason: step.cache.miss });
    }
    const startedAtNs = atNs;
    events.push({ type: 'step-started', ...of() });
    if (step.queueMs !== undefined) {
      atNs += msToNs(step.queueMs);
      events.push({ type: 'step-phase', ...of(), phase: 'queue', startedAtNs });
    }
    const ranFromNs = atNs;
    atNs += msToNs(step.ms ?? 1);
    if (step.op === 'exec') {
      events.push({ type: 'step-log', ...of(), stream: 1, data: new TextEncoder().encode(`output of ${step.name}\n`) });
      events.push({ type: 'step-phase', ...of(), phase: 'run', startedAtNs: ranFromNs });
    }
    const cached = step.cache === 'implied' || (typeof step.cache === 'object' && 'hit' in step.cache);
    events.push({
      type: 'step-finished',
      ...of(),
      outcome: step.fails ?? (cached ? 'cached' : 'executed'),
      ...(step.fails !== undefined && { error: `${step.name} did not complete` }),
      ...(step.op === 'exec' && {
        usage: { cpuNs: msToNs(step.ms ?? 1), peakMemoryBytes: 64 * 1024 * 1024, oomKilled: step.oomKilled ?? false },
      }),
    });
    if (step.fails !== undefined) break;
  }
  const kind = build.fails ?? steps.find((step) => step.fails !== undefined)?.fails;
  events.push({
    type: 'build-finished',
    ...ofBuild(),
    result: build.result ?? resultOf(kind),
    ...(kind !== undefined && { kind, fault: ERROR_KINDS[kind].fault, error: `failed: ${kind}` }),
  });
  return events;
}

export function play(sink: EventSink, build: SyntheticBuild): void {
  for (const event of eventsOf(build)) sink.emit(event);
}

function infoOf(step: SyntheticStep): StepInfo {
  return {
    step: digestNamed(step.name),
    name: step.name,
    op: step.op ?? 'exec',
    inputs: (step.inputs ?? []).map(digestNamed),
    cacheable: step.cacheable ?? true,
  };
}
