/**
 * gRPC metadata: headers and trailers that may repeat. Node joins repeated HTTP/2 headers with `, `, which cannot be undone when a
 * value holds a comma, so this is always built from the raw list.
 */
import { BuildError } from '../../core/errors.ts';

/** Headers in order, names in lower case, repeated names allowed. */
export type HeaderList = readonly (readonly [name: string, value: string])[];

export class Metadata implements Iterable<readonly [string, string]> {
  readonly #values = new Map<string, string[]>();

  constructor(headers: HeaderList = []) {
    for (const [name, value] of headers) this.append(name, value);
  }

  /** From the flat `[name, value, name, value, ...]` list that node:http2 hands over. */
  static fromRaw(raw: readonly string[]): Metadata {
    const metadata = new Metadata();
    for (let i = 0; i + 1 < raw.length; i += 2) metadata.append(raw[i] as string, raw[i + 1] as string);
    return metadata;
  }

  append(name: string, value: string): void {
    const key = name.toLowerCase();
    const values = this.#values.get(key);
    if (values === undefined) this.#values.set(key, [value]);
    else values.push(value);
  }

  /** The first value. */
  get(name: string): string | undefined {
    return this.#values.get(name.toLowerCase())?.[0];
  }
  /** Every value, one per header line, unsplit. */
  getAll(name: string): readonly string[] {
    return this.#values.get(name.toLowerCase()) ?? [];
  }
  has(name: string): boolean {
    return this.#values.has(name.toLowerCase());
  }
  get size(): number {
    return this.#values.size;
  }

  *[Symbol.iterator](): Iterator<readonly [string, string]> {
    for (const [name, values] of this.#values) for (const value of values) yield [name, value];
  }
}

const FORBIDDEN = /[^\x20-\x7e]/;

/**
 * Adds `headers` to an object for node:http2. @throws BuildError `invalid-input` for a name or value that HTTP/2 cannot carry: gRPC
 * metadata is printable ASCII, anything else has to be escaped by whoever knows how its receiver unescapes it.
 */
export function addHeaders(target: Record<string, string | string[]>, headers: HeaderList): void {
  for (const [name, value] of headers) {
    const key = name.toLowerCase();
    if (!/^[0-9a-z_.-]+$/.test(key)) throw new BuildError('invalid-input', `"${name}" is not a header name`);
    if (FORBIDDEN.test(value)) throw new BuildError('invalid-input', `the value of header "${key}" is not printable ASCII`);
    const present = target[key];
    if (present === undefined) target[key] = value;
    else if (Array.isArray(present)) present.push(value);
    else target[key] = [present, value];
  }
}

/** `grpc-message`: everything outside printable ASCII, and `%`, percent-encoded as UTF-8 (gRPC over HTTP/2, "Status-Message"). */
export function percentEncode(text: string): string {
  if (!FORBIDDEN.test(text) && !text.includes('%')) return text;
  let encoded = '';
  for (const byte of Buffer.from(text, 'utf8')) {
    encoded +=
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return encoded;
}

/** Never throws: a `%` that starts no escape stands for itself, and bytes that are no UTF-8 become U+FFFD. */
export function percentDecode(text: string): string {
  if (!text.includes('%')) return text;
  const bytes: number[] = [];
  for (let i = 0; i < text.length; i++) {
    const hex = text.slice(i + 1, i + 3);
    if (text[i] === '%' && /^[0-9a-fA-F]{2}$/.test(hex)) {
      bytes.push(Number.parseInt(hex, 16));
      i += 2;
    } else bytes.push(...Buffer.from(text[i] as string, 'utf8'));
  }
  return Buffer.from(bytes).toString('utf8');
}

const UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/** Milliseconds of a `grpc-timeout` value (1 to 8 digits and a unit), or undefined when malformed. */
export function parseTimeout(value: string): number | undefined {
  const match = /^(\d{1,8})([HMSmun])$/.exec(value);
  if (match === null) return undefined;
  return Number(match[1]) * (UNIT_MS[match[2] as string] as number);
}

/** The `grpc-timeout` value for a time in milliseconds, rounded up, in the finest unit whose number has at most 8 digits. */
export function formatTimeout(ms: number): string {
  for (const unit of ['m', 'S', 'M'] as const) {
    const count = Math.ceil(Math.max(ms, 0) / (UNIT_MS[unit] as number));
    if (count <= 99_999_999) return `${count}${unit}`;
  }
  return `${Math.min(99_999_999, Math.ceil(ms / 3_600_000))}H`;
}
