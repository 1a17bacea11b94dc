/** `oci-layout://<store>@<digest>`: an image from an OCI layout that the client holds (buildkit-wire.md section 3.9). */

import type { Clock } from '../../core/clock.ts';
import { digestOf } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import { MAX_MANIFEST_BYTES } from '../../core/limits.ts';
import type { ContentStore, Descriptor } from '../content/ports.ts';
import { parseManifest } from '../registry/manifest.ts';
import type { ImageReference } from '../registry/ports.ts';
import { parseReference } from '../registry/reference.ts';
import type { Sessions } from '../session/ports.ts';
import type { Snapshots } from '../snapshot/ports.ts';
import type { ImageOrigin } from './image-origin.ts';
import { ImageInstance, parseLayerLimit } from './image-source.ts';
import { type SessionContent, sessionContent } from './session-content.ts';
import type { SourceKind } from './source.ts';

export interface LayoutSourceDeps {
  readonly clock: Clock;
  readonly content: ContentStore;
  readonly snapshots: Snapshots;
  readonly sessions: Sessions;
}

export function ociLayoutSource(deps: LayoutSourceDeps): SourceKind {
  return {
    schemes: ['oci-layout'],
    open({ op: { attrs }, locator, platform }) {
      const reference = parseReference(locator);
      if (reference.digest === undefined) throw new BuildError('invalid-input', `reference "${locator}" must have digest`);
      const storeId = attrs['oci.store'] ?? '';
      const session = attrs['oci.session'] ?? '';
      const options = {
        platform,
        layerLimit: parseLayerLimit(attrs['oci.layerlimit']),
        recordType: 'regular',
        checksum: undefined,
      } as const;
      return new ImageInstance(deps, reference, options, (context) =>
        layoutOrigin(deps, { reference, storeId, sessions: () => (session === '' ? context.sessions() : [session]) }),
      );
    },
  };
}

/** The parts of an image in the client's store `storeId`; every part is verified and kept in our own store. */
export function layoutOrigin(
  { content, sessions }: Pick<LayoutSourceDeps, 'content' | 'sessions'>,
  layout: { readonly reference: ImageReference; readonly storeId: string; readonly sessions: () => readonly string[] },
): ImageOrigin {
  const { reference, storeId } = layout;
  const withStore = <T>(signal: AbortSignal, use: (store: SessionContent) => Promise<T>): Promise<T> =>
    sessions.any(layout.sessions(), signal, async (session) => await use(sessionContent(session, `oci:${storeId}`)));
  const small = async (descriptor: Pick<Descriptor, 'digest'>, signal: AbortSignal): Promise<Uint8Array> => {
    if ((await content.info(descriptor.digest)) !== undefined)
      return await content.readAll(descriptor.digest, MAX_MANIFEST_BYTES);
    const bytes = await withStore(signal, (store) => store.readAll(descriptor.digest, MAX_MANIFEST_BYTES, signal));
    await content.put(bytes, { expected: descriptor.digest, signal });
    return bytes;
  };
  return {
    reference,
    async resolve(signal) {
      const { digest } = reference;
      if (digest === undefined) throw new BuildError('invalid-input', `reference "${reference.text}" must have digest`);
      const bytes = await small({ digest }, signal);
      const parsed = parseManifest(bytes, reference.text);
      const mediaType = parsed.kind === 'index' ? parsed.index.mediaType : parsed.manifest.mediaType;
      return { descriptor: { mediaType, digest: digestOf(bytes), size: bytes.byteLength }, bytes };
    },
    fetchSmall: small,
    async fetchBlob(descriptor, signal, onProgress) {
      if ((await content.info(descriptor.digest)) !== undefined) return;
      await withStore(signal, async (store) => {
        const bytes = counted(store.read(descriptor.digest, 0, signal), onProgress);
        await content.put(bytes, { expected: descriptor.digest, expectedSize: descriptor.size, signal });
      });
    },
  };
}

async function* counted(bytes: AsyncIterable<Uint8Array>, onProgress: (bytes: number) => void): AsyncIterable<Uint8Array> {
  for await (const chunk of bytes) {
    onProgress(chunk.byteLength);
    yield chunk;
  }
}
