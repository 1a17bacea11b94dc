/** An image as `type=oci` writes it: every index, manifest, config and layer, the layers with their entries. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { readTar, type TarEntry } from './tar-list.ts';

export interface Layer {
  readonly digest: string;
  readonly diffId: string;
  readonly entries: readonly TarEntry[];
}
export interface Image {
  readonly digest: string;
  /** As they were written. */
  readonly manifest: string;
  readonly config: string;
  readonly configDigest: string;
  readonly layers: readonly Layer[];
}
export interface Layout {
  /** `index.json`, then every image index below it, as they were written. */
  readonly indexes: readonly string[];
  readonly images: readonly Image[];
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
}

/** @throws Error when a blob is missing, has other bytes than its digest says, or a diff ID in the config is not its layer's. */
export function readLayout(file: string): Layout {
  const files = new Map<string, Buffer>();
  for (const { name, body } of readTar(readFileSync(file))) files.set(name, body);
  const blob = (digest: string): Buffer => {
    const body = files.get(`blobs/${digest.replace(':', '/')}`);
    if (body === undefined || sha256(body) !== digest) throw new Error(`${file}: blob ${digest} is missing or corrupt`);
    return body;
  };
  const indexes: string[] = [];
  const images: Image[] = [];
  const visit = (index: string): void => {
    indexes.push(index);
    for (const { mediaType, digest } of parse<{ manifests: Descriptor[] }>(index).manifests) {
      const body = blob(digest).toString();
      if (/index|manifest\.list/.test(mediaType)) visit(body);
      else images.push(readImage(digest, body, blob));
    }
  };
  visit(files.get('index.json')?.toString() ?? '{"manifests":[]}');
  return { indexes, images };
}

/** A root filesystem as `type=tar` writes it, as an image of one layer and nothing else. */
export function readRootfs(file: string): Layout {
  const tar = readFileSync(file);
  const digest = sha256(tar);
  const layer = { digest, diffId: digest, entries: [...readTar(tar)].map(({ body: _body, ...entry }) => entry) };
  return { indexes: [], images: [{ digest, manifest: '', config: '', configDigest: '', layers: [layer] }] };
}

function readImage(digest: string, manifest: string, blob: (digest: string) => Buffer): Image {
  const { config, layers } = parse<{ config: Descriptor; layers: Descriptor[] | null }>(manifest);
  const configText = blob(config.digest).toString();
  const diffIds = parse<{ rootfs: { diff_ids: string[] | null } }>(configText).rootfs.diff_ids;
  return {
    digest,
    manifest,
    config: configText,
    configDigest: config.digest,
    layers: (layers ?? []).map((layer, at) => {
      const stored = blob(layer.digest);
      const tar = stored[0] === 0x1f && stored[1] === 0x8b ? gunzipSync(stored) : stored;
      const diffId = sha256(tar);
      if (diffIds?.[at] !== diffId)
        throw new Error(`layer ${at} of ${digest} hashes to ${diffId}, its config says ${diffIds?.[at]}`);
      return { digest: layer.digest, diffId, entries: [...readTar(tar)].map(({ body: _body, ...entry }) => entry) };
    }),
  };
}

const sha256 = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
const parse = <T>(text: string): T => JSON.parse(text) as T;
