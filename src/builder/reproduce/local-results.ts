/**
 * Sources that only a client can give (`local://`, `oci-layout://`): which stored result each vertex became, so that a build can be
 * repeated when the client has gone. During a check such a vertex is that result, and asks nobody.
 */
import { cacheDigestOf, type VertexDigest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { Vertex } from '../llb/definition.ts';
import type { Snapshots } from '../snapshot/ports.ts';
import type { Op } from '../solver/ports.ts';

const MAX_REMEMBERED = 5_000;

export function isClientSource({ op: { op } }: Vertex): boolean {
  return op.case === 'source' && /^(local|oci-layout):\/\//.test(op.value.identifier);
}

export class LocalResults {
  readonly #snapshots: Snapshots;
  /** Result by vertex, oldest first; '' is scratch. A vertex names its session, so no two builds mean different files by one. */
  readonly #results = new Map<string, string>();
  readonly #replayed = new Map<string, string>();

  constructor(snapshots: Snapshots) {
    this.#snapshots = snapshots;
  }

  /** The op of a source vertex, `made` by the sources, watched or replaced. */
  opOf(vertex: Vertex, made: (vertex: Vertex) => Op): Op {
    if (!isClientSource(vertex)) return made(vertex);
    const replayed = this.#replayed.get(vertex.digest);
    if (replayed !== undefined) return this.#replay(replayed);
    const op = made(vertex);
    return {
      resource: op.resource,
      cacheMap: (context, index) => op.cacheMap(context, index),
      exec: async (context, inputs) => {
        const results = await op.exec(context, inputs);
        this.#remember(vertex.digest, results[0]?.id ?? '');
        return results;
      },
    };
  }

  /** The stored result that a vertex became, as far as it is remembered. */
  of(vertex: VertexDigest): string | undefined {
    return this.#results.get(vertex);
  }

  /** From now until disposed these vertices are these results. */
  replay(results: ReadonlyMap<string, string>): Disposable {
    for (const [digest, id] of results) this.#replayed.set(digest, id);
    return {
      [Symbol.dispose]: () => {
        for (const digest of results.keys()) this.#replayed.delete(digest);
      },
    };
  }

  #replay(id: string): Op {
    return {
      resource: 'io',
      cacheMap: async () => ({ map: { digest: cacheDigestOf(`reproduce:${id}`), inputs: [], ephemeral: true }, done: true }),
      exec: async () => {
        const snapshot = await this.#snapshots.open(id);
        if (snapshot === undefined) throw new BuildError('not-found', 'files that the client sent are no longer kept');
        return [snapshot];
      },
    };
  }

  #remember(digest: string, id: string): void {
    if (id === '') return;
    this.#results.delete(digest);
    this.#results.set(digest, id);
    if (this.#results.size > MAX_REMEMBERED) for (const [oldest] of this.#results.entries().take(1)) this.#results.delete(oldest);
  }
}
