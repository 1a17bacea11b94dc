/** `type=tar`: the files of a result as a tarball to the client, packed in a thread while it is sent. */
import { type TaskRef, taskRef, type WorkerPool } from '../../core/worker-pool.ts';
import type { Sessions } from '../session/ports.ts';
import type { Attributes } from './attributes.ts';
import { sendTarball } from './oci.ts';
import type { Exporter } from './ports.ts';
import { bytesFromTask, type PipeMemory } from './shared-pipe.ts';
import type { TarTreeArgs } from './tar-tree-task.ts';
import { openTrees, parseTreeOptions } from './tree-outputs.ts';

export interface TarExporterDeps {
  readonly sessions: Sessions;
  readonly pool: WorkerPool;
  readonly tempDir: string;
}

const packTask: TaskRef<TarTreeArgs & { readonly pipe: PipeMemory }, void> = taskRef(
  new URL('./tar-tree-task.ts', import.meta.url),
  'packTrees',
);

/** @throws BuildError `invalid-input`, before the build runs. */
export function tarExporter(deps: TarExporterDeps, attributes: Attributes): Exporter {
  const options = parseTreeOptions(attributes);
  return {
    name: 'exporting to client tarball',
    async export(source, context) {
      const session = await deps.sessions.get(context.sessionId, context.signal);
      await using open = await openTrees(source, { ...options, platformSplit: undefined }, deps.tempDir); // one archive: always split
      const bytes = bytesFromTask(deps.pool, packTask, { trees: open.trees }, context.signal);
      await sendTarball(session, bytes, [], context);
      return { response: new Map(), blobs: [] };
    },
  };
}
