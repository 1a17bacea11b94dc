/** Writes of the S3 store that need more than one request: big objects in parts, and copying an object onto itself. */
import type { CompletedPart, S3Client } from '@aws-sdk/client-s3';
import { type Digest, hexOf } from '../../../core/digest.ts';
import type { BlobContent } from './ports.ts';
import { eachAtOnce, type Range, rangesOf, sendRange } from './store-body.ts';

export interface S3Target {
  readonly client: S3Client;
  readonly bucket: string;
}

/** The part of the SDK's request that is changed here. */
type HttpRequest = { headers: Record<string, string> };

const MiB = 1024 * 1024;
/** One request up to here. */
const SINGLE_PUT_BYTES = 64 * MiB;
const PART_BYTES = 32 * MiB;
/** Limit of the service: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html */
const MAX_COPY_BYTES = 5 * 1024 * MiB;
/** Parts of one object in flight; several objects are written at once already. */
const PARTS_AT_ONCE = 2;

/**
 * Streams from the file, so memory does not grow with the blob. Nothing is visible before the last byte is there: the request is signed
 * with the digest of the blob as that of its body, so a service refuses a body that was cut off or changed on its way.
 */
export async function putObject(
  target: S3Target,
  key: string,
  digest: Digest,
  content: BlobContent,
  signal: AbortSignal,
): Promise<void> {
  const { PutObjectCommand, UploadPartCommand } = await import('@aws-sdk/client-s3');
  const { client, bucket: Bucket } = target;
  const { sizeBytes } = content;
  if (sizeBytes <= SINGLE_PUT_BYTES) {
    const put = { Bucket, Key: key, ContentLength: sizeBytes };
    if (sizeBytes === 0) await client.send(new PutObjectCommand({ ...put, Body: new Uint8Array() }), { abortSignal: signal });
    else
      await sendRange(content, { offset: 0, length: sizeBytes }, signal, (Body, abortSignal) => {
        const command = new PutObjectCommand({ ...put, Body });
        command.middlewareStack.add(
          (next) => (args) => {
            (args.request as HttpRequest).headers['x-amz-content-sha256'] = hexOf(digest);
            return next(args);
          },
          { step: 'build', name: 'payloadDigest' },
        );
        return client.send(command, { abortSignal });
      });
    return;
  }
  await inParts(target, key, rangesOf(sizeBytes, PART_BYTES), {}, signal, async (range, PartNumber, UploadId) => {
    const part = { Bucket, Key: key, UploadId, PartNumber, ContentLength: range.length };
    const answer = await sendRange(content, range, signal, (Body, abortSignal) =>
      client.send(new UploadPartCommand({ ...part, Body }), { abortSignal }),
    );
    return answer.ETag;
  });
}

/** The only way to give an object a new date: copy it onto itself with other metadata. */
export async function copyOntoItself(
  target: S3Target,
  key: string,
  sizeBytes: number,
  nowMs: number,
  signal: AbortSignal,
): Promise<void> {
  const { CopyObjectCommand, UploadPartCopyCommand } = await import('@aws-sdk/client-s3');
  const { client, bucket: Bucket } = target;
  const CopySource = `${Bucket}/${key}`.split('/').map(encodeURIComponent).join('/');
  const Metadata = { 'updated-at': new Date(nowMs).toISOString() };
  if (sizeBytes < MAX_COPY_BYTES) {
    const copy = new CopyObjectCommand({ Bucket, Key: key, CopySource, Metadata, MetadataDirective: 'REPLACE' });
    await client.send(copy, { abortSignal: signal });
    return;
  }
  await inParts(target, key, rangesOf(sizeBytes, MAX_COPY_BYTES), Metadata, signal, async (range, PartNumber, UploadId) => {
    const CopySourceRange = `bytes=${range.offset}-${range.offset + range.length - 1}`;
    const part = new UploadPartCopyCommand({ Bucket, Key: key, UploadId, PartNumber, CopySource, CopySourceRange });
    return (await client.send(part, { abortSignal: signal })).CopyPartResult?.ETag;
  });
}

async function inParts(
  { client, bucket: Bucket }: S3Target,
  key: string,
  ranges: readonly Range[],
  Metadata: Record<string, string>,
  signal: AbortSignal,
  send: (range: Range, partNumber: number, uploadId: string) => Promise<string | undefined>,
): Promise<void> {
  const s3 = await import('@aws-sdk/client-s3');
  const begun = await client.send(new s3.CreateMultipartUploadCommand({ Bucket, Key: key, Metadata }), { abortSignal: signal });
  const UploadId = begun.UploadId ?? '';
  try {
    const Parts: CompletedPart[] = [];
    await eachAtOnce(ranges, PARTS_AT_ONCE, async (range, at) => {
      const ETag = await send(range, at + 1, UploadId);
      Parts[at] = { PartNumber: at + 1, ...(ETag === undefined ? {} : { ETag }) };
    });
    const complete = new s3.CompleteMultipartUploadCommand({ Bucket, Key: key, UploadId, MultipartUpload: { Parts } });
    await client.send(complete, { abortSignal: signal });
  } catch (error) {
    // Parts of an upload that is never ended are kept, and billed, until a lifecycle rule takes them. Not waited for: the caller may be
    // out of time, and a service that just failed may hang.
    client.send(new s3.AbortMultipartUploadCommand({ Bucket, Key: key, UploadId })).catch(() => undefined);
    throw error;
  }
}
