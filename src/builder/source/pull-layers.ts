/** Layers of an image into a snapshot: fetched side by side, unpacked as soon as everything below has arrived. */
import type { Clock } from '../../core/clock.ts';
import type { Digest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { ContentStore } from '../content/ports.ts';
import type { RecordOptions, Snapshot, Snapshots, UnpackLayer } from '../snapshot/ports.ts';
import type { OpContext, StatusLine, StepProgress } from '../solver/ports.ts';
import type { ImageOrigin } from './image-origin.ts';

export interface LayerPull {
  readonly clock: Clock;
  readonly content: ContentStore;
  readonly snapshots: Snapshots;
  readonly origin: Pick<ImageOrigin, 'fetchBlob'>;
  readonly layers: readonly UnpackLayer[];
  readonly record: RecordOptions;
}

/** Undefined for an image without layers. Nothing is fetched when the stack is unpacked already. The caller owns the snapshot. */
export async function pullLayers(pull: LayerPull, context: OpContext): Promise<Snapshot | undefined> {
  const { clock, snapshots, layers, content } = pull;
  if (layers.length === 0) return undefined;
  const known = await snapshots.findChain(layers.map(({ diffId }) => diffId));
  if (known !== undefined) return known;
  using lease = content.lease(); // between arriving and being unpacked, a blob belongs to nobody else
  for (const { descriptor } of layers) lease.add(descriptor.digest);
  const stop = new AbortController();
  const startedAtNs = clock.nowNs();
  const signal = AbortSignal.any([context.signal, stop.signal]);
  const arrivals = layers.map((layer) => fetchLayer(pull.origin, layer, context.progress, signal));
  for (const arrival of arrivals) arrival.catch(() => undefined); // each is awaited below, in order; a later one may fail first
  const failed = Promise.all(arrivals).then(
    () => {
      context.progress.phase('pull', startedAtNs);
      return undefined;
    },
    (thrown: unknown) => BuildError.from(thrown),
  );
  try {
    return await unpackInOrder(pull, arrivals, failed, context, signal);
  } catch (error) {
    stop.abort(BuildError.from(error));
    await Promise.allSettled(arrivals); // no download outlives the step that wanted it
    throw error;
  }
}

/** Unpacks the part of the stack that is complete each time it has grown, so that unpacking runs while the rest downloads. */
async function unpackInOrder(
  { clock, snapshots, layers, record }: LayerPull,
  arrivals: readonly Promise<void>[],
  failed: Promise<BuildError | undefined>,
  context: OpContext,
  signal: AbortSignal,
): Promise<Snapshot> {
  const arrived = new Set<number>();
  for (const [at, arrival] of arrivals.entries()) arrival.then(() => arrived.add(at)).catch(() => undefined);
  const extracting = new Map<Digest, StatusLine>();
  const onLayer = (digest: Digest, state: 'start' | 'done'): void => {
    if (state === 'start') extracting.set(digest, context.progress.status(`extracting ${digest}`));
    else extracting.get(digest)?.done();
  };
  let snapshot: Snapshot | undefined;
  for (let unpacked = 0; unpacked < layers.length; ) {
    const error = await Promise.race([arrivals[unpacked], failed]);
    if (error instanceof BuildError) {
      await snapshot?.[Symbol.asyncDispose]();
      throw error;
    }
    unpacked += 1;
    while (arrived.has(unpacked)) unpacked += 1;
    const below = snapshot;
    const startedAtNs = clock.nowNs();
    try {
      snapshot = await snapshots.unpack(layers.slice(0, unpacked), { ...record, signal, onLayer });
      context.progress.phase('unpack', startedAtNs);
    } finally {
      await below?.[Symbol.asyncDispose]();
    }
  }
  return snapshot as Snapshot;
}

async function fetchLayer(
  origin: Pick<ImageOrigin, 'fetchBlob'>,
  { descriptor }: UnpackLayer,
  progress: StepProgress,
  signal: AbortSignal,
): Promise<void> {
  const line = progress.status(descriptor.digest, { name: 'downloading', total: descriptor.size });
  let current = 0;
  await origin.fetchBlob(descriptor, signal, (bytes) => {
    current = Math.min(descriptor.size, Math.max(0, current + bytes));
    line.update(current, descriptor.size);
  });
  line.update(descriptor.size, descriptor.size);
  line.done();
}
