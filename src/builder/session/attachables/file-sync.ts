/** Directories of the client that a build may read, by name: `context`, `dockerfile` (buildkit-wire.md 3.2). */
import { statSync } from 'node:fs';
import { BuildError } from '../../../core/errors.ts';
import { FileSync } from '../../proto/gen/moby/filesync/v1/filesync_pb.ts';
import { raw, type Service, service } from '../../rpc/handlers.ts';
import type { Metadata } from '../../rpc/metadata.ts';
import { openSys } from '../../worker/sys/sys.ts';
import { queryUnescape } from '../file-sync-headers.ts';
import { xattrsOf } from '../fsutil/list-tree.ts';
import { byteStringOf, type Stat } from '../fsutil/packet.ts';
import { selectionOf } from '../fsutil/select.ts';
import { sendTree } from '../fsutil/sender.ts';
import { walk } from '../fsutil/walk.ts';

/** `dirs`: names to directories. Owners are not told: a build does not depend on who runs it. */
export function fileSyncService(dirs: ReadonlyMap<string, string>): Service {
  return service(FileSync, {
    diffCopy: raw(async (stream, { headers }) => {
      const name = headers.get('dir-name') ?? '';
      const dir = dirs.get(name);
      if (dir === undefined) throw new BuildError('not-found', `no access allowed to dir ${JSON.stringify(name)}`);
      if (!statSync(dir, { throwIfNoEntry: false })?.isDirectory())
        throw new BuildError('not-found', `${dir} is not a directory`);
      const root = byteStringOf(dir);
      const select = selectionOf(dir, {
        includePatterns: valuesOf(headers, 'include-patterns'),
        excludePatterns: valuesOf(headers, 'exclude-patterns'),
        followPaths: valuesOf(headers, 'followpaths'),
      });
      const sys = openSys();
      const tree = walk(root, { xattrsOf: (path) => xattrsOf(sys, path), ...(select === undefined ? {} : { select }) });
      await sendTree(stream, { root: dir, listing: withoutOwners(tree), onProgress: () => {} });
    }),
  });
}

function* withoutOwners(tree: Iterable<Stat>): Generator<Stat, void, undefined> {
  for (const stat of tree) yield { ...stat, uid: 0, gid: 0 };
}

function valuesOf(headers: Metadata, name: string): readonly string[] {
  const values = headers.getAll(name);
  return headers.get(`${name}-encoded`) === '1' ? values.map(queryUnescape) : values;
}
