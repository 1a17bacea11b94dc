/**
 * Takes the values of secrets out of a stream of output, also where a value is cut by the end of a chunk. Whole values are looked for,
 * and long lines of values with several lines (keys in PEM form are printed line by line).
 */

/** A secret as a client gave it. */
export interface SecretValue {
  readonly id: string;
  readonly value: Uint8Array;
}

export interface Redactor {
  push(data: Uint8Array): void;
  /** Hands over what was held back; call it when the stream has ended. */
  flush(): void;
}

const MASK = Buffer.from('[secret]');
const MIN_VALUE_BYTES = 3; // shorter ones stand everywhere by chance
const MIN_LINE_BYTES = 8;

export function redactor(secrets: readonly Uint8Array[], deliver: (data: Uint8Array) => void): Redactor {
  const needles = needlesOf(secrets, MIN_VALUE_BYTES);
  if (needles.length === 0) return { push: deliver, flush: () => {} };
  let held = Buffer.alloc(0);
  return {
    push(data) {
      const { safe, rest } = scan(held.length === 0 ? Buffer.from(data) : Buffer.concat([held, data]), needles);
      held = Buffer.from(rest);
      if (safe.length > 0) deliver(safe);
    },
    flush() {
      if (held.length > 0) deliver(held);
      held = Buffer.alloc(0);
    },
  };
}

/** What to look for: values of `minBytes` and more and their long lines. Longest first, so that a value is taken whole before a line of it is. */
export function needlesOf(secrets: readonly Uint8Array[], minBytes: number): Buffer[] {
  const found = new Set<string>();
  for (const secret of secrets) {
    const text = Buffer.from(secret)
      .toString('latin1')
      .replace(/[\r\n]+$/, '');
    if (text.length >= minBytes) found.add(text);
    for (const line of text.split(/\r?\n/)) if (line.length >= MIN_LINE_BYTES && line !== text) found.add(line);
  }
  return [...found].map((text) => Buffer.from(text, 'latin1')).sort((a, b) => b.length - a.length);
}

/** `rest` is the tail that could be the beginning of a value. */
function scan(data: Buffer, needles: readonly Buffer[]): { safe: Buffer; rest: Buffer } {
  const parts: Buffer[] = [];
  let from = 0;
  while (true) {
    const hit = firstHit(data, from, needles);
    if (hit === undefined) break;
    parts.push(data.subarray(from, hit.at), MASK);
    from = hit.at + hit.length;
  }
  const tail = data.subarray(from);
  const keep = Math.max(...needles.map((needle) => overlap(tail, needle)));
  parts.push(tail.subarray(0, tail.length - keep));
  return { safe: Buffer.concat(parts), rest: tail.subarray(tail.length - keep) };
}

function firstHit(data: Buffer, from: number, needles: readonly Buffer[]): { at: number; length: number } | undefined {
  let best: { at: number; length: number } | undefined;
  for (const needle of needles) {
    const at = data.indexOf(needle, from);
    if (at !== -1 && (best === undefined || at < best.at)) best = { at, length: needle.length };
  }
  return best;
}

/** Length of the longest end of `data` with which `needle` begins, less than the whole needle. */
function overlap(data: Buffer, needle: Buffer): number {
  for (let length = Math.min(data.length, needle.length - 1); length > 0; length -= 1) {
    if (data[data.length - length] === needle[0] && data.subarray(data.length - length).equals(needle.subarray(0, length)))
      return length;
  }
  return 0;
}
