/**
 * The progress of one build as BuildKit's StatusResponse messages: events in, encoded messages out. Every reader has its own position,
 * so a client that connects late, or again, sees everything from the start; the same bytes become the `logs` blob of the history
 * record ({u32 little-endian length, message} repeated, `application/vnd.buildkit.status.v0`).
 */
import { create, toBinary } from '@bufbuild/protobuf';
import { type Timestamp, TimestampSchema } from '@bufbuild/protobuf/wkt';
import type { VertexDigest } from '../../core/digest.ts';
import type { BuildEvent, EventSink, StepInfo } from '../events.ts';
import {
  type StatusResponse,
  StatusResponseSchema,
  type Vertex,
  VertexLogSchema,
  VertexSchema,
  VertexStatusSchema,
  VertexWarningSchema,
} from '../proto/gen/moby/buildkit/v1/control_pb.ts';
import { ProgressGroupSchema, RangeSchema, SourceInfoSchema } from '../proto/gen/pb/ops_pb.ts';

const FLUSH_MS = 20; // clients redraw at most every 100 ms; 20 ms keeps a burst of events in one message
const MAX_LOG_BYTES_PER_MESSAGE = 1024 * 1024; // upstream splits at the same size; the message limit is 16 MiB

export interface StepCounts {
  readonly total: number;
  readonly completed: number;
  readonly cached: number;
  readonly warnings: number;
}

type StepLine = Extract<BuildEvent, { type: 'step-status' }>;

interface StepState {
  readonly info: StepInfo;
  startedAtNs: bigint | undefined;
  completedAtNs: bigint | undefined;
  cached: boolean;
  everCompleted: boolean;
  error: string;
}

export class StatusLog implements EventSink {
  readonly #maxLogBytes: number;
  #logBytes = 0;
  #clippedBytes = 0;
  readonly #steps = new Map<VertexDigest, StepState>();
  /** Progress lines that have not been completed, by step and id. */
  readonly #openLines = new Map<VertexDigest, Map<string, StepLine>>();
  readonly #messages: Uint8Array[] = [];
  readonly #wakers = new Set<() => void>();
  #pending: StatusResponse = create(StatusResponseSchema);
  #pendingVertices = new Set<VertexDigest>();
  #pendingLogBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;
  #warnings = 0;

  /** `maxLogBytes`: output of the whole build that is kept; what is above is counted and dropped, and the step that ran into it says so. */
  constructor(maxLogBytes: number) {
    this.#maxLogBytes = maxLogBytes;
  }

  /** Output that was not kept. */
  get clippedBytes(): number {
    return this.#clippedBytes;
  }

