/** A content store on the client, reached through its session (`containerd.services.content.v1.Content`, buildkit-wire.md 3.9). */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { type Digest, digestOf, isDigest, parseDigest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { Descriptor } from '../content/ports.ts';
import {
  InfoRequestSchema,
  InfoResponseSchema,
  ReadContentRequestSchema,
  ReadContentResponseSchema,
  WriteAction,
  WriteContentRequestSchema,
  WriteContentResponseSchema,
} from '../proto/gen/containerd/services/content/v1/content_pb.ts';
import type { CallOptions, Session, SessionStream } from '../session/ports.ts';

export interface SessionContent {
  /** Rejects with `not-found` when the client has no such blob. */
  info(digest: Digest, signal: AbortSignal): Promise<{ readonly digest: Digest; readonly sizeBytes: number }>;
  /** The blob from `offset` on, as the client sends it: not verified. */
  read(digest: Digest, offset: number, signal: AbortSignal): AsyncIterable<Uint8Array>;
  /** A small blob, whole and verified. Rejects with `exhausted` above `maxBytes`, `corrupt` for wrong bytes. */
  readAll(digest: Digest, maxBytes: number, signal: AbortSignal): Promise<Uint8Array>;
  /** Writes and commits a blob; resolves as well when the client has it already. */
  write(descriptor: Descriptor, bytes: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void>;
}

const SERVICE = '/containerd.services.content.v1.Content';
const WRITE_CHUNK_BYTES = 1024 * 1024;

/** `storeId`: `oci:<name>`, `local:<path>` or `export`. */
export function sessionContent(session: Session, storeId: string): SessionContent {
  const options = (signal: AbortSignal): CallOptions => ({ headers: [['buildkit-attachable-store-id', storeId]], signal });
  return {
    async info(digest, signal) {
      const request = toBinary(InfoRequestSchema, create(InfoRequestSchema, { digest }));
      const { info } = fromBinary(InfoResponseSchema, await session.unary(`${SERVICE}/Info`, request, options(signal)));
      if (info === undefined) throw new BuildError('not-found', `content ${digest}: not found`);
      return { digest: parseDigest(info.digest), sizeBytes: Number(info.size) };
    },
    read: (digest, offset, signal) => readBlob(session.stream(`${SERVICE}/Read`, options(signal)), digest, offset),
    async readAll(digest, maxBytes, signal) {
      const chunks: Uint8Array[] = [];
      let sizeBytes = 0;
      for await (const chunk of this.read(digest, 0, signal)) {
        sizeBytes += chunk.byteLength;
        if (sizeBytes > maxBytes) throw new BuildError('exhausted', `content ${digest} has more than ${maxBytes} bytes`);
        chunks.push(chunk);
      }
      const bytes = Buffer.concat(chunks);
      if (digestOf(bytes) !== digest) throw new BuildError('corrupt', `content ${digest} of the client has other bytes`);
      return bytes;
    },
    async write(descriptor, bytes, signal) {
      try {
        await writeBlob(session.stream(`${SERVICE}/Write`, options(signal)), descriptor, bytes);
      } catch (thrown) {
        const error = BuildError.from(thrown);
        if (!error.message.includes('already exists')) throw error;
      }
    },
  };
}

async function* readBlob(stream: SessionStream, digest: Digest, offset: number): AsyncIterable<Uint8Array> {
  const request = create(ReadContentRequestSchema, { digest, offset: BigInt(offset) });
  await stream.send(toBinary(ReadContentRequestSchema, request));
  stream.end();
  for await (const message of stream) yield fromBinary(ReadContentResponseSchema, message).data;
}

/** One WRITE per chunk, each answered, then COMMIT: the content service's own protocol. */
async function writeBlob(stream: SessionStream, descriptor: Descriptor, bytes: AsyncIterable<Uint8Array>): Promise<void> {
  const answers = stream[Symbol.asyncIterator]();
  const common = { ref: `cooper-${descriptor.digest}`, total: BigInt(descriptor.size), expected: descriptor.digest };
  let offset = 0;
  const ask = async (action: WriteAction, data: Uint8Array): Promise<void> => {
    const request = create(WriteContentRequestSchema, { ...common, action, offset: BigInt(offset), data });
    await stream.send(toBinary(WriteContentRequestSchema, request));
    const answer = await answers.next();
    if (answer.done === true) throw new BuildError('unavailable', `the client stopped receiving ${descriptor.digest}`);
    const { digest } = fromBinary(WriteContentResponseSchema, answer.value);
    if (action === WriteAction.COMMIT && isDigest(digest) && digest !== descriptor.digest)
      throw new BuildError('corrupt', `the client stored ${descriptor.digest} as ${digest}`);
  };
  for await (const chunk of bytes)
    for (let at = 0; at < chunk.byteLength; at += WRITE_CHUNK_BYTES) {
      const part = chunk.subarray(at, at + WRITE_CHUNK_BYTES);
      await ask(WriteAction.WRITE, part);
      offset += part.byteLength;
    }
  await ask(WriteAction.COMMIT, new Uint8Array());
  stream.end();
}
