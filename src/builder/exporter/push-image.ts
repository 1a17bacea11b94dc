/** A written image to a registry: blobs side by side, then manifests, the root last so that the name never points at a hole. */
import { BuildError } from '../../core/errors.ts';
import type { Descriptor } from '../content/ports.ts';
import { isNonDistributable } from '../registry/manifest.ts';
import type { ImageReference, Registry, RegistryCall } from '../registry/ports.ts';
import { nameOf, parseReference, withDefaultTag, withDigest } from '../registry/reference.ts';
import type { BlobOrigins } from '../source/blob-origins.ts';
import { retryLog } from '../source/retry-log.ts';
import type { SessionAuths } from '../source/session-auth.ts';
import type { WrittenImage } from './image-writer.ts';
import type { ExportContext } from './ports.ts';
import { oneOff } from './progress.ts';

export interface PushDeps {
  readonly registry: Registry;
  readonly auths: SessionAuths;
  readonly origins: BlobOrigins;
}
export interface PushOptions {
  readonly name: string;
  /** Without a tag: the manifest is found by its digest only. */
  readonly byDigest: boolean;
  /** Undefined leaves it to the configuration of the host. */
  readonly insecure: boolean;
}

/** Rejects with the registry's error; its text begins with `failed to push <name>`. */
export async function pushImage(
  deps: PushDeps,
  image: WrittenImage,
  options: PushOptions,
  context: ExportContext,
): Promise<void> {
  try {
    const reference = pushReference(options);
    const auth = deps.auths.of([...new Set([context.sessionId, ...context.sessions()])]);
    const { signal } = context;
    const call: RegistryCall = { auth, signal, insecure: options.insecure, onRetry: retryLog(context.progress) };
    await oneOff(context.progress, 'pushing layers', () => pushBlobs(deps, image, reference, call));
    const shown = options.byDigest ? nameOf(reference) : withDigest(reference, image.root.descriptor.digest).text;
    await oneOff(context.progress, `pushing manifest for ${shown}`, () => pushManifests(deps, image, reference, call));
  } catch (thrown) {
    throw BuildError.from(thrown).wrap(`failed to push ${options.name}`);
  }
}

/** @throws BuildError `invalid-input`. */
export function pushReference({ name, byDigest }: Pick<PushOptions, 'name' | 'byDigest'>): ImageReference {
  const parsed = parseReference(name);
  if (!byDigest) return withDefaultTag(parsed);
  if (parsed.tag !== undefined || parsed.digest !== undefined)
    throw new BuildError('invalid-input', `can't push tagged ref ${parsed.text} by digest`);
  return parsed;
}

async function pushBlobs(
  { registry, origins }: PushDeps,
  image: WrittenImage,
  reference: ImageReference,
  call: RegistryCall,
): Promise<void> {
  const blobs = new Map<string, Descriptor>();
  for (const { layers, config } of image.images)
    for (const descriptor of [...layers, config.descriptor])
      if (!isNonDistributable(descriptor.mediaType)) blobs.set(descriptor.digest, descriptor);
  const stop = new AbortController();
  const signal = AbortSignal.any([call.signal, stop.signal]);
  const pushes = [...blobs.values()].map(async (descriptor) => {
    const [mountFrom] = origins.of(descriptor.digest, reference.host);
    await registry.pushBlob(reference, descriptor, {
      ...call,
      signal,
      ...(mountFrom === undefined ? {} : { mountFrom }),
      onProgress: () => undefined,
    });
    origins.add(descriptor.digest, reference);
  });
  try {
    await Promise.all(pushes);
  } catch (error) {
    stop.abort(BuildError.from(error));
    await Promise.allSettled(pushes); // no upload outlives the step
    throw error;
  }
}

async function pushManifests(
  { registry }: PushDeps,
  image: WrittenImage,
  reference: ImageReference,
  call: RegistryCall,
): Promise<void> {
  const { root, images, isIndex } = image;
  const untagged = parseReference(nameOf(reference));
  if (isIndex) {
    for (const { manifest } of images) await registry.pushManifest(untagged, manifest.descriptor, manifest.bytes, call);
  }
  await registry.pushManifest(reference, root.descriptor, root.bytes, call);
}
