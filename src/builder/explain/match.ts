/**
 * Which step of an earlier build a step is: the same vertex; else the same text in the same stage, in order; else the step that stood
 * on the same step before; else, for what stands on nothing, the one at the same place.
 */
import type { AccountRecord, StepRecord } from './record.ts';

/** By index of the later build: the index in the earlier one. */
export type Matching = ReadonlyMap<number, number>;

export interface StepName {
  /** `build`, with the platform where several are built; empty when there is one stage. */
  readonly stage: string;
  /** `3` of `[build 3/7]`. */
  readonly place: string;
  /** The instruction; the whole name for steps that are none. */
  readonly text: string;
}

/** Splits `[linux/arm64 build 3/7] RUN make`. */
export function splitName(name: string): StepName {
  const found = /^\[(?:(.*) )?(\d+)\/\d+\] (.*)$/s.exec(name);
  return found === null
    ? { stage: '', place: '', text: name }
    : { stage: found[1] ?? '', place: found[2] ?? '', text: found[3] ?? '' };
}

const textKey = ({ op, name }: StepRecord): string => {
  const { stage, text } = splitName(name);
  return `${op}\n${stage}\n${text}`;
};
const placeKey = ({ op, name }: StepRecord): string => {
  const { stage, place } = splitName(name);
  return `${op}\n${stage}\n${place}`;
};

const indexes = new WeakMap<AccountRecord, ReadonlyMap<string, number>>();
/** Index of each vertex of a finished account. */
export function vertexIndex(account: AccountRecord): ReadonlyMap<string, number> {
  const known = indexes.get(account);
  if (known !== undefined) return known;
  const made = new Map(account.steps.map(({ vertex }, at) => [vertex, at]));
  indexes.set(account, made);
  return made;
}

const textSets = new WeakMap<AccountRecord, ReadonlySet<string>>();
function textsOf(account: AccountRecord): ReadonlySet<string> {
  const known = textSets.get(account);
  if (known !== undefined) return known;
  const made = new Set(account.steps.map(textKey));
  textSets.set(account, made);
  return made;
}

/** How much two builds have in common: from 0 for nothing to 2 for the very same steps. */
export function likeness(steps: readonly StepRecord[], earlier: AccountRecord): number {
  const vertices = vertexIndex(earlier);
  let score = 0;
  for (const step of steps) {
    if (vertices.has(step.vertex)) score += 2;
    else if (textsOf(earlier).has(textKey(step))) score += 1;
  }
  return score / Math.max(steps.length, 1);
}

export function matchSteps(steps: readonly StepRecord[], earlier: AccountRecord): Matching {
  const matching = new Map<number, number>();
  const free = new Set(earlier.steps.keys());
  const take = (at: number, other: number | undefined): boolean => {
    if (other === undefined || !free.delete(other)) return false;
    matching.set(at, other);
    return true;
  };
  const vertices = vertexIndex(earlier);
  for (const [at, { vertex }] of steps.entries()) take(at, vertices.get(vertex));
  const byText = Map.groupBy(free, (other) => textKey(earlier.steps[other] as StepRecord));
  for (const [at, step] of steps.entries()) if (!matching.has(at)) take(at, byText.get(textKey(step))?.shift());
  for (const [at, step] of steps.entries()) {
    if (matching.has(at)) continue;
    const [first] = step.inputs;
    const below = first === undefined ? undefined : matching.get(first);
    const candidates = [...free].filter((other) => earlier.steps[other]?.op === step.op);
    const onSame = below === undefined ? undefined : candidates.find((other) => earlier.steps[other]?.inputs[0] === below);
    take(at, onSame ?? candidates.find((other) => samePlace(step, earlier.steps[other])));
  }
  return matching;
}

/** Only where there is a place: steps that are no instruction have none. */
function samePlace(step: StepRecord, other: StepRecord | undefined): boolean {
  if (other === undefined || (step.inputs.length === 0) !== (other.inputs.length === 0)) return false;
  if (splitName(step.name).place === '')
    return step.inputs.length === 0 && step.op === 'source' && schemeOf(step) === schemeOf(other);
  return placeKey(step) === placeKey(other);
}
const schemeOf = ({ parts }: StepRecord): string =>
  parts.image !== undefined ? 'image' : ((parts.source ?? '').split('://', 1)[0] ?? '');
