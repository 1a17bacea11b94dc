/** Makes any part of a planned stream: headers from the plan, content from the files. */
import { closeSync, openSync, readSync } from 'node:fs';
import { BuildError } from '../../../core/errors.ts';
import { fsPath, textOf } from '../tree/names.ts';
import { COLUMNS, type StreamPlan } from './plan.ts';

export class StreamReader {
  readonly #rows: Float64Array;
  readonly #headers: Buffer;
  readonly #paths: Buffer;

  constructor(plan: StreamPlan) {
    this.#rows = new Float64Array(plan.rows);
    this.#headers = Buffer.from(plan.headers);
    this.#paths = Buffer.from(plan.paths);
  }

  /** Fills `target` with the stream's bytes from `offset` on; the part must be inside the stream. */
  read(target: Buffer, offset: number): void {
    const end = offset + target.length;
    target.fill(0); // padding between entries
    for (let row = this.#rowAt(offset); row < this.#rows.length / COLUMNS && this.#cell(row, 0) < end; row += 1) {
      const start = this.#cell(row, 0);
      const headerOffset = this.#cell(row, 1);
      const headerLength = this.#cell(row, 2);
      const from = Math.max(offset, start);
      const headerEnd = start + headerLength;
      if (from < headerEnd) {
        this.#headers.copy(target, from - offset, headerOffset + from - start, headerOffset + Math.min(end, headerEnd) - start);
      }
      const size = this.#cell(row, 3);
      const first = Math.max(offset, headerEnd);
      const last = Math.min(end, headerEnd + size);
      if (first < last) this.#content(row, target, first - offset, first - headerEnd, last - first);
    }
  }

  #content(row: number, target: Buffer, at: number, position: number, length: number): void {
    const pathOffset = this.#cell(row, 4);
    const path = this.#paths.toString('latin1', pathOffset, pathOffset + this.#cell(row, 5));
    const fd = openSync(fsPath(path), 'r');
    try {
      for (let done = 0; done < length; ) {
        const read = readSync(fd, target, at + done, length - done, position + done);
        if (read === 0) throw new BuildError('internal', `${textOf(path)} got shorter while it was read`);
        done += read;
      }
    } finally {
      closeSync(fd);
    }
  }

  #cell(row: number, column: number): number {
    return this.#rows[row * COLUMNS + column] ?? 0;
  }

  /** The last row that begins at or before `offset`. */
  #rowAt(offset: number): number {
    let low = 0;
    let high = this.#rows.length / COLUMNS - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#cell(middle, 0) <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
