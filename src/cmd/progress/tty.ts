/**
 * The live view on a terminal: one line per step, running ones with their seconds and the last lines of their output, redrawn in place.
 * What fits is shown; finished steps scroll away at the top when the screen is too small.
 */
import { styleText } from 'node:util';
import type { StatusResponse, Vertex, VertexStatus } from '../../builder/proto/gen/moby/buildkit/v1/control_pb.ts';
import { formatBytes } from '../config/units.ts';
import type { Display, Output } from './display.ts';
import { type Interval, intervalSeconds, isCancelled, updateIntervals } from './intervals.ts';

interface Step {
  readonly intervals: Interval[];
  vertex: Vertex;
  readonly statuses: Map<string, VertexStatus>;
  /** The last lines of output. */
  readonly tail: string[];
}

const REDRAW_MS = 100;
const TAIL_LINES = 6;
const decoder = new TextDecoder();

export class TtyDisplay implements Display {
  readonly #output: Output;
  readonly #steps = new Map<string, Step>();
  readonly #startedAtMs = Date.now();
  readonly #timer: NodeJS.Timeout;
  #drawn = 0;

  constructor(output: Output) {
    this.#output = output;
    this.#timer = setInterval(() => this.#draw(false), REDRAW_MS);
    this.#timer.unref();
  }

  update(status: StatusResponse): void {
    for (const vertex of status.vertexes) {
      const step = this.#steps.get(vertex.digest) ?? { intervals: [], vertex, statuses: new Map(), tail: [] };
      this.#steps.set(vertex.digest, step);
      step.vertex = vertex;
      updateIntervals(step.intervals, vertex);
    }
    for (const line of status.statuses) this.#steps.get(line.vertex)?.statuses.set(line.ID, line);
    for (const log of status.logs) {
      const tail = this.#steps.get(log.vertex)?.tail;
      tail?.push(
        ...decoder
          .decode(log.msg)
          .split('\n')
          .filter((line) => line.trim() !== ''),
      );
      tail?.splice(0, Math.max(0, tail.length - TAIL_LINES));
    }
  }

  end(): void {
    clearInterval(this.#timer);
    this.#draw(true);
  }

  #draw(final: boolean): void {
    const width = Math.max(20, this.#output.columns ?? 80);
    const height = Math.max(5, (this.#output.rows ?? 24) - 1);
    const shown = [...this.#steps.values()]
      .filter(({ intervals }) => intervals.length > 0)
      .sort((x, y) => startOf(x) - startOf(y));
    const finished = shown.filter(({ vertex }) => vertex.completed !== undefined).length;
    const seconds = ((Date.now() - this.#startedAtMs) / 1000).toFixed(1);
    const head = `[+] Building ${seconds}s (${finished}/${this.#steps.size})${final ? ' FINISHED' : ''}`;
    const body = shown.flatMap((step) => linesOf(step, width, final));
    const visible = final ? body : body.slice(Math.max(0, body.length - (height - 1)));
    const lines = [head, ...visible];
    this.#output.write(`${this.#drawn > 0 ? `\u001b[${this.#drawn}F\u001b[J` : ''}${lines.join('\n')}\n`);
    this.#drawn = final ? 0 : lines.length;
  }
}

const startOf = ({ intervals }: Step): number => intervals[0]?.startMs ?? 0;

function linesOf({ vertex, intervals, statuses, tail }: Step, width: number, final: boolean): string[] {
  const running = vertex.completed === undefined;
  const time = `${intervalSeconds(intervals, Date.now()).toFixed(1)}s`;
  const mark = vertex.error !== '' ? (isCancelled(vertex.error) ? 'CANCELED ' : 'ERROR ') : vertex.cached ? 'CACHED ' : '';
  const text = fit(` => ${mark}${vertex.name}`, width - time.length - 1);
  const line = `${text}${' '.repeat(Math.max(1, width - text.length - time.length))}${time}`;
  const colour = vertex.error !== '' ? 'red' : running ? 'white' : 'cyan';
  const details =
    running && !final
      ? [
          ...[...statuses.values()]
            .filter((status) => status.completed === undefined)
            .map((status) => fit(` => => ${statusText(status)}`, width)),
          ...tail.map((output) => fit(` => => # ${output}`, width)),
        ]
      : [];
  return [styleText(colour, line, { validateStream: false }), ...details];
}

function statusText({ ID, current, total }: VertexStatus): string {
  if (total > 0n) return `${ID} ${formatBytes(Number(current))} / ${formatBytes(Number(total))}`;
  return current > 0n ? `${ID} ${formatBytes(Number(current))}` : ID;
}

/** Control characters of a step's output must not move the cursor. */
function fit(text: string, width: number): string {
  const clean = text.replace(/\u001b\[[0-9;?]*[A-Za-z]/g, '').replace(/[\u0000-\u001f\u007f]/g, ' ');
  return clean.length <= width ? clean : `${clean.slice(0, Math.max(0, width - 1))}…`;
}
