/** Build events in, log records out: one when a build ends, one for each step that failed, each with the ids that lead to its trace. */
import type { BuildEvent, BuildId, EventSink } from '../builder/events.ts';
import { nsToSeconds } from '../core/clock.ts';
import type { VertexDigest } from '../core/digest.ts';
import { ERROR_KINDS } from '../core/errors.ts';
import type { SpanLookup } from './build-metrics.ts';
import type { Logger } from './logs.ts';

interface RunningBuild {
  readonly queuedAtNs: bigint;
  readonly target: string;
  readonly names: Map<VertexDigest, string>;
}

const MAX_BUILDS = 10_000;
/** What a step or build failed with is the user's text, so it is cut; history has all of it. */
const MAX_ERROR = 1_000;

/** The sink that writes what operators look for by build, vertex or trace. Internal builds are not logged. */
export function buildLog(log: Logger, spans: SpanLookup): EventSink {
  const builds = new Map<BuildId, RunningBuild>();
  return {
    emit(event) {
      if (event.type === 'build-queued') {
        if (event.internal || builds.size >= MAX_BUILDS) return;
        builds.set(event.build, { queuedAtNs: event.atNs, target: event.target, names: new Map() });
        log.debug('build accepted', { build: event.build, ...spans.rootOf(event.build), ...event.client });
        return;
      }
      const build = builds.get(event.build);
      if (build === undefined) return;
      if (event.type === 'steps-announced') for (const { step, name } of event.steps) build.names.set(step, name);
      else if (event.type === 'step-finished') stepEnded(log, spans, build, event);
      else if (event.type === 'build-finished') {
        builds.delete(event.build);
        buildEnded(log, spans, build, event);
      }
    },
  };
}

function stepEnded(log: Logger, spans: SpanLookup, build: RunningBuild, event: BuildEvent & { type: 'step-finished' }): void {
  const { outcome } = event;
  if (outcome === 'cached' || outcome === 'executed' || outcome === 'cancelled') return;
  log.warn('step failed', {
    build: event.build,
    vertex: event.step,
    ...spans.stepOf(event.build, event.step),
    step: build.names.get(event.step) ?? '',
    error_class: outcome,
    fault: ERROR_KINDS[outcome].fault,
    reason: (event.error ?? '').slice(0, MAX_ERROR),
  });
}

function buildEnded(log: Logger, spans: SpanLookup, build: RunningBuild, event: BuildEvent & { type: 'build-finished' }): void {
  const fields = {
    build: event.build,
    ...spans.rootOf(event.build),
    target: build.target,
    result: event.result,
    seconds: nsToSeconds(event.atNs - build.queuedAtNs),
    ...(event.kind !== undefined && { error_class: event.kind, fault: ERROR_KINDS[event.kind].fault }),
    ...(event.error !== undefined && { reason: event.error.slice(0, MAX_ERROR) }),
    ...(event.clippedLogBytes !== undefined && { clipped_log_bytes: event.clippedLogBytes }),
  };
  const ours = event.result === 'error' || event.result === 'timeout';
  if (ours) log.error('build ended', fields);
  else log.info('build ended', fields);
}
