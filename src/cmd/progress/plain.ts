/**
 * Line-by-line progress in BuildKit's plain form: `#n name`, its output with seconds since its start, `#n DONE 1.2s`, `#n CACHED` or
 * `#n ERROR: ...`. Lines of one step stay together: output of another step is held back until the present one pauses or ends.
 */
import type { StatusResponse, Vertex, VertexStatus } from '../../builder/proto/gen/moby/buildkit/v1/control_pb.ts';
import { formatBytes } from '../config/units.ts';
import type { Display, Output } from './display.ts';
import { type Interval, intervalSeconds, isCancelled, millisOf, updateIntervals } from './intervals.ts';

interface Step {
  readonly index: number;
  readonly name: string;
  readonly intervals: Interval[];
  vertex: Vertex;
  headerShown: boolean;
  finished: boolean;
  /** Output that has not ended its line yet. */
  partial: string;
  readonly lines: string[];
  readonly statuses: Map<string, VertexStatus>;
  lastStatusAtMs: number;
}

const STATUS_EVERY_MS = 5_000;
const decoder = new TextDecoder();

export class PlainDisplay implements Display {
  readonly #output: Output;
  readonly #steps = new Map<string, Step>();
  #current: Step | undefined;
  #next = 1;

  constructor(output: Output) {
    this.#output = output;
  }

  update(status: StatusResponse): void {
    for (const vertex of status.vertexes) this.#vertex(vertex);
    for (const line of status.statuses) this.#status(line);
    for (const log of status.logs)
      this.#log(log.vertex, decoder.decode(log.msg), log.timestamp === undefined ? 0 : millisOf(log.timestamp));
    for (const warning of status.warnings) this.#steps.get(warning.vertex)?.lines.push(`WARN: ${decoder.decode(warning.short)}`);
    this.#print();
  }

  end(): void {
    this.#print();
    for (const step of this.#steps.values()) if (step.lines.length > 0 || step.partial !== '') this.#show(step);
  }

  #vertex(vertex: Vertex): void {
    let step = this.#steps.get(vertex.digest);
    if (step === undefined) {
      step = {
        index: 0,
        name: vertex.name,
        intervals: [],
        vertex,
        headerShown: false,
        finished: false,
        partial: '',
        lines: [],
        statuses: new Map(),
        lastStatusAtMs: 0,
      };
      this.#steps.set(vertex.digest, step);
    }
    // Fetched from a remote cache: shown as done when it is here, and as cached when it is known to be right.
    const newlyCached = vertex.cached && !step.vertex.cached;
    step.vertex = vertex;
    updateIntervals(step.intervals, vertex);
    if (vertex.started === undefined) return;
    if (step.index === 0) Object.assign(step, { index: this.#next++ });
    if (vertex.completed === undefined || newlyCached) step.finished = false;
  }

  #status(line: VertexStatus): void {
    const step = this.#steps.get(line.vertex);
    if (step === undefined || step.finished) return;
    const now = line.timestamp === undefined ? 0 : millisOf(line.timestamp);
    const known = step.statuses.has(line.ID);
    step.statuses.set(line.ID, line);
    // The first and the last state of a line are shown, and what lies between from time to time.
    if (line.completed === undefined && (!known || now - step.lastStatusAtMs < STATUS_EVERY_MS)) return;
    step.lastStatusAtMs = now;
    const amount =
      line.total > 0n
        ? ` ${formatBytes(Number(line.current))} / ${formatBytes(Number(line.total))}`
        : line.current > 0n
          ? ` ${formatBytes(Number(line.current))}`
          : '';
    const seconds =
      line.started === undefined
        ? 0
        : ((line.completed === undefined ? now : millisOf(line.completed)) - millisOf(line.started)) / 1000;
    step.lines.push(
      `${line.ID}${amount}${seconds >= 0.05 ? ` ${seconds.toFixed(1)}s` : ''}${line.completed === undefined ? '' : ' done'}`,
    );
  }

  #log(digest: string, text: string, atMs: number): void {
    const step = this.#steps.get(digest);
    if (step === undefined) return;
    const started = step.vertex.started === undefined ? atMs : millisOf(step.vertex.started);
    const pieces = (step.partial + text).split('\n');
    step.partial = pieces.pop() ?? '';
    for (const piece of pieces) step.lines.push(`${Math.max(0, (atMs - started) / 1000).toFixed(3)} ${piece.replace(/\r$/, '')}`);
  }

  /** The step shown last goes on while it has something to say; then each other one, in order of its start. */
  #print(): void {
    const open = [...this.#steps.values()].filter((step) => step.index > 0 && !step.finished).sort((a, b) => a.index - b.index);
    const current = this.#current;
    const order = current !== undefined && open.includes(current) ? [current, ...open.filter((step) => step !== current)] : open;
    for (const step of order) {
      const done = step.vertex.completed !== undefined;
      if (done || step.lines.length > 0 || !step.headerShown) this.#show(step);
      if (done) this.#finish(step);
    }
  }

  #show(step: Step): void {
    const prefix = `#${step.index} `;
    if (this.#current !== step) {
      if (this.#current !== undefined && !this.#current.finished) this.#output.write(`#${this.#current.index} ...\n`);
      if (this.#current !== undefined) this.#output.write('\n');
      this.#output.write(`${prefix}${step.name}\n`);
      step.headerShown = true;
      this.#current = step;
    }
    if (step.vertex.completed !== undefined && step.partial !== '') {
      step.lines.push(step.partial);
      step.partial = '';
    }
    for (const line of step.lines.splice(0)) this.#output.write(`${prefix}${line}\n`);
  }

  #finish(step: Step): void {
    const { vertex } = step;
    step.finished = true;
    if (vertex.error !== '')
      this.#output.write(isCancelled(vertex.error) ? `#${step.index} CANCELED\n` : `#${step.index} ERROR: ${vertex.error}\n`);
    else if (vertex.cached) this.#output.write(`#${step.index} CACHED\n`);
    else this.#output.write(`#${step.index} DONE ${intervalSeconds(step.intervals).toFixed(1)}s\n`);
  }
}
