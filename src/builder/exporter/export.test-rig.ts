/** Exports of real snapshots to a real buildctl or registry, with every progress line recorded. */

import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { systemClock } from '../../core/clock.ts';
import type { Digest } from '../../core/digest.ts';
import type { Descriptor } from '../content/ports.ts';
import { openMetadata } from '../metadata/metadata.ts';
import { createRegistry } from '../registry/registry.ts';
import type { Sessions } from '../session/ports.ts';
import { buildctl, type Finished, openStubDaemon } from '../session/session.test-rig.ts';
import type { Snapshot } from '../snapshot/ports.ts';
import { needsRoot, openRig as openSnapshotRig, type Rig as SnapshotRig, step } from '../snapshot/snapshots.test-rig.ts';
import type { StepProgress } from '../solver/ports.ts';
import { createBlobOrigins } from '../source/blob-origins.ts';
import { createSessionAuths } from '../source/session-auth.ts';
import { createExporters } from './exporters.ts';
import { type ImageStore, openImageStore } from './image-store.ts';
import type { ExportContext, Exporters, ExportOutcome, ExportSource } from './ports.ts';
import { type ValidatedImage, validateImage } from './validate-image.ts';

export { needsRoot, step };

export interface ExportRig extends SnapshotRig {
  readonly images: ImageStore;
  readonly origins: ReturnType<typeof createBlobOrigins>;
  exportersFor(sessions: Sessions): Exporters;
  /** Runs an export without a client; for what needs none. */
  export(type: string, attributes: Readonly<Record<string, string>>, source: ExportSource): Promise<Exported>;
  /** Runs an export inside a build of a real buildctl, whose output is `output` (`type=oci,dest=...`). */
  exportTo(
    output: string,
    source: ExportSource,
    type: string,
    attributes?: Readonly<Record<string, string>>,
  ): Promise<Exported & Finished>;
  /** Every image below the descriptor, checked whole. */
  validate(descriptor: Descriptor | undefined): Promise<readonly ValidatedImage[]>;
}
export interface Exported {
  readonly outcome: ExportOutcome;
  readonly lines: readonly string[];
}

export const noSessions: Sessions = {
  get: () => Promise.reject(new Error('no session in this test')),
  any: () => Promise.reject(new Error('no session in this test')),
};

/** Lines in the order they started; a line that was completed ends in ` done`. */
export function recordedProgress(): { readonly progress: StepProgress; readonly lines: readonly string[] } {
  const lines: string[] = [];
  const progress: StepProgress = {
    log: () => undefined,
    resources: () => {},
    usage: () => undefined,
    used: () => undefined,
    leaked: () => undefined,
    phase: () => undefined,
    status(id) {
      const at = lines.push(id) - 1;
      return {
        update: () => undefined,
        done: () => {
          lines[at] = `${id} done`;
        },
      };
    },
  };
  return { progress, lines };
}

export async function openExportRig(t: TestContext): Promise<ExportRig> {
  const rig = await openSnapshotRig(t);
  const metadata = await openMetadata(join(rig.dir, 'images.sqlite'));
  const registry = createRegistry({ content: rig.content, hosts: {} });
  t.after(async () => {
    await registry[Symbol.asyncDispose]();
    await metadata.close();
  });
  const images = await openImageStore(metadata);
  const origins = createBlobOrigins();
  const exportersFor = (sessions: Sessions): Exporters =>
    createExporters({
      content: rig.content,
      pool: rig.pool,
      clock: systemClock(),
      tempDir: rig.dir,
      auths: createSessionAuths(sessions, Date.now),
      sessions,
      registry,
      images,
      origins,
    });
  const run = async (
    exporters: Exporters,
    type: string,
    attributes: Readonly<Record<string, string>>,
    source: ExportSource,
    session: { readonly id: string; readonly signal: AbortSignal },
  ): Promise<Exported> => {
    const { progress, lines } = recordedProgress();
    const context: ExportContext = {
      sessionId: session.id,
      sessions: () => (session.id === '' ? [] : [session.id]),
      exporterIndex: 0,
      progress,
      signal: session.signal,
      buildId: 'b',
    };
    const outcome = await exporters.create(type, new Map(Object.entries(attributes))).export(source, context);
    await outcome.finalize?.(context);
    return { outcome, lines };
  };
  return {
    ...rig,
    images,
    origins,
    exportersFor,
    export: (type, attributes, source) =>
      run(exportersFor(noSessions), type, attributes, source, { id: '', signal: new AbortController().signal }),
    async exportTo(output, source, type, attributes = {}) {
      let exported: Exported | undefined;
      await using daemon = await openStubDaemon(async (session, signal) => {
        exported = await run(exportersFor(daemon.manager), type, attributes, source, { id: session.id, signal });
      });
      const finished = await buildctl(['--addr', daemon.address, 'build', '--frontend', 'none', '--output', output]);
      if (exported === undefined) throw new Error(`nothing was exported: ${finished.output}`);
      return { ...exported, ...finished };
    },
    async validate(descriptor) {
      if (descriptor === undefined) throw new Error('the export names no image');
      return await validateImage(descriptor, (digest: Digest) => rig.content.readAll(digest, 2 ** 30));
    },
  };
}

/** A result in the single form. */
export const single = (snapshot: Snapshot | undefined, metadata: Readonly<Record<string, string>> = {}): ExportSource => ({
  results: new Map([['', snapshot]]),
  multiPlatform: false,
  metadata: bytesOf(metadata),
});
/** A result per platform. */
export const multi = (
  results: Readonly<Record<string, Snapshot | undefined>>,
  metadata: Readonly<Record<string, string>> = {},
): ExportSource => {
  const Platforms = Object.keys(results).map((ID) => {
    const [os, architecture, variant] = ID.split('/');
    return { ID, Platform: { os, architecture, variant } };
  });
  const configs = Object.fromEntries(
    Platforms.map(({ ID, Platform }) => [`containerimage.config/${ID}`, JSON.stringify({ ...Platform, config: {} })]),
  );
  return {
    results: new Map(Object.entries(results)),
    multiPlatform: true,
    metadata: bytesOf({ 'refs.platforms': JSON.stringify({ Platforms }), ...configs, ...metadata }),
  };
};
const bytesOf = (metadata: Readonly<Record<string, string>>): ReadonlyMap<string, Uint8Array> =>
  new Map(Object.entries(metadata).map(([key, value]) => [key, new TextEncoder().encode(value)]));
