/** What a session's worker thread does for the main thread. File calls are synchronous: this thread has nothing else to keep waiting. */
import { closeSync, openSync, readSync } from 'node:fs';
import { BuildError, GRPC } from '../../../core/errors.ts';
import type { RpcClient } from '../../rpc/client.ts';
import type { RpcStream } from '../../rpc/client-call.ts';
import { openSys } from '../../worker/sys/sys.ts';
import { listTree } from '../fsutil/list-tree.ts';
import { receiveTree } from '../fsutil/receive-tree.ts';
import { sendTree } from '../fsutil/sender.ts';
import type { Call } from './call.ts';
import type { ReceiveOutput, Task } from './protocol.ts';

const FILE_SYNC = '/moby.filesync.v1.FileSync/DiffCopy';
const FILE_SEND = '/moby.filesync.v1.FileSend/DiffCopy';
/** Per message; clients accept 4 MiB and the protocol asks for at most 3. */
const PIECE_BYTES = 1024 * 1024;

/** The task's output: the answer's bytes of a unary call, ReceiveOutput, or nothing. */
export async function runTask(client: RpcClient, task: Task, call: Call): Promise<unknown> {
  const { headers } = task;
  switch (task.type) {
    case 'unary': {
      const answer = await client.unaryBytes(task.method, task.request, { headers, signal: call.signal, ...timeoutOf(task) });
      return Uint8Array.from(answer); // its own buffer: the answer may be a view into a larger one
    }
    case 'stream': {
      using stream = client.stream(task.method, { headers, signal: call.signal, ...timeoutOf(task) });
      return await relay(stream, call);
    }
    case 'receive-files': {
      using stream = client.stream(FILE_SYNC, { headers, signal: call.signal });
      return await receiveFiles(stream, task, call);
    }
    case 'send-files': {
      using stream = client.stream(FILE_SEND, { headers, signal: call.signal });
      return await sendFiles(stream, task, call);
    }
    case 'send-bytes': {
      using stream = client.stream(FILE_SEND, { headers, signal: call.signal });
      return await sendBytes(stream, task.file === undefined ? call.channel : piecesOf(task.file), call);
    }
  }
}

const timeoutOf = ({ timeoutMs }: { readonly timeoutMs?: number }): { timeoutMs?: number } =>
  timeoutMs === undefined ? {} : { timeoutMs };

async function relay(stream: RpcStream, call: Call): Promise<void> {
  const outgoing = async (): Promise<void> => {
    for await (const message of call.channel) await stream.send(message);
    stream.end();
  };
  outgoing().catch(() => {}); // the answers, or the abort, say why
  for await (const message of stream) await call.channel.send(message);
}

async function receiveFiles(stream: RpcStream, task: Task & { type: 'receive-files' }, call: Call): Promise<ReceiveOutput> {
  try {
    return await receiveTree(stream, {
      destination: task.destination,
      differ: task.differ,
      merge: false,
      owner: 'root',
      sys: openSys(),
      onProgress: call.progress,
      onDigest: (path, digest) => call.digest(path, digest),
      onLink: (path, target) => call.link(path, target),
    });
  } finally {
    call.flush();
  }
}

async function sendFiles(stream: RpcStream, task: Task & { type: 'send-files' }, call: Call): Promise<void> {
  const { dir, prefix, modTimeNs } = task;
  const sys = openSys();
  await sendTree(stream, { ...listTree(dir, { prefix, modTimeNs, sys }), onProgress: call.progress });
  stream.end();
  for await (const _ of stream); // the client has written everything when it ends the stream
  call.flush();
}

async function sendBytes(stream: RpcStream, source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, call: Call): Promise<void> {
  const send = async (): Promise<void> => {
    for await (const bytes of source) {
      for (let at = 0; at < bytes.byteLength; at += PIECE_BYTES) {
        const piece = bytes.subarray(at, at + PIECE_BYTES);
        await stream.sendData(piece);
        call.progress(piece.byteLength);
      }
    }
    stream.end();
  };
  send().catch((error) => stream.cancel(BuildError.from(error))); // no effect when the client has ended the call: it says why
  try {
    for await (const _ of stream); // the client's end of the stream is its word that the output is on disk
  } catch (error) {
    // A client that has the output already says so in place of taking it.
    if (!(error instanceof BuildError && error.detail.grpcCode === GRPC.ALREADY_EXISTS)) throw error;
  } finally {
    call.flush();
  }
}

/** The pieces of a file; each is given away and never written to again. */
function* piecesOf(file: string): Generator<Uint8Array, void, undefined> {
  const fd = openSync(file, 'r');
  try {
    while (true) {
      const piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
      const count = readSync(fd, piece, 0, PIECE_BYTES, null);
      if (count === 0) return;
      yield piece.subarray(0, count);
    }
  } finally {
    closeSync(fd);
  }
}
