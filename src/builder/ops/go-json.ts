/**
 * JSON exactly as Go's encoding/json writes the structs generated from ops.proto: cache keys are digests of that text, and two builders
 * that exchange remote caches must agree on every byte (buildkit-wire.md section 7.3). Fields stand in the order of the .proto under
 * their .proto names, zero values are left out, enums are numbers, bytes are base64, and `<`, `>`, `&` and the two Unicode line
 * separators are escaped.
 */
import type { DescField, DescMessage, Message } from '@bufbuild/protobuf';
import { BuildError } from '../../core/errors.ts';
import type { UserOpt } from '../proto/gen/pb/ops_pb.ts';

/** A message without unknown fields or maps, as Go writes it. */
export function goJson(schema: DescMessage, message: Message): string {
  if (schema.typeName === 'pb.UserOpt') return userOptJson(message as UserOpt);
  const fields: string[] = [];
  for (const field of schema.fields) {
    const text = fieldJson(field, (message as unknown as Record<string, unknown>)[field.localName]);
    if (text !== undefined) fields.push(`${goString(field.name)}:${text}`);
  }
  return `{${fields.join(',')}}`;
}

/** A string literal. Characters that HTML or JavaScript could misread are escaped; so are the control characters. */
export function goString(text: string): string {
  return JSON.stringify(text).replace(/[<>&\u2028\u2029]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Standard base64 in quotes: how Go writes a byte slice. */
export function goBytes(bytes: Uint8Array | string): string {
  return `"${Buffer.from(bytes as Uint8Array).toString('base64')}"`;
}

/** Undefined for a zero value: every generated field says `omitempty`. */
function fieldJson(field: DescField, value: unknown): string | undefined {
  if (field.oneof !== undefined || field.fieldKind === 'map') {
    throw new BuildError('internal', `${field.parent.typeName}.${field.name} has no known Go JSON form`);
  }
  if (value === undefined) return undefined;
  switch (field.fieldKind) {
    case 'message':
      return goJson(field.message, value as Message);
    case 'list': {
      const items = value as readonly unknown[];
      if (items.length === 0) return undefined;
      const { listKind } = field;
      const texts = items.map((item) => (listKind === 'message' ? goJson(field.message, item as Message) : scalarJson(item)));
      return `[${texts.join(',')}]`;
    }
    default:
      return isZero(value) ? undefined : scalarJson(value);
  }
}

function isZero(value: unknown): boolean {
  return value === 0 || value === 0n || value === false || value === '' || (value instanceof Uint8Array && value.length === 0);
}

function scalarJson(value: unknown): string {
  if (typeof value === 'string') return goString(value);
  if (value instanceof Uint8Array) return goBytes(value);
  return String(value);
}

/** The one message with a form of its own: the oneof becomes an object `User`, and the id's field is spelt `byId`. */
function userOptJson({ user }: UserOpt): string {
  if (user.case === 'byName') {
    const { name, input } = user.value;
    const fields = [...(name === '' ? [] : [`"name":${goString(name)}`]), ...(input === 0n ? [] : [`"input":${input}`])];
    return `{"User":{"byName":{${fields.join(',')}}}}`;
  }
  return user.case === 'byID' && user.value !== 0 ? `{"User":{"byId":${user.value}}}` : '{"User":{}}';
}
