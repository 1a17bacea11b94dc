/** Where an image's parts are read from: a registry, or an OCI layout on the client. The rest of the image source knows no difference. */
import type { Descriptor } from '../content/ports.ts';
import type { ImageReference, Registry, RegistryCall } from '../registry/ports.ts';

export interface ImageOrigin {
  readonly reference: ImageReference;
  /** The manifest or index that the reference names. Rejects with `not-found`, `denied`, `unavailable`. */
  resolve(signal: AbortSignal): Promise<{ readonly descriptor: Descriptor; readonly bytes: Uint8Array }>;
  /** A manifest or config, verified; also kept in the content store. */
  fetchSmall(descriptor: Descriptor, signal: AbortSignal): Promise<Uint8Array>;
  /** A layer into the content store. */
  fetchBlob(descriptor: Descriptor, signal: AbortSignal, onProgress: (bytes: number) => void): Promise<void>;
}

export function registryOrigin(
  registry: Registry,
  reference: ImageReference,
  call: Pick<RegistryCall, 'auth' | 'onRetry'>,
): ImageOrigin {
  return {
    reference,
    resolve: (signal) => registry.resolve(reference, { ...call, signal }),
    fetchSmall: (descriptor, signal) => registry.fetchSmall(reference, descriptor, { ...call, signal }),
    fetchBlob: (descriptor, signal, onProgress) => registry.fetchBlob(reference, descriptor, { ...call, signal, onProgress }),
  };
}
