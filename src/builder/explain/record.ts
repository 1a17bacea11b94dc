/**
 * What one build's look-ups were made with and how they ended: the account that a later build is compared with. Bounded, plain data;
 * stored as deflated JSON (accounts.ts). Nothing in it is a secret: values of secret-like names are keyed digests (parts.ts).
 */
import type { CacheLocation, LookupFacts, MissCause, MissReason, OpKind, ReadPath } from '../events.ts';

/** Raised when the way keys are made changes, so that a miss after an upgrade is told as such. */
export const KEY_FORMAT = 1;
/** Raised when this structure changes; accounts of another version are not read. */
export const ACCOUNT_VERSION = 1;

/**
 * A step's definition in pieces that can be compared and shown, by `kind` or `kind:name`: `command`, `env:PATH`, `workdir`,
 * `mount:/cache`, `image`, `image-digest`.
 */
export type Parts = Readonly<Record<string, string>>;

/** What an op read of one of its inputs. */
export interface ReadRecord {
  readonly content: string;
  readonly reads: readonly ReadPath[];
  /** Under which the list of its files is kept; undefined when there is none. */
  readonly list?: string;
}

/** What the solver knew at a miss, before any comparison. */
export interface MissRecord {
  readonly reason: MissReason;
  readonly detail?: string;
  /** Of an eviction: what removed the result, and when. */
  readonly policy?: string;
  readonly evictedAtMs?: number;
}

export interface StepRecord {
  /** As announced to clients. */
  readonly step: string;
  readonly vertex: string;
  readonly name: string;
  readonly op: OpKind;
  readonly cacheable: boolean;
  /** Indexes into the steps of the same build. */
  readonly inputs: readonly number[];
  readonly parts: Parts;
  key?: string;
  pin?: string;
  /** By input; null where the input was not read. */
  reads: (ReadRecord | null)[];
  outcome: 'hit' | 'implied' | 'miss' | 'none';
  location?: CacheLocation;
  backend?: string;
  miss?: MissRecord;
  cause?: MissCause;
  /** How its last interval ended: `cached`, `executed` or an error kind. */
  end?: string;
  /** Nanoseconds of the execution that made the result, in this build or before. */
  runNs?: number;
  /** Nanoseconds that a hit saved. */
  savedNs?: number;
}

export interface AccountRecord {
  readonly version: number;
  readonly ref: string;
  /** Builds of the same line are compared: frontend, file and target. */
  readonly line: string;
  readonly startedAtMs: number;
  readonly keyFormat: number;
  /** Build arguments of the request. */
  readonly args: Readonly<Record<string, string>>;
  /** The build it was compared with. */
  against?: string;
  /** Inputs before what is made of them. */
  readonly steps: StepRecord[];
  /** Steps above the bound, which were left out. */
  readonly dropped: number;
}

/** Notes what a look-up was made with. */
export function noteFacts(step: StepRecord, facts: LookupFacts | undefined): void {
  if (facts?.op !== undefined) step.key = facts.op;
  if (facts?.pin !== undefined) step.pin = facts.pin;
  for (const [at, { content, reads }] of facts?.inputs.entries() ?? [])
    if (content !== undefined) step.reads[at] = { content, reads: reads ?? [] };
}
