/** Builds in the background of a game: one every so often, whatever becomes of the others, so that slow builds do not thin the load. */
import { randomUUID } from 'node:crypto';
import type { LoadSpec } from './game.ts';
import type { SeenBuild } from './observe.ts';

export interface BuildOrder {
  readonly kind: LoadSpec['kind'];
  readonly prune: boolean;
  /** Makes the build's last step new. */
  readonly stamp: string;
  /** `host:port` of the registry for cache and images. */
  readonly registry: string;
  /** A failing cache export fails the build: the fallback taken away. */
  readonly strictCache: boolean;
  /** Value of the secret that `secret` builds hold. */
  readonly secret: string;
  /** The build also leaves its secret in a form that no search for the value can know. */
  readonly leakToLog: boolean;
  readonly signal: AbortSignal;
}
/** Never rejects: a failed build is an outcome. */
export type RunBuild = (order: BuildOrder) => Promise<Pick<SeenBuild, 'ref' | 'outcome' | 'fault' | 'message'>>;

export interface Load extends AsyncDisposable {
  readonly builds: readonly SeenBuild[];
}
const MOST_AT_ONCE = 6;

export function startLoad(run: RunBuild, spec: LoadSpec, order: Omit<BuildOrder, 'kind' | 'prune' | 'stamp' | 'signal'>): Load {
  const builds: SeenBuild[] = [];
  const running = new Set<Promise<void>>();
  const stop = new AbortController();
  const one = async (): Promise<void> => {
    const startedMs = Date.now();
    const outcome = await run({ ...order, kind: spec.kind, prune: spec.prune, stamp: randomUUID(), signal: stop.signal });
    if (!stop.signal.aborted) builds.push({ ...outcome, startedMs, endedMs: Date.now() });
  };
  const start = (): void => {
    if (running.size >= MOST_AT_ONCE) return;
    const build = one().finally(() => running.delete(build));
    running.add(build);
  };
  start();
  const timer = setInterval(start, 60_000 / spec.buildsPerMinute);
  return {
    builds,
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      stop.abort();
      await Promise.allSettled(running);
    },
  };
}
