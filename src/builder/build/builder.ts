/**
 * All builds of this daemon. Requests of one build arrive in any order on several streams, so everything is found by the build's ref,
 * and whoever comes early waits for a bounded time.
 */
import { create, toBinary } from '@bufbuild/protobuf';
import { abortable, deadline, delay } from '../../core/abort.ts';
import { rfc3339 } from '../../core/clock.ts';
import { BuildError, GRPC } from '../../core/errors.ts';
import { ERROR_MEDIA_TYPE, LOGS_MEDIA_TYPE, TRACE_MEDIA_TYPE } from '../history/history.ts';
import { timestampOf } from '../history/status-log.ts';
import { type Status, StatusSchema } from '../proto/gen/google/rpc/status_pb.ts';
import {
  type BuildHistoryRecord,
  BuildHistoryRecordSchema,
  BuildResultInfoSchema,
  DescriptorSchema,
  ExporterSchema,
} from '../proto/gen/moby/buildkit/v1/control_pb.ts';
import { recipeToJson } from '../reproduce/recipe.ts';
import { statusOf } from '../rpc/status.ts';
import { Build, type BuildOutcome, type BuildRequest, resultOf } from './build.ts';
import type { BuilderDeps } from './ports.ts';

const KEEP_FINISHED_MS = 10_000; // a finished build answers Status for as long as the real daemon's does
const TRACE_DELAY_MS = 3_000; // clients send their own spans up to this long after the build

export class Builder {
  readonly #deps: BuilderDeps;
  readonly #onSinkError: (error: unknown) => void;
  readonly #builds = new Map<string, Build>();
  readonly #running = new Set<string>();
  readonly #arrivals = new Map<string, PromiseWithResolvers<Build>>();

  constructor(deps: BuilderDeps, onSinkError: (error: unknown) => void) {
    this.#deps = deps;
    this.#onSinkError = onSinkError;
  }

  get running(): number {
    return this.#running.size;
  }

