/** What is in a layer, entry by entry with a digest of the content, in a thread. */
import { createHash, type Hash } from 'node:crypto';
import type { TaskContext } from '../../core/worker-pool.ts';
import { type BlobSource, inflate } from '../snapshot/layer/inflate.ts';
import type { TarEntry } from '../snapshot/tar/header.ts';
import { TarReader } from '../snapshot/tar/read.ts';

export interface LayerEntry {
  readonly type: string;
  readonly mode: number;
  readonly owner: string;
  readonly mtimeNs: bigint;
  readonly link: string;
  readonly size: number;
  /** sha256 of the content; '' for what has none. */
  readonly content: string;
  readonly xattrs: string;
}
export interface ListArgs extends BlobSource {
  readonly maxEntries: number;
}

export async function listLayer(args: ListArgs, context: TaskContext): Promise<ReadonlyMap<string, LayerEntry>> {
  const entries = new Map<string, LayerEntry>();
  let current: TarEntry | undefined;
  let hash: Hash | undefined;
  const reader = new TarReader(
    {
      entry(entry) {
        current = entry;
        hash = entry.size > 0 ? createHash('sha256') : undefined;
      },
      data: (chunk) => void hash?.update(chunk),
      end() {
        if (current !== undefined)
          entries.set(`/${current.name.replace(/\/$/, '')}`, entryOf(current, hash?.digest('hex') ?? ''));
      },
    },
    args.maxEntries,
  );
  for await (const chunk of inflate(args, context)) reader.push(chunk);
  reader.finish();
  return entries;
}

function entryOf(entry: TarEntry, content: string): LayerEntry {
  const { type, mode, uid, gid, mtimeNs, linkname, size, xattrs } = entry;
  const attributes = [...xattrs].map(([name, value]) => `${name}=${value.toString('hex')}`).sort();
  return { type, mode, owner: `${uid}:${gid}`, mtimeNs, link: linkname, size, content, xattrs: attributes.join(' ') };
}
