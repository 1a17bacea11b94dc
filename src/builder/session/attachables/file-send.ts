/** Where the results of a build go at the client: a directory, a file, or a stream such as stdout (buildkit-wire.md 3.4). */
import { createWriteStream, mkdirSync, realpathSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { BuildError } from '../../../core/errors.ts';
import { FileSend } from '../../proto/gen/moby/filesync/v1/filesync_pb.ts';
import { decodeBytesMessage } from '../../rpc/bytes-message.ts';
import { type RawStream, raw, type Service, service } from '../../rpc/handlers.ts';
import { openSys } from '../../worker/sys/sys.ts';
import { receiveTree } from '../fsutil/receive-tree.ts';

export type ClientOutput =
  /** Made when missing. What it holds already stays, unless the daemon's files replace it or `deleteOthers` is set. */
  | { readonly type: 'directory'; readonly path: string; readonly deleteOthers?: boolean }
  /** Appears under its name when it is complete. */
  | { readonly type: 'file'; readonly path: string }
  /** Left open at the end. */
  | { readonly type: 'stream'; readonly writable: Writable };

/** `outputs`: by position of the exporter in the build's request. */
export function fileSendService(outputs: ReadonlyMap<number, ClientOutput>): Service {
  return service(FileSend, {
    diffCopy: raw(async (stream, { headers, signal }) => {
      const index = Number.parseInt(headers.get('buildkit-attachable-exporter-id') ?? '0', 10);
      const output = outputs.get(index);
      if (output === undefined) throw new BuildError('not-found', `exporter ${index} not found`);
      switch (output.type) {
        case 'directory':
          return await receiveDirectory(stream, output);
        case 'file':
          return await receiveFile(stream, output.path, signal);
        case 'stream':
          return await writeAll(stream, output.writable, signal);
      }
    }),
  });
}

async function receiveDirectory(stream: RawStream, output: ClientOutput & { type: 'directory' }): Promise<void> {
  mkdirSync(output.path, { recursive: true, mode: 0o700 });
  await receiveTree(stream, {
    destination: output.path,
    differ: 'none',
    merge: output.deleteOthers !== true,
    owner: 'self',
    sys: openSys(),
    onProgress: () => {},
  });
}

/** A file appears whole or not at all, also behind a link. A device or a pipe is written to and never replaced. */
async function receiveFile(stream: RawStream, path: string, signal: AbortSignal): Promise<void> {
  mkdirSync(dirname(path), { recursive: true });
  const there = statSync(path, { throwIfNoEntry: false });
  const inPlace = there !== undefined && !there.isFile();
  const target = there === undefined ? path : realpathSync(path);
  const partial = inPlace ? target : `${target}.partial-${process.pid}`;
  const file = createWriteStream(partial);
  file.on('error', () => {}); // writeAll and finished report it; one that comes after them is of no interest
  try {
    await writeAll(stream, file, signal);
    file.end();
    await finished(file);
    if (!inPlace) renameSync(partial, target);
  } catch (error) {
    file.destroy();
    if (!file.closed) await new Promise<void>((resolve) => file.once('close', () => resolve()));
    if (!inPlace) rmSync(partial, { force: true });
    throw error;
  }
}

async function writeAll(stream: RawStream, writable: Writable, signal: AbortSignal): Promise<void> {
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => {});
  const onError = (error: Error): void => failed.reject(error);
  writable.on('error', onError);
  try {
    for await (const message of stream) {
      signal.throwIfAborted();
      const data = decodeBytesMessage(message);
      if (!writable.write(data)) await Promise.race([failed.promise, drained(writable)]);
    }
  } finally {
    writable.off('error', onError);
  }
}

const drained = (writable: Writable): Promise<void> => new Promise((resolve) => writable.once('drain', resolve));
