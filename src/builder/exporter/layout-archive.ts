/**
 * A written image as a tar in OCI image layout (image-spec v1.1, image-layout.md), with Docker's manifest.json beside it when
 * wanted. Produced as it is read: blobs come straight from the content store, nothing is put on disk.
 */
import { hexOf } from '../../core/digest.ts';
import type { ContentStore, Descriptor } from '../content/ports.ts';
import { type GoValue, goJson } from '../registry/go-json.ts';
import { goIndex, MEDIA } from '../registry/manifest.ts';
import { familiarNameOf, parseReference } from '../registry/reference.ts';
import type { WrittenImage } from './image-writer.ts';
import { paddingOf, TAR_END, tarHeader } from './tar-header.ts';

export interface LayoutArchive {
  readonly image: WrittenImage;
  /** The root's descriptor as index.json shows it. */
  readonly descriptor: Descriptor;
  /** Full names with tags; each gets an entry of its own in index.json. */
  readonly names: readonly string[];
  readonly dockerManifest: boolean;
}

type ArchiveFile =
  | { readonly name: string; readonly mode: number; readonly bytes: Uint8Array }
  | { readonly name: string; readonly mode: number; readonly blob: Descriptor }
  | { readonly name: string; readonly mode: number };

/** The bytes of the tar. The caller holds a lease on the blobs. */
export async function* layoutArchive(archive: LayoutArchive, content: ContentStore): AsyncGenerator<Uint8Array> {
  for (const file of filesOf(archive)) {
    if ('blob' in file) {
      yield tarHeader({ name: file.name, type: 'file', mode: file.mode, sizeBytes: file.blob.size });
      yield* content.read(file.blob.digest);
      yield new Uint8Array(paddingOf(file.blob.size));
    } else if ('bytes' in file) {
      yield tarHeader({ name: file.name, type: 'file', mode: file.mode, sizeBytes: file.bytes.byteLength });
      yield file.bytes;
      yield new Uint8Array(paddingOf(file.bytes.byteLength));
    } else yield tarHeader({ name: file.name, type: 'directory', mode: file.mode });
  }
  yield TAR_END;
}

/** In the order of their names, each blob once. */
function filesOf(archive: LayoutArchive): readonly ArchiveFile[] {
  const { image, dockerManifest } = archive;
  const files = new Map<string, ArchiveFile>();
  const add = (file: ArchiveFile): void => {
    files.set(file.name, file);
  };
  add({ name: 'oci-layout', mode: 0o444, bytes: encode(goJson({ imageLayoutVersion: '1.0.0' })) });
  add({ name: 'index.json', mode: 0o644, bytes: encode(goJson(layoutIndex(archive))) });
  if (dockerManifest) add({ name: 'manifest.json', mode: 0o644, bytes: encode(goJson(dockerManifests(archive))) });
  add({ name: 'blobs/', mode: 0o755 });
  add({ name: 'blobs/sha256/', mode: 0o755 });
  for (const { manifest, config, layers } of image.images)
    for (const blob of [...layers, config.descriptor, manifest.descriptor]) add({ name: blobPath(blob), mode: 0o444, blob });
  add({ name: blobPath(image.root.descriptor), mode: 0o444, blob: image.root.descriptor });
  return [...files.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

function layoutIndex({ descriptor, names }: LayoutArchive): GoValue {
  const named = names.map((name) => ({
    ...descriptor,
    annotations: {
      ...descriptor.annotations,
      'io.containerd.image.name': name,
      'org.opencontainers.image.ref.name': parseReference(name).tag ?? name,
    },
  }));
  return goIndex({ mediaType: MEDIA.ociIndex, manifests: named.length === 0 ? [descriptor] : named });
}

/** What `docker load` reads: one entry per image, with the names Docker shows. */
function dockerManifests({ image, names }: LayoutArchive): GoValue {
  return image.images.map(({ config, layers }) => ({
    Config: blobPath(config.descriptor),
    RepoTags: names.length === 0 ? null : names.map((name) => familiarNameOf(parseReference(name))),
    Layers: layers.length === 0 ? null : layers.map(blobPath),
  }));
}

const blobPath = ({ digest }: Descriptor): string => `blobs/sha256/${hexOf(digest)}`;
const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
