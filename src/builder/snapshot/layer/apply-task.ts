/** Unpacks one layer blob into a directory, in a thread; both digests are checked before anybody relies on what was written. */
import type { TaskContext } from '../../../core/worker-pool.ts';
import { openSys } from '../../worker/sys/sys.ts';
import { TarReader } from '../tar/read.ts';
import { bytesOf } from '../tree/names.ts';
import { type BlobSource, inflate } from './inflate.ts';
import { TreeWriter, type TreeWriterOptions, type Unsettled } from './tree-writer.ts';

export interface ApplyArgs extends BlobSource, TreeWriterOptions {
  readonly maxEntries: number;
}
export type ApplyOutput = Unsettled;

/** What was written stays when this fails; the caller removes the directory. */
export async function applyLayer(args: ApplyArgs, context: TaskContext): Promise<ApplyOutput> {
  using writer = new TreeWriter({ ...args, root: bytesOf(args.root) }, openSys());
  const reader = new TarReader(writer, args.maxEntries);
  for await (const chunk of inflate(args, context)) reader.push(chunk);
  reader.finish();
  return writer.finish();
}
