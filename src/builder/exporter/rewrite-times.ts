/** `rewrite-timestamp`: layers whose files are not newer than the source date epoch. Layers of the base image stay as they are. */
import { rm } from 'node:fs/promises';
import { type TaskRef, taskRef, type WorkerPool } from '../../core/worker-pool.ts';
import type { ContentStore, Lease } from '../content/ports.ts';
import { parseJson } from '../registry/go-json.ts';
import type { Layer } from '../snapshot/ports.ts';
import type { ImageOptions } from './attributes.ts';
import type { RewriteLayerArgs, RewrittenLayer } from './rewrite-layer-task.ts';

const rewriteTask: TaskRef<RewriteLayerArgs, RewrittenLayer> = taskRef(
  new URL('./rewrite-layer-task.ts', import.meta.url),
  'rewriteLayer',
);
const MAX_LAYER_BYTES = 2 ** 40; // what a layer may unpack to; the snapshot has passed a stricter bound before
const ANNOTATION = 'buildkit/rewritten-timestamp';

/** `lease` comes to hold the new blobs. */
export async function rewriteTimes(
  deps: { readonly content: ContentStore; readonly pool: WorkerPool },
  layers: readonly Layer[],
  options: ImageOptions & { readonly epochSeconds: bigint; readonly baseConfig: Uint8Array | undefined },
  lease: Lease,
  signal: AbortSignal,
): Promise<readonly Layer[]> {
  const base = diffIdsOf(options.baseConfig);
  const shared = layers.findIndex(({ diffId }, at) => diffId !== base[at]);
  const firstOwn = shared === -1 ? layers.length : shared;
  const rewrite = async (layer: Layer): Promise<Layer> => {
    const path = deps.content.tempPath();
    const source = {
      blob: deps.content.path(layer.descriptor.digest),
      digest: layer.descriptor.digest,
      diffId: layer.diffId,
      maxBytes: MAX_LAYER_BYTES,
    };
    const { compression, compressionLevel: level } = options;
    const args = { source, epochSeconds: Number(options.epochSeconds), compression, level, path };
    try {
      const { digest, diffId, sizeBytes } = await deps.pool.run(rewriteTask, args, { signal });
      lease.add(digest);
      await deps.content.adopt(path, digest, sizeBytes);
      const annotations = { ...layer.descriptor.annotations, [ANNOTATION]: String(options.epochSeconds) };
      return { ...layer, diffId, descriptor: { ...layer.descriptor, digest, size: sizeBytes, annotations } };
    } finally {
      await rm(path, { force: true });
    }
  };
  return await Promise.all(layers.map((layer, at) => (at < firstOwn ? layer : rewrite(layer))));
}

function diffIdsOf(config: Uint8Array | undefined): readonly string[] {
  if (config === undefined) return [];
  const json = parseJson(new TextDecoder().decode(config), 'base image config') as { rootfs?: { diff_ids?: string[] } } | null;
  return json?.rootfs?.diff_ids ?? [];
}
