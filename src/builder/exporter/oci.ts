/** `type=oci` and `type=docker`: an image as a tarball to the client, or (oci, `tar=false`) into a layout directory there. */
import { type Clock, rfc3339 } from '../../core/clock.ts';
import { BuildError } from '../../core/errors.ts';
import type { WorkerPool } from '../../core/worker-pool.ts';
import type { ContentStore, Descriptor } from '../content/ports.ts';
import { parseReference, withDefaultTag } from '../registry/reference.ts';
import type { Session, Sessions } from '../session/ports.ts';
import { sessionContent } from '../source/session-content.ts';
import { type Attributes, type ImageOptions, parseFlag, parseImageOptions } from './attributes.ts';
import { epochOf } from './epoch.ts';
import { blobsOf, type WrittenImage, writeImage } from './image-writer.ts';
import { layoutArchive } from './layout-archive.ts';
import { exportPlatforms } from './platforms.ts';
import type { ExportContext, Exporter, ExportOutcome, ExportSource } from './ports.ts';
import { counted, oneOff } from './progress.ts';
import { imageResponse, outputHeaders, responseHeaders } from './response.ts';

export interface LayoutExporterDeps {
  readonly content: ContentStore;
  readonly pool: WorkerPool;
  readonly sessions: Sessions;
  readonly clock: Clock;
}
type Variant = 'oci' | 'docker';

/** @throws BuildError `invalid-input`, before the build runs. */
export function layoutExporter(deps: LayoutExporterDeps, variant: Variant, attributes: Attributes): Exporter {
  const options = parseImageOptions(attributes);
  const asTar = parseFlag(attributes, 'tar', true);
  if (options.name !== '*') tagged(options.name);
  return {
    name: `exporting to ${variant} image format`,
    export: (source, context) => exportLayout({ deps, variant, options, asTar }, source, context),
  };
}

interface LayoutExport {
  readonly deps: LayoutExporterDeps;
  readonly variant: Variant;
  readonly options: ImageOptions;
  readonly asTar: boolean;
}

async function exportLayout(job: LayoutExport, source: ExportSource, context: ExportContext): Promise<ExportOutcome> {
  const { deps, variant, options } = job;
  if (variant === 'docker' && source.multiPlatform)
    throw new BuildError('invalid-input', 'docker exporter does not currently support exporting manifest lists');
  using lease = deps.content.lease();
  const image = await writeImage(deps, source, options, lease, context);
  const descriptor = datedDescriptor(job, source, image);
  const proposed = source.metadata.get('image.name');
  const names = tagged(options.name === '*' && proposed !== undefined ? new TextDecoder().decode(proposed) : options.name);
  const response = imageResponse(image, descriptor, names);
  const session = await deps.sessions.get(context.sessionId, context.signal);
  if (job.asTar) {
    const archive = { image, descriptor, names, dockerManifest: variant === 'docker' };
    await sendTarball(session, layoutArchive(archive, deps.content), responseHeaders(response), context);
  } else await copyToStore(deps.content, session, image, context);
  return { response, descriptor: image.root.descriptor, blobs: blobsOf(image) };
}

/** The root's descriptor with its creation time, which a layout's index shows. */
function datedDescriptor({ deps, options }: LayoutExport, source: ExportSource, image: WrittenImage): Descriptor {
  const { descriptor } = image.root;
  const key = 'org.opencontainers.image.created';
  if (descriptor.annotations?.[key] !== undefined) return descriptor;
  const [platform] = exportPlatforms(source);
  const epoch = platform === undefined ? undefined : epochOf(source, options.epoch, platform);
  const nowS = deps.clock.nowNs() / 1_000_000_000n;
  return { ...descriptor, annotations: { ...descriptor.annotations, [key]: rfc3339((epoch ?? nowS) * 1_000_000_000n) } };
}

/** Sends a tar to the client. A client that answers `already exists` wanted nothing: that is success too. */
export async function sendTarball(
  session: Session,
  source: AsyncIterable<Uint8Array>,
  headers: readonly (readonly [string, string])[],
  context: ExportContext,
): Promise<void> {
  const { signal } = context;
  await counted(context.progress, 'sending tarball', async (onProgress) => {
    try {
      await session.sendBytes({ source, headers: [...outputHeaders(context), ...headers], signal, onProgress });
    } catch (thrown) {
      const error = BuildError.from(thrown);
      if (!error.message.includes('already exists')) throw error;
    }
  });
}

/** Blob by blob into the client's layout directory, manifests after what they name. The client writes index.json itself. */
async function copyToStore(
  content: ContentStore,
  session: Session,
  image: WrittenImage,
  { progress, signal }: ExportContext,
): Promise<void> {
  const store = sessionContent(session, 'export');
  const seen = new Set<string>();
  const copy = async (descriptor: Descriptor): Promise<void> => {
    if (seen.has(descriptor.digest)) return;
    seen.add(descriptor.digest);
    await store.write(descriptor, content.read(descriptor.digest), signal);
  };
  await oneOff(progress, 'copying blobs', async () => {
    for (const { layers, config, manifest } of image.images) {
      for (const descriptor of [...layers, config.descriptor]) await copy(descriptor);
      await copy(manifest.descriptor);
    }
    await copy(image.root.descriptor);
  });
}

/** Normalised names with tags. @throws BuildError `invalid-input`. */
function tagged(csv: string): readonly string[] {
  if (csv === '') return [];
  return csv.split(',').map((name) => {
    try {
      return withDefaultTag(parseReference(name.trim())).text;
    } catch (error) {
      throw BuildError.from(error).wrap(`failed to parse ${name}`);
    }
  });
}
