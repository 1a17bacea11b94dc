/** A blob into the content store: fetched in a thread, gone on with where it was interrupted, kept only when its digest is right. */
import { rm } from 'node:fs/promises';
import { BuildError } from '../../core/errors.ts';
import { type TaskRef, taskRef, type WorkerPool } from '../../core/worker-pool.ts';
import type { ContentStore, Descriptor } from '../content/ports.ts';
import { statusError } from './http.ts';
import type { RegistryClient, Target } from './registry-client.ts';
import type { Answer, DownloadArgs, DownloadResult } from './transfer-task.ts';

const downloadTask: TaskRef<DownloadArgs, DownloadResult> = taskRef(new URL('./transfer-task.ts', import.meta.url), 'download');
const NO_BODY = new Uint8Array();

/** The part of a blob that attempts so far have fetched; shared by the attempts at several endpoints. */
export interface PartialBlob extends AsyncDisposable {
  readonly path: string;
  sizeBytes: number;
}
export function openPartialBlob(content: ContentStore): PartialBlob {
  const path = content.tempPath();
  return { path, sizeBytes: 0, [Symbol.asyncDispose]: async () => await rm(path, { force: true }) };
}

/**
 * One attempt at one endpoint. Rejects with `unavailable` after an interruption (`partial` then says how far it came), `corrupt`
 * for wrong bytes, and the kind of the status otherwise.
 */
export async function downloadBlob(options: {
  readonly client: RegistryClient;
  readonly content: ContentStore;
  readonly pool: WorkerPool;
  readonly target: Target;
  readonly url: URL;
  readonly descriptor: Descriptor;
  readonly partial: PartialBlob;
  readonly nowMs: () => number;
  readonly onProgress: (bytes: number) => void;
}): Promise<void> {
  const { client, content, pool, target, url, descriptor, partial } = options;
  const { result } = await client.authorised(target, { method: 'GET', url }, async (authorization) => {
    const args: DownloadArgs = {
      url: url.href,
      headers: { 'user-agent': client.http.userAgent, ...authorization },
      tls: target.endpoint.tls,
      proxy: client.http.proxy,
      limits: client.http.limits,
      path: partial.path,
      offset: partial.sizeBytes,
      sizeBytes: descriptor.size,
    };
    const done = await pool.run(downloadTask, args, { signal: target.call.signal, onProgress: options.onProgress });
    const answer: Pick<Answer, 'status' | 'headers' | 'body' | 'url'> =
      done.outcome === 'answered'
        ? done
        : { status: done.outcome === 'complete' ? 200 : 0, headers: {}, body: NO_BODY, url: url.href };
    return { status: answer.status, headers: answer.headers, body: answer.body, url: new URL(answer.url), result: done };
  });
  if (result.outcome === 'answered') {
    if (result.status === 416) partial.sizeBytes = 0; // the part here does not fit what is there: start over
    const error = statusError(result, 'GET', new URL(result.url), options.nowMs());
    throw result.status === 416 ? new BuildError('unavailable', error.message) : error;
  }
  partial.sizeBytes = result.sizeBytes;
  if (result.outcome === 'interrupted') throw new BuildError('unavailable', result.message);
  if (result.digest !== descriptor.digest) {
    options.onProgress(-partial.sizeBytes);
    partial.sizeBytes = 0;
    throw new BuildError(
      'corrupt',
      `unexpected digest ${result.digest} of blob ${descriptor.digest} from ${target.endpoint.authority}`,
    );
  }
  await content.adopt(partial.path, result.digest, result.sizeBytes);
}
