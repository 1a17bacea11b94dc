/** The thread of BlobWriter: synchronous writes and hashing, in the order the messages came. */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, fdatasync, openSync, writeSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { BuildError } from '../../core/errors.ts';
import type { WriterReply, WriterRequest } from './blob-writer.ts';

const port = parentPort;
if (port === null) throw new BuildError('internal', 'blob-writer-thread.ts runs only inside a worker thread');
const reply = (message: WriterReply): void => port.postMessage(message);

interface OpenFile {
  readonly fd: number;
  readonly hash: Hash;
  sizeBytes: number;
}
const files = new Map<number, OpenFile>();

function close(id: number): void {
  const file = files.get(id);
  if (file === undefined) return;
  files.delete(id);
  closeSync(file.fd);
}

function failed(id: number, thrown: unknown): void {
  close(id);
  const { kind, message } = BuildError.from(thrown);
  reply({ type: 'failed', id, kind, message });
}

function write(file: OpenFile, bytes: Uint8Array): void {
  file.hash.update(bytes);
  for (let at = 0; at < bytes.byteLength; ) at += writeSync(file.fd, bytes, at);
  file.sizeBytes += bytes.byteLength;
}

/** The sync does not hold up other streams. */
function finish(id: number, file: OpenFile): void {
  fdatasync(file.fd, (error) => {
    if (error !== null) return failed(id, error);
    close(id);
    reply({ type: 'finished', id, hex: file.hash.digest('hex'), sizeBytes: file.sizeBytes });
  });
}

function handle(request: WriterRequest): void {
  if (request.type === 'open') {
    files.set(request.id, { fd: openSync(request.path, 'wx', 0o644), hash: createHash('sha256'), sizeBytes: 0 });
    return;
  }
  const file = files.get(request.id);
  if (file === undefined) return; // failed before; its producer knows
  if (request.type === 'data') {
    write(file, request.bytes);
    reply({ type: 'written', id: request.id, bytes: request.bytes.byteLength });
  } else if (request.type === 'finish') finish(request.id, file);
  else close(request.id);
}

port.on('message', (request: WriterRequest) => {
  try {
    handle(request);
  } catch (error) {
    failed(request.id, error);
  }
});
