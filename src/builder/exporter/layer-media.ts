/** Media types of layers between the OCI and the Docker family. */
import { MEDIA } from '../registry/manifest.ts';

type Kind = 'tar' | 'gzip' | 'zstd';
const KIND_OF: Readonly<Record<string, { readonly kind: Kind; readonly foreign: boolean }>> = {
  [MEDIA.ociLayer]: { kind: 'tar', foreign: false },
  [MEDIA.ociLayerGzip]: { kind: 'gzip', foreign: false },
  [MEDIA.ociLayerZstd]: { kind: 'zstd', foreign: false },
  [MEDIA.ociForeign]: { kind: 'tar', foreign: true },
  [MEDIA.ociForeignGzip]: { kind: 'gzip', foreign: true },
  [MEDIA.ociForeignZstd]: { kind: 'zstd', foreign: true },
  [MEDIA.dockerLayer]: { kind: 'tar', foreign: false },
  [MEDIA.dockerLayerGzip]: { kind: 'gzip', foreign: false },
  [MEDIA.dockerLayerZstd]: { kind: 'zstd', foreign: false },
  [MEDIA.dockerForeign]: { kind: 'tar', foreign: true },
  [MEDIA.dockerForeignGzip]: { kind: 'gzip', foreign: true },
};
const OCI = { tar: MEDIA.ociLayer, gzip: MEDIA.ociLayerGzip, zstd: MEDIA.ociLayerZstd };
const OCI_FOREIGN = { tar: MEDIA.ociForeign, gzip: MEDIA.ociForeignGzip, zstd: MEDIA.ociForeignZstd };
const DOCKER = { tar: MEDIA.dockerLayer, gzip: MEDIA.dockerLayerGzip, zstd: MEDIA.dockerLayerZstd };
const DOCKER_FOREIGN = { tar: MEDIA.dockerForeign, gzip: MEDIA.dockerForeignGzip, zstd: MEDIA.dockerLayerZstd };

/** The same layer's type in the wanted family; an unknown type stays. Without `keepNonDistributable` foreign layers become ordinary. */
export function layerMediaType(
  mediaType: string,
  options: { readonly ociTypes: boolean; readonly keepNonDistributable: boolean },
): string {
  const known = KIND_OF[mediaType];
  if (known === undefined) return mediaType;
  const foreign = known.foreign && options.keepNonDistributable;
  if (options.ociTypes) return (foreign ? OCI_FOREIGN : OCI)[known.kind];
  return (foreign ? DOCKER_FOREIGN : DOCKER)[known.kind];
}
