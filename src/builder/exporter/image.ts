/** `type=image`: an image in the content store, named, and pushed in a second phase when asked. */
import { BuildError } from '../../core/errors.ts';
import type { WorkerPool } from '../../core/worker-pool.ts';
import type { ContentStore } from '../content/ports.ts';
import { type Attributes, type ImageOptions, parseFlag, parseImageOptions } from './attributes.ts';
import type { ImageStore } from './image-store.ts';
import { blobsOf, type WrittenImage, writeImage } from './image-writer.ts';
import type { ExportContext, Exporter, ExportOutcome, ExportSource } from './ports.ts';
import { oneOff } from './progress.ts';
import { type PushDeps, pushImage, pushReference } from './push-image.ts';
import { imageResponse } from './response.ts';

export interface ImageExporterDeps extends PushDeps {
  readonly content: ContentStore;
  readonly pool: WorkerPool;
  readonly images: ImageStore;
}

interface Options extends ImageOptions {
  readonly push: boolean;
  readonly pushByDigest: boolean;
  readonly insecure: boolean;
  readonly store: boolean;
  readonly nameCanonical: boolean;
  readonly danglingPrefix: string;
  readonly danglingEmptyOnly: boolean;
}

/** @throws BuildError `invalid-input`, before the build runs. */
export function imageExporter(deps: ImageExporterDeps, attributes: Attributes): Exporter {
  const options: Options = {
    ...parseImageOptions(attributes),
    push: parseFlag(attributes, 'push', false),
    pushByDigest: parseFlag(attributes, 'push-by-digest', false),
    insecure: parseFlag(attributes, 'registry.insecure', false),
    store: parseFlag(attributes, 'store', true),
    nameCanonical: parseFlag(attributes, 'name-canonical', false),
    danglingPrefix: attributes.get('dangling-name-prefix') ?? '',
    danglingEmptyOnly: parseFlag(attributes, 'danging-name-empty-only', false), // spelt so by all clients
  };
  if (parseFlag(attributes, 'unpack', false) && options.rewriteTimestamp)
    throw new BuildError('invalid-input', 'exporter option "rewrite-timestamp" conflicts with "unpack"');
  if (options.push)
    for (const name of namesIn(options.name)) if (name !== '*') pushReference({ name, byDigest: options.pushByDigest });
  return {
    name: 'exporting to image',
    export: (source, context) => exportImage(deps, options, source, context),
  };
}

async function exportImage(
  deps: ImageExporterDeps,
  options: Options,
  source: ExportSource,
  context: ExportContext,
): Promise<ExportOutcome> {
  using lease = deps.content.lease();
  const image = await writeImage(deps, source, options, lease, context);
  const { descriptor } = image.root;
  const { names, canonical } = namesFor(options, source, image);
  if (options.store)
    for (const name of names) {
      const canonicalName = canonical && !name.includes('@') ? [`${name}@${descriptor.digest}`] : [];
      await oneOff(context.progress, `naming to ${name}`, async () => {
        for (const stored of [name, ...canonicalName]) await deps.images.set(stored, descriptor);
      });
    }
  const pushed = options.push ? names : [];
  return {
    response: imageResponse(image, descriptor, names),
    descriptor,
    blobs: blobsOf(image),
    ...(pushed.length === 0 ? {} : { finalize: (again: ExportContext) => pushAll(deps, options, image, pushed, again) }),
  };
}

async function pushAll(
  deps: ImageExporterDeps,
  { pushByDigest, insecure }: Options,
  image: WrittenImage,
  names: readonly string[],
  context: ExportContext,
): Promise<void> {
  using lease = deps.content.lease();
  for (const digest of blobsOf(image)) lease.add(digest);
  // Between the phases nothing held the small blobs; put back what a prune may have taken.
  for (const { manifest, config } of image.images)
    for (const { descriptor, bytes } of [manifest, config, image.root])
      await deps.content.put(bytes, { expected: descriptor.digest, signal: context.signal });
  for (const name of names) await pushImage(deps, image, { name, byDigest: pushByDigest, insecure }, context);
}

/** The names the image gets: those asked for, the frontend's for `*`, and one by digest when a prefix for nameless images is set. */
function namesFor(options: Options, source: ExportSource, image: WrittenImage): { names: readonly string[]; canonical: boolean } {
  const proposed = source.metadata.get('image.name');
  const given = namesIn(options.name === '*' && proposed !== undefined ? new TextDecoder().decode(proposed) : options.name);
  const dangling = options.danglingPrefix !== '' && (!options.danglingEmptyOnly || given.length === 0);
  if (!dangling) return { names: given, canonical: options.nameCanonical };
  const nameless = `${options.danglingPrefix}@${image.root.descriptor.digest}`;
  return { names: [...given, nameless], canonical: options.nameCanonical && given.length > 0 };
}

const namesIn = (csv: string): readonly string[] =>
  csv
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
