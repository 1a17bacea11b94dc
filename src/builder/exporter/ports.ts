/** How a finished build result leaves the builder. */
import type { Digest } from '../../core/digest.ts';
import type { Descriptor } from '../content/ports.ts';
import type { Layer, Snapshot } from '../snapshot/ports.ts';
import type { StepProgress } from '../solver/ports.ts';

/** What is exported: one root filesystem, or one per platform id; undefined is scratch. */
export interface ExportSource {
  readonly results: ReadonlyMap<string, Snapshot | undefined>;
  /** True when `results` came as a map (multi-platform form), even with one entry. The single form uses the key ''. */
  readonly multiPlatform: boolean;
  readonly metadata: ReadonlyMap<string, Uint8Array>;
  /** `--cache-to type=inline`: cache records for the config of the image that has these layers; undefined when there are none. */
  readonly inlineCache?: (result: Snapshot, layers: readonly Layer[]) => Promise<Uint8Array | undefined>;
}
export interface ExportContext {
  readonly sessionId: string;
  /** Sessions that may answer registry authentication. */
  readonly sessions: () => readonly string[];
  readonly exporterIndex: number;
  readonly progress: StepProgress;
  readonly signal: AbortSignal;
  /** W3C traceparent of the export's step: what a client does for it joins the build's trace. */
  readonly traceparent?: string;
  /** Names of the image from the build, for history. */
  readonly buildId: string;
}
export interface ExportOutcome {
  /** buildkit-wire.md section 5.10. */
  readonly response: ReadonlyMap<string, string>;
  /** Manifest or index, for the history record. */
  readonly descriptor?: Descriptor;
  /** Blobs the history record keeps. */
  readonly blobs: readonly Digest[];
  /** A second phase shown as the same vertex started again: pushing. */
  readonly finalize?: (context: ExportContext) => Promise<void>;
}
export interface Exporter {
  /** `exporting to image`, ... */
  readonly name: string;
  export(source: ExportSource, context: ExportContext): Promise<ExportOutcome>;
}
export interface Exporters {
  /** @throws BuildError `not-found` for an unknown type, `invalid-input` for a bad attribute, both before the build runs. */
  create(type: string, attributes: ReadonlyMap<string, string>): Exporter;
}
