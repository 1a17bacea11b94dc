/** All sources this daemon serves. */
import type { Clock } from '../../core/clock.ts';
import type { ContentStore } from '../content/ports.ts';
import type { Registry } from '../registry/ports.ts';
import type { Sessions } from '../session/ports.ts';
import type { Snapshots } from '../snapshot/ports.ts';
import type { BlobOrigins } from './blob-origins.ts';
import { gitSource } from './git-source.ts';
import type { HttpFetch } from './http-fetch.ts';
import type { HttpMemory } from './http-memory.ts';
import { type HttpSourceDeps, httpSource } from './http-source.ts';
import { imageSource } from './image-source.ts';
import { localSource } from './local-source.ts';
import { ociLayoutSource } from './oci-layout-source.ts';
import type { SessionAuths } from './session-auth.ts';
import type { SourceKind } from './source.ts';

export interface SourcesDeps {
  readonly clock: Clock;
  readonly registry: Registry;
  readonly content: ContentStore;
  readonly snapshots: Snapshots;
  readonly sessions: Sessions;
  readonly auths: SessionAuths;
  readonly origins: BlobOrigins;
  readonly http: HttpFetch;
  readonly memory: HttpMemory;
  readonly readSecret: HttpSourceDeps['readSecret'];
}

export function createSources(deps: SourcesDeps): readonly SourceKind[] {
  return [imageSource(deps), ociLayoutSource(deps), localSource(deps), httpSource(deps), gitSource(deps)];
}
