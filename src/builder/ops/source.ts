/** Source vertices: finds the source for the identifier's scheme, keys it as BuildKit does, and fetches it. */
import { cacheDigestOf } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { Vertex } from '../llb/definition.ts';
import { type Platform, platformFromPb } from '../llb/platform.ts';
import type { CacheMap, Op, OpContext, Result } from '../solver/ports.ts';
import type { SourceInstance, SourceKind } from '../source/source.ts';

export interface SourceOpDeps {
  readonly sources: readonly SourceKind[];
  /** Meant by an op that names no platform. */
  readonly defaultPlatform: Platform;
}

/**
 * Makes source ops. The returned function throws BuildError `unsupported` for a scheme nobody serves and `invalid-input` for an
 * identifier or attribute that can never work.
 */
export function createSourceOp(deps: SourceOpDeps): (vertex: Vertex) => Op {
  const byScheme = new Map(deps.sources.flatMap((kind) => kind.schemes.map((scheme) => [scheme, kind] as const)));
  return (vertex) => {
    const source = vertex.op.op;
    if (source.case !== 'source') throw new BuildError('internal', `${vertex.digest} is not a source`);
    const { identifier } = source.value;
    const at = identifier.indexOf('://');
    if (at === -1) throw new BuildError('invalid-input', `failed to parse ${identifier}: invalid source identifier`);
    const scheme = identifier.slice(0, at);
    const kind = byScheme.get(scheme);
    if (kind === undefined) throw new BuildError('unsupported', `source scheme ${scheme} is not supported (${identifier})`);
    const platform = vertex.platform === undefined ? deps.defaultPlatform : platformFromPb(vertex.platform);
    const request = { op: source.value, scheme, locator: identifier.slice(at + 3), platform };
    return new RunSource(kind.open(request));
  };
}

class RunSource implements Op {
  readonly resource = 'io';
  readonly #source: SourceInstance;

  constructor(source: SourceInstance) {
    this.#source = source;
  }

  async cacheMap(context: OpContext, index: number): Promise<{ readonly map: CacheMap; readonly done: boolean }> {
    const { key, done, ephemeral, pin } = await this.#source.cacheKey(context, index);
    const digest = cacheDigestOf(`buildkit.source.v0:${key}`);
    return {
      map: { digest, inputs: [], ...(ephemeral === true ? { ephemeral } : {}), ...(pin === undefined ? {} : { pin }) },
      done,
    };
  }

  async exec(context: OpContext): Promise<Result[]> {
    return [(await this.#source.fetch(context)) ?? scratch];
  }
}

/** An image without layers. */
const scratch: Result = {
  id: undefined,
  clone: () => scratch,
  [Symbol.asyncDispose]: async () => undefined,
};
