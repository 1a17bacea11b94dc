/** Sources over real snapshots, with every progress line recorded. */
import type { TestContext } from 'node:test';
import { systemClock } from '../../core/clock.ts';
import type { Platform } from '../llb/platform.ts';
import { createRegistry } from '../registry/registry.ts';
import type { Sessions } from '../session/ports.ts';
import { openRig as openSnapshotRig, readView, type Rig as SnapshotRig } from '../snapshot/snapshots.test-rig.ts';
import type { OpContext } from '../solver/ports.ts';
import { createBlobOrigins } from './blob-origins.ts';
import { createHttpFetch } from './http-fetch.ts';
import { openHttpMemory } from './http-memory.ts';
import { createSessionAuths } from './session-auth.ts';
import type { SourceInstance } from './source.ts';
import { createSources, type SourcesDeps } from './sources.ts';

export const LINUX: Platform = { os: 'linux', architecture: 'amd64', variant: '', osVersion: '', osFeatures: [] };
export const noSessions: Sessions = {
  get: () => Promise.reject(new Error('no session in this test')),
  any: () => Promise.reject(new Error('no session in this test')),
};

export interface SourceRig extends SnapshotRig {
  readonly deps: SourcesDeps;
  /** A fresh instance, as a new build would make. */
  open(identifier: string, attrs?: Readonly<Record<string, string>>, platform?: Platform): SourceInstance;
  /** Key and content of a source, as one build sees them. */
  load(identifier: string, attrs?: Readonly<Record<string, string>>): Promise<Loaded>;
}
export interface Loaded {
  readonly key: string;
  /** Undefined for scratch. */
  readonly tree: Record<string, string> | undefined;
  readonly lines: readonly string[];
}

export async function openSourceRig(t: TestContext, options: Partial<SourcesDeps> = {}): Promise<SourceRig> {
  const rig = await openSnapshotRig(t);
  const { content, snapshots } = rig;
  const registry = createRegistry({ content, hosts: {} });
  t.after(() => registry[Symbol.asyncDispose]());
  const sessions = options.sessions ?? noSessions;
  const deps: SourcesDeps = {
    clock: systemClock(),
    registry,
    content,
    snapshots,
    sessions,
    auths: createSessionAuths(sessions, Date.now),
    origins: createBlobOrigins(),
    http: createHttpFetch(),
    memory: await openHttpMemory(),
    readSecret: async () => undefined,
    ...options,
  };
  const kinds = createSources(deps);
  const open = (identifier: string, attrs: Readonly<Record<string, string>> = {}, platform = LINUX): SourceInstance => {
    const [scheme = '', locator = ''] = identifier.split(/:\/\/(.*)/s);
    const kind = kinds.find(({ schemes }) => schemes.includes(scheme)) ?? fail(`no source for ${scheme}`);
    return kind.open({ op: { $typeName: 'pb.SourceOp', identifier, attrs: { ...attrs } }, scheme, locator, platform });
  };
  return {
    ...rig,
    deps,
    open,
    async load(identifier, attrs) {
      const { context, lines } = contextOf([]);
      return await loadFrom(open(identifier, attrs), context, lines);
    },
  };
}

/** Key, then content, of one instance. */
export async function loadFrom(instance: SourceInstance, context: OpContext, lines: readonly string[]): Promise<Loaded> {
  const { key } = await instance.cacheKey(context, 0);
  await using snapshot = await instance.fetch(context);
  return { key, tree: snapshot === undefined ? undefined : await readView(snapshot), lines };
}

export function contextOf(
  sessions: readonly string[],
  signal: AbortSignal = new AbortController().signal,
): { readonly context: OpContext; readonly lines: readonly string[] } {
  const lines: string[] = [];
  const context: OpContext = {
    signal,
    sessions: () => sessions,
    progress: {
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
    },
  };
  return { context, lines };
}

function fail(message: string): never {
  throw new Error(message);
}
