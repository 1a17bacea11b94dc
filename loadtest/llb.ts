/**
 * Just enough of the build graph's wire format to ask for a command on an image, written out by hand: k6 has no Node modules, and
 * its gRPC client takes messages as JSON, where the graph's ops are opaque bytes (src/builder/proto/pb/ops.proto).
 */
import crypto from 'k6/crypto';
import encoding from 'k6/encoding';

/** `pb.Definition` in protobuf's JSON form. */
export interface DefinitionJson {
  /** Base64 of marshalled ops, the result last. */
  readonly def: readonly string[];
  readonly metadata: Readonly<Record<string, { readonly description: Readonly<Record<string, string>> }>>;
}

/** A graph that runs `command` in a shell on `image`. Equal texts make equal graphs, which a daemon has cached after the first. */
export function commandOn(image: string, command: string): DefinitionJson {
  const source = message(bytes(3, message(text(1, `docker-image://${image}`))), platform());
  const meta = message(text(1, '/bin/sh'), text(1, '-c'), text(1, command), text(2, 'PATH=/bin'), text(3, '/'));
  const mount = message(text(3, '/')); // input 0 at /, written back as output 0: both zero, so both left out
  const exec = message(bytes(1, input(source)), bytes(2, message(bytes(1, meta), bytes(2, mount))), platform());
  const result = message(bytes(1, input(exec)));
  return {
    def: [source, exec, result].map((op) => encoding.b64encode(bufferOf(op))),
    metadata: {
      [digestOf(source)]: { description: { 'llb.customname': `[1/2] FROM ${image}` } },
      [digestOf(exec)]: { description: { 'llb.customname': `[2/2] RUN ${command}` } },
    },
  };
}

const PLATFORM_FIELD = 10;
const platform = (): number[] => bytes(PLATFORM_FIELD, message(text(1, 'amd64'), text(2, 'linux')));
const input = (op: readonly number[]): number[] => message(text(1, digestOf(op)));
const digestOf = (op: readonly number[]): string => `sha256:${crypto.sha256(bufferOf(op), 'hex')}`;
const bufferOf = (octets: readonly number[]): ArrayBuffer => new Uint8Array(octets).buffer;

const message = (...fields: readonly (readonly number[])[]): number[] => fields.flat();
/** A length-delimited field (https://protobuf.dev/programming-guides/encoding/#length-types). */
const bytes = (field: number, value: readonly number[]): number[] => [
  ...varint(field * 8 + 2),
  ...varint(value.length),
  ...value,
];

function text(field: number, value: string): number[] {
  const octets = [...value].map((char) => char.charCodeAt(0));
  if (octets.some((octet) => octet > 0x7f)) throw new Error(`only ASCII here: ${value}`);
  return bytes(field, octets);
}

function varint(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(value >>> 7)];
}
