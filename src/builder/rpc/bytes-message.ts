/**
 * The codec of `BytesMessage { bytes data = 1; }`, by hand: every byte of a build context, a tarball or a tunnelled connection passes
 * through this message, and the generated codec copies each of them twice.
 */
import { BuildError } from '../../core/errors.ts';

const malformed = (what: string): BuildError => new BuildError('invalid-input', `malformed BytesMessage: ${what}`);

/** What precedes the data: the field's tag and the length. Empty data is an empty message. */
export function bytesMessageHead(dataBytes: number): Uint8Array {
  if (dataBytes === 0) return new Uint8Array(0);
  const head = [0x0a];
  let rest = dataBytes;
  while (rest > 0x7f) {
    head.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  head.push(rest);
  return Uint8Array.from(head);
}

/** One message; copies `data` once. Streams use `sendData`, which does not copy. */
export function encodeBytesMessage(data: Uint8Array): Uint8Array {
  const head = bytesMessageHead(data.byteLength);
  const message = new Uint8Array(head.byteLength + data.byteLength);
  message.set(head, 0);
  message.set(data, head.byteLength);
  return message;
}

/**
 * The data of a message that came in pieces, as views into them. A message that is more than its data field, or whose head is cut, is put
 * together and decoded whole. @throws BuildError `invalid-input` when malformed.
 */
export function bytesMessagePieces(pieces: readonly Uint8Array[]): readonly Uint8Array[] {
  const [first, ...rest] = pieces;
  if (rest.length === 0 || first === undefined) return [decodeBytesMessage(first ?? new Uint8Array(0))];
  const total = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
  let length = 0;
  for (let at = 1; at < Math.min(first.byteLength, 6) && first[0] === 0x0a; at += 1) {
    const byte = first[at] as number;
    length += (byte & 0x7f) * 2 ** (7 * (at - 1));
    if (byte >= 0x80) continue;
    if (at + 1 + length !== total) break;
    return [first.subarray(at + 1), ...rest];
  }
  return [decodeBytesMessage(Buffer.concat(pieces))];
}

/** The data as a view into `message`, not a copy. Unknown fields are skipped. @throws BuildError `invalid-input` when malformed. */
export function decodeBytesMessage(message: Uint8Array): Uint8Array {
  let data = message.subarray(0, 0);
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = message[at++];
      if (byte === undefined) throw malformed('it ends inside a number');
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw malformed('a number is longer than 10 bytes');
  };
  const skip = (count: number): number => {
    const from = at;
    at += count;
    if (at > message.byteLength) throw malformed('a field is longer than the message');
    return from;
  };
  while (at < message.byteLength) {
    const tag = varint();
    const field = Math.floor(tag / 8);
    if (field === 0) throw malformed('field number 0');
    switch (tag % 8) {
      case 0:
        varint();
        break;
      case 1:
        skip(8);
        break;
      case 2: {
        const length = varint();
        const from = skip(length);
        if (field === 1) data = message.subarray(from, at);
        break;
      }
      case 5:
        skip(4);
        break;
      default:
        throw malformed(`wire type ${tag % 8}`);
    }
  }
  return data;
}