  /** Runs a build to its end. Rejects with what the client is to be told. */
  async solve(request: BuildRequest, signal: AbortSignal): Promise<BuildOutcome> {
    if (request.ref === '') throw new BuildError('invalid-input', 'a solve needs a ref');
    if (this.#running.has(request.ref))
      throw new BuildError('invalid-input', `job ID exists: ${request.ref}`, { grpcCode: GRPC.UNKNOWN });
    const build = new Build(request, this.#deps, this.#onSinkError);
    this.#register(build);
    if (!request.internal) this.#deps.history.started(this.#startRecord(build));
    let outcome: BuildOutcome | undefined;
    let error: BuildError | undefined;
    try {
      outcome = await build.run(signal);
      return outcome;
    } catch (thrown) {
      error = BuildError.from(thrown);
      throw error;
    } finally {
      await this.#finish(build, outcome, error);
    }
  }

  /** The build of that ref, running or just finished; waits up to `waitMs` for its solve to arrive. Rejects with `not-found`. */
  async find(ref: string, waitMs: number, signal: AbortSignal): Promise<Build> {
    const build = this.#builds.get(ref);
    if (build !== undefined) return build;
    const arrival = this.#arrivals.get(ref) ?? Promise.withResolvers<Build>();
    this.#arrivals.set(ref, arrival);
    using limit = deadline('waiting for the build to be registered', waitMs);
    try {
      return await abortable(arrival.promise, AbortSignal.any([signal, limit.signal]));
    } catch (thrown) {
      if (limit.signal.aborted && !signal.aborted)
        throw new BuildError('not-found', `no such job ${ref}`, { grpcCode: GRPC.NOT_FOUND });
      throw thrown;
    } finally {
      this.#arrivals.delete(ref);
    }
  }

  /** The build without waiting. */
  peek(ref: string): Build | undefined {
    return this.#builds.get(ref);
  }

  /** Builds of users that wait for admission, first come first; the next to be let in is the first. */
  waiting(): readonly string[] {
    return [...this.#running].filter((ref) => {
      const build = this.#builds.get(ref);
      return build !== undefined && !build.admitted && !build.request.internal;
    });
  }

  /** Stops one build with that reason; false when none of that ref runs. */
  cancel(ref: string, reason: BuildError): boolean {
    if (!this.#running.has(ref)) return false;
    this.#builds.get(ref)?.cancel(reason);
    return true;
  }

  /** Resolves when no build runs, or after `ms`. */
  async idle(ms: number): Promise<void> {
    const untilMs = performance.now() + ms;
    while (this.#running.size > 0 && performance.now() < untilMs) await delay(50);
  }

  cancelAll(reason: BuildError): void {
    for (const ref of this.#running) this.#builds.get(ref)?.cancel(reason);
  }

  #register(build: Build): void {
    this.#builds.set(build.id, build);
    this.#running.add(build.id);
    this.#arrivals.get(build.id)?.resolve(build);
  }

  async #finish(build: Build, outcome: BuildOutcome | undefined, error: BuildError | undefined): Promise<void> {
    this.#running.delete(build.id);
    setTimeout(() => {
      if (this.#builds.get(build.id) === build) this.#builds.delete(build.id);
    }, KEEP_FINISHED_MS).unref();
    if (build.request.internal) return;
    if (build.account !== undefined) this.#deps.accounts.finished(build.account);
    try {
      await this.#record(build, outcome, error);
    } catch (thrown) {
      this.#deps.history.discard(build.id); // a full disk may cost the record, not the build
      this.#onSinkError(thrown);
    }
  }

  #startRecord(build: Build): BuildHistoryRecord {
    const { request } = build;
    return create(BuildHistoryRecordSchema, {
      Ref: request.ref,
      Frontend: request.frontend,
      FrontendAttrs: Object.fromEntries(request.options),
      Exporters: request.exporters.map(({ type, attributes }) =>
        create(ExporterSchema, { Type: type, Attrs: Object.fromEntries(attributes) }),
      ),
      CreatedAt: timestampOf(build.createdAtNs),
    });
  }

  async #record(build: Build, outcome: BuildOutcome | undefined, error: BuildError | undefined): Promise<void> {
    const { history, clock, traceBlobOf } = this.#deps;
    const counts = build.status.counts();
    const logs = await history.blob(LOGS_MEDIA_TYPE, joinSmall(build.status.blob()));
    const status: Status | undefined = error === undefined ? undefined : statusOf(error);
    const record = create(BuildHistoryRecordSchema, {
      ...this.#startRecord(build),
      CompletedAt: timestampOf(clock.nowNs()),
      logs,
      ExporterResponse: Object.fromEntries(outcome?.response ?? []),
      numTotalSteps: counts.total,
      numCompletedSteps: counts.completed,
      numCachedSteps: counts.cached,
      numWarnings: counts.warnings,
    });
    if (status !== undefined) {
      record.error = create(StatusSchema, { code: status.code, message: status.message });
      record.externalError = await history.blob(ERROR_MEDIA_TYPE, toBinary(StatusSchema, status));
    }
    const descriptors = [...(outcome?.descriptors ?? [])].map(
      ([index, { mediaType, digest, size, annotations = {} }]) =>
        [index, create(DescriptorSchema, { mediaType, digest, size: BigInt(size), annotations: { ...annotations } })] as const,
    );
    if (descriptors.length > 0) {
      record.Result = create(BuildResultInfoSchema, {
        Results: Object.fromEntries(descriptors),
        ...(descriptors[0] === undefined ? {} : { ResultDeprecated: descriptors[0][1] }),
      });
    }
    const attachTrace = async () => {
      const spans = traceBlobOf(build.id);
      return spans === undefined ? undefined : await history.blob(TRACE_MEDIA_TYPE, spans);
    };
    if (build.request.trigger !== undefined) history.note(build.id, 'trigger', triggerJson(build.request.trigger));
    if (build.recipe !== undefined && error === undefined) history.note(build.id, 'recipe', recipeToJson(build.recipe));
    if (!build.resources.isEmpty) history.note(build.id, 'resources', build.resources.toJson());
    await history.completed(record, resultOf(error), attachTrace, TRACE_DELAY_MS);
  }
}

function triggerJson({ triggeredAtNs, ignored }: NonNullable<BuildRequest['trigger']>): object {
  return {
    ...(triggeredAtNs === undefined ? {} : { at: rfc3339(triggeredAtNs) }),
    ...(ignored === undefined ? {} : { ignored }),
  };
}

/** Small messages are put together so that the content store sees few large writes. */
async function* joinSmall(parts: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let buffered: Uint8Array[] = [];
  let size = 0;
  for (const part of parts) {
    buffered.push(part);
    size += part.byteLength;
    if (size < 256 * 1024) continue;
    yield Buffer.concat(buffered);
    buffered = [];
    size = 0;
  }
  yield Buffer.concat(buffered);
}
