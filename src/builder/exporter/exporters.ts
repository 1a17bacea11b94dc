/** All ways a result can leave the builder, by the names clients use. */
import type { Clock } from '../../core/clock.ts';
import { BuildError } from '../../core/errors.ts';
import type { WorkerPool } from '../../core/worker-pool.ts';
import type { Sessions } from '../session/ports.ts';
import { type ImageExporterDeps, imageExporter } from './image.ts';
import { localExporter } from './local.ts';
import { layoutExporter } from './oci.ts';
import type { Exporters } from './ports.ts';
import { tarExporter } from './tar.ts';

export interface ExporterDeps extends ImageExporterDeps {
  readonly sessions: Sessions;
  readonly clock: Clock;
  readonly pool: WorkerPool;
  /** For empty directories of ours; below the daemon's root. */
  readonly tempDir: string;
}

export function createExporters(deps: ExporterDeps): Exporters {
  return {
    create(type, attributes) {
      switch (type) {
        case 'image':
          return imageExporter(deps, attributes);
        case 'oci':
        case 'docker':
          return layoutExporter(deps, type, attributes);
        case 'local':
          return localExporter(deps, attributes);
        case 'tar':
          return tarExporter(deps, attributes);
        default:
          throw new BuildError('not-found', `exporter "${type}" could not be found`);
      }
    },
  };
}
