/**
 * Steps that are no vertex of the user's graph: loading image metadata, exporting, importing a cache. Clients show them like any other
 * step; their digest is an identity only, made from a text that says what the step is (buildkit-wire.md section 6.1).
 */

import type { Clock } from '../../core/clock.ts';
import { digestOf, type VertexDigest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { BuildId, EventSink, OpKind, StepPhase, StepUsage } from '../events.ts';
import type { StatusLine, StepProgress } from '../solver/ports.ts';

/** Where the events of one build's own steps go. */
export interface StepScope {
  readonly build: BuildId;
  readonly clock: Clock;
  readonly sink: EventSink;
}
export interface InternalStep {
  readonly name: string;
  readonly op: Extract<OpKind, 'internal' | 'export'>;
  /** Equal texts are the same step, shown once and started again. */
  readonly identity: string;
}

/** Announces and starts the step, runs `work`, and finishes the step with its outcome. Rejects with what `work` rejected with. */
export async function internalStep<T>(
  scope: StepScope,
  step: InternalStep,
  work: (progress: StepProgress, digest: VertexDigest) => Promise<T>,
): Promise<T> {
  const { build, clock, sink } = scope;
  const digest = digestOf(step.identity) as string as VertexDigest;
  const steps = [{ step: digest, name: step.name, op: step.op, inputs: [], cacheable: false }];
  sink.emit({ type: 'steps-announced', build, atNs: clock.nowNs(), steps });
  sink.emit({ type: 'step-started', build, step: digest, atNs: clock.nowNs() });
  try {
    const output = await work(stepProgress(scope, digest), digest);
    sink.emit({ type: 'step-finished', build, step: digest, atNs: clock.nowNs(), outcome: 'executed' });
    return output;
  } catch (thrown) {
    const error = BuildError.from(thrown);
    sink.emit({ type: 'step-finished', build, step: digest, atNs: clock.nowNs(), outcome: error.kind, error: error.message });
    throw error;
  }
}

/** Progress of one step of one build as events. */
function stepProgress({ build, clock, sink }: StepScope, step: VertexDigest): StepProgress {
  return {
    log: (stream: 1 | 2, data: Uint8Array) => sink.emit({ type: 'step-log', build, step, atNs: clock.nowNs(), stream, data }),
    phase: (phase: StepPhase, startedAtNs: bigint) =>
      sink.emit({ type: 'step-phase', build, step, atNs: clock.nowNs(), phase, startedAtNs }),
    usage: (_usage: StepUsage) => {}, // an internal step runs no process
    used: (kind, id, granted) => sink.emit({ type: 'sensitive-use', build, step, atNs: clock.nowNs(), kind, id, granted }),
    leaked: () => {}, // an internal step is given no secret
    resources: () => {},
    status(id, options = {}): StatusLine {
      const startedAtNs = clock.nowNs();
      let current = 0;
      let total = options.total ?? 0;
      const report = (completedAtNs?: bigint): void =>
        sink.emit({
          type: 'step-status',
          build,
          step,
          atNs: clock.nowNs(),
          id,
          name: options.name ?? '',
          current: BigInt(current),
          total: BigInt(total),
          startedAtNs,
          ...(completedAtNs === undefined ? {} : { completedAtNs }),
        });
      report();
      return {
        update(now, newTotal = total) {
          current = now;
          total = newTotal;
          report();
        },
        done: () => report(clock.nowNs()),
      };
    },
  };
}
