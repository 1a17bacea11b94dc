/** What a source is to the builder: something that finds out what it would fetch, so that it can be keyed, and then fetches it. */
import type { Platform } from '../llb/platform.ts';
import type { SourceOp } from '../proto/gen/pb/ops_pb.ts';
import type { Snapshot } from '../snapshot/ports.ts';
import type { OpContext } from '../solver/ports.ts';

export interface SourceRequest {
  readonly op: SourceOp;
  /** The part of the identifier before `://`. */
  readonly scheme: string;
  /** The part after it. */
  readonly locator: string;
  readonly platform: Platform;
}

export interface SourceKey {
  readonly key: string;
  readonly done: boolean;
  readonly ephemeral?: boolean;
  /** What was found, for people: manifest digest, commit, digest of the file. */
  readonly pin?: string;
}

/** One source vertex at work; it remembers between its calls what it found out. */
export interface SourceInstance {
  /**
   * Key number `index`, in the words of buildkit-wire.md section 7.3, before hashing. `ephemeral`: it holds in one session only.
   * Rejects when the source does not exist or cannot be reached.
   */
  cacheKey(context: OpContext, index: number): Promise<SourceKey>;
  /** The content; undefined is scratch. The caller owns the snapshot. */
  fetch(context: OpContext): Promise<Snapshot | undefined>;
}

export interface SourceKind {
  readonly schemes: readonly string[];
  /** @throws BuildError `invalid-input` for an identifier or an attribute that can never work. */
  open(request: SourceRequest): SourceInstance;
}