  /** Never throws: a step that was not announced is ignored. */
  emit(event: BuildEvent): void {
    if (this.#closed) return;
    switch (event.type) {
      case 'steps-announced':
        for (const info of event.steps) this.#announce(info);
        // Alone at first: plain clients print the first message at once and gather the later ones, so the short time in which a
        // source finds its key does not look like a step of its own.
        if (this.#messages.length === 0) this.#flush();
        return;
      case 'step-started':
        return this.#update(event.step, (step) => {
          step.startedAtNs = event.atNs;
          step.completedAtNs = undefined;
        });
      case 'step-finished':
        this.#completeLines(event.step, event.atNs);
        return this.#update(event.step, (step) => {
          step.startedAtNs ??= event.atNs;
          step.completedAtNs = event.atNs;
          step.cached = event.outcome === 'cached';
          step.everCompleted = true;
          step.error = event.error ?? '';
        });
      case 'step-status':
        return this.#line(event);
      case 'step-log':
        return this.#log(event);
      case 'step-warning':
        this.#warnings += 1;
        this.#pending.warnings.push(warningOf(event));
        return this.#schedule();
      default:
        return; // lookups, phases and build events are for telemetry, not for clients
    }
  }

  /** What clients show for a step, once it was announced. */
  step(digest: VertexDigest): StepInfo | undefined {
    return this.#steps.get(digest)?.info;
  }

  counts(): StepCounts {
    const steps = [...this.#steps.values()];
    return {
      total: steps.length,
      completed: steps.filter((step) => step.everCompleted).length,
      cached: steps.filter((step) => step.cached).length,
      warnings: this.#warnings,
    };
  }

  /** Completes what is still open with `context canceled` and lets readers reach the end. */
  close(atNs: bigint): void {
    if (this.#closed) return;
    for (const [digest, step] of this.#steps) {
      if (step.startedAtNs !== undefined && step.completedAtNs === undefined) {
        this.#completeLines(digest, atNs);
        this.#update(digest, (open) => {
          open.completedAtNs = atNs;
          open.error = 'context canceled';
        });
      }
    }
    this.#flush();
    this.#closed = true;
    this.#wake();
  }

  /** Every message from the first; waits for more until the log is closed. Ends early when the signal aborts. */
  async *read(signal: AbortSignal): AsyncGenerator<Uint8Array> {
    for (let at = 0; !signal.aborted; ) {
      const message = this.#messages[at];
      if (message !== undefined) {
        at += 1;
        yield message;
      } else if (this.#closed) {
        return;
      } else {
        await this.#nextMessage(signal);
      }
    }
  }

  /** The whole log in the form of the history blob. Call after `close`. */
  *blob(): Generator<Uint8Array> {
    for (const message of this.#messages) {
      const length = new Uint8Array(4);
      new DataView(length.buffer).setUint32(0, message.byteLength, true);
      yield length;
      yield message;
    }
  }

  #line(event: StepLine): void {
    const { step, id, name, current, total, atNs, startedAtNs, completedAtNs } = event;
    const open = this.#openLines.get(step) ?? new Map<string, StepLine>();
    if (completedAtNs === undefined) this.#openLines.set(step, open.set(id, event));
    else open.delete(id);
    this.#pending.statuses.push(
      create(VertexStatusSchema, {
        ID: id,
        vertex: step,
        name,
        current,
        total,
        timestamp: timestampOf(atNs),
        started: timestampOf(startedAtNs),
        ...(completedAtNs === undefined ? {} : { completed: timestampOf(completedAtNs) }),
      }),
    );
    this.#schedule();
  }

  /** Lines end with their step, however it ended: plain clients do not show the error of a step that has an open one. */
  #completeLines(step: VertexDigest, atNs: bigint): void {
    const open = this.#openLines.get(step);
    this.#openLines.delete(step);
    for (const line of open?.values() ?? []) this.#line({ ...line, atNs, completedAtNs: atNs });
  }

  #log(event: Extract<BuildEvent, { type: 'step-log' }>): void {
    const left = this.#maxLogBytes - this.#logBytes;
    const kept = event.data.byteLength <= left ? event.data : event.data.subarray(0, Math.max(0, left));
    this.#logBytes += kept.byteLength;
    if (kept.byteLength > 0) this.#pushLog(event, kept);
    if (kept.byteLength === event.data.byteLength) return;
    if (this.#clippedBytes === 0) {
      this.#pushLog(event, new TextEncoder().encode(`\n[output clipped, log limit ${this.#maxLogBytes} bytes reached]\n`));
    }
    this.#clippedBytes += event.data.byteLength - kept.byteLength;
  }

  #pushLog({ step, atNs, stream }: Extract<BuildEvent, { type: 'step-log' }>, msg: Uint8Array): void {
    this.#pending.logs.push(create(VertexLogSchema, { vertex: step, timestamp: timestampOf(atNs), stream: BigInt(stream), msg }));
    this.#pendingLogBytes += msg.byteLength;
    if (this.#pendingLogBytes >= MAX_LOG_BYTES_PER_MESSAGE) this.#flush();
    else this.#schedule();
  }

  #nextMessage(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#wakers.delete(wake);
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.#wakers.add(wake);
      signal.addEventListener('abort', wake, { once: true });
    });
  }

  #announce(info: StepInfo): void {
    if (this.#steps.has(info.step)) return;
    this.#steps.set(info.step, {
      info,
      startedAtNs: undefined,
      completedAtNs: undefined,
      cached: false,
      everCompleted: false,
      error: '',
    });
    this.#pendVertex(info.step);
  }

  #update(digest: VertexDigest, change: (step: StepState) => void): void {
    const step = this.#steps.get(digest);
    if (step === undefined) return;
    // A message holds one state per vertex; an interval that would be overwritten goes out first.
    if (this.#pendingVertices.has(digest) && step.completedAtNs !== undefined) this.#flush();
    change(step);
    this.#pendVertex(digest);
  }

  /** In the order of their last change, which is the order in which clients show them. */
  #pendVertex(digest: VertexDigest): void {
    this.#pendingVertices.delete(digest);
    this.#pendingVertices.add(digest);
    this.#schedule();
  }

  #schedule(): void {
    this.#timer ??= setTimeout(() => this.#flush(), FLUSH_MS);
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const message = this.#pending;
    for (const digest of this.#pendingVertices) {
      const step = this.#steps.get(digest);
      if (step !== undefined) message.vertexes.push(vertexOf(step));
    }
    this.#pendingVertices = new Set();
    this.#pendingLogBytes = 0;
    this.#pending = create(StatusResponseSchema);
    if (message.vertexes.length + message.statuses.length + message.logs.length + message.warnings.length === 0) return;
    this.#messages.push(toBinary(StatusResponseSchema, message));
    this.#wake();
  }

  #wake(): void {
    for (const wake of [...this.#wakers]) wake();
  }
}

function vertexOf(step: StepState): Vertex {
  const { info } = step;
  return create(VertexSchema, {
    digest: info.step,
    inputs: [...info.inputs],
    name: info.name,
    cached: step.cached,
    error: step.error,
    ...(step.startedAtNs === undefined ? {} : { started: timestampOf(step.startedAtNs) }),
    ...(step.completedAtNs === undefined ? {} : { completed: timestampOf(step.completedAtNs) }),
    ...(info.progressGroup === undefined ? {} : { progressGroup: create(ProgressGroupSchema, info.progressGroup) }),
  });
}

function warningOf(event: Extract<BuildEvent, { type: 'step-warning' }>) {
  const encoder = new TextEncoder();
  const { source } = event;
  return create(VertexWarningSchema, {
    vertex: event.step,
    level: BigInt(event.level),
    short: encoder.encode(event.short),
    detail: event.detail.map((line) => encoder.encode(line)),
    url: event.url,
    ...(source === undefined
      ? {}
      : {
          info: create(SourceInfoSchema, { filename: source.filename, data: source.data, language: source.language }),
          ranges: source.ranges.map((range) => create(RangeSchema, { start: range.start, end: range.end })),
        }),
  });
}

export function timestampOf(ns: bigint): Timestamp {
  return create(TimestampSchema, { seconds: ns / 1_000_000_000n, nanos: Number(ns % 1_000_000_000n) });
}
export function nsOfTimestamp(timestamp: Timestamp): bigint {
  return timestamp.seconds * 1_000_000_000n + BigInt(timestamp.nanos);
}
