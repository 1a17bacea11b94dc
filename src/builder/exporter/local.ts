/** `type=local`: the files of a result into a directory of the client. */
import { BuildError } from '../../core/errors.ts';
import type { Sessions } from '../session/ports.ts';
import type { Attributes } from './attributes.ts';
import type { Exporter } from './ports.ts';
import { counted } from './progress.ts';
import { outputHeaders } from './response.ts';
import { openTrees, parseTreeOptions } from './tree-outputs.ts';

export interface LocalExporterDeps {
  readonly sessions: Sessions;
  /** For empty directories of ours. */
  readonly tempDir: string;
}

/** @throws BuildError `invalid-input`, before the build runs. */
export function localExporter(deps: LocalExporterDeps, attributes: Attributes): Exporter {
  const options = parseTreeOptions(attributes);
  return {
    name: 'exporting to client directory',
    async export(source, context) {
      const { signal, progress } = context;
      const session = await deps.sessions.get(context.sessionId, signal);
      await using open = await openTrees(source, options, deps.tempDir);
      if (options.deleteOthers && open.trees.length > 1)
        throw new BuildError('unsupported', 'mode=delete is not supported for a result with several platforms');
      const headers = [
        ...outputHeaders(context),
        ...(options.deleteOthers ? [['buildkit-exporter-multi-platform', '1'] as const] : []),
      ];
      for (const { id, dir, prefix, epochSeconds } of open.trees) {
        const label = prefix === '' ? 'copying files' : `copying files ${id}`;
        await counted(progress, label, (onProgress) =>
          session.sendFiles({
            dir,
            headers,
            signal,
            onProgress,
            ...(prefix === '' ? {} : { prefix }),
            ...(epochSeconds === undefined ? {} : { modTimeNs: epochSeconds * 1_000_000_000n }),
          }),
        );
      }
      return { response: new Map(), blobs: [] };
    },
  };
}
