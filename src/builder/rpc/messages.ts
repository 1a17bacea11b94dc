/** Generated messages to bytes and back, with our errors. */
import { create, type DescMessage, fromBinary, type MessageInitShape, type MessageShape, toBinary } from '@bufbuild/protobuf';
import { BuildError } from '../../core/errors.ts';

/** `/pkg.Service/Method`, as calls name it. */
export const pathOf = (method: { readonly name: string; readonly parent: { readonly typeName: string } }): string =>
  `/${method.parent.typeName}/${method.name}`;

/** Fields left out take their defaults. */
export function encodeMessage<D extends DescMessage>(schema: D, message: MessageInitShape<D>): Uint8Array {
  return toBinary(schema, create(schema, message));
}

/** @throws BuildError `invalid-input` when the bytes are no such message. */
export function decodeMessage<D extends DescMessage>(schema: D, bytes: Uint8Array): MessageShape<D> {
  try {
    return fromBinary(schema, bytes);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new BuildError('invalid-input', `malformed ${schema.typeName}: ${reason}`, {}, { cause: error });
  }
}
