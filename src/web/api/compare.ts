/** Two builds side by side: steps matched by digest, then by name, the largest difference first; and one sentence that says it. Pure. */
import type { BuildSummary, ComparedStep, Comparison, Step, Steps } from './model.ts';

export interface ComparedBuild {
  readonly summary: BuildSummary;
  readonly steps: Steps;
  readonly options: Readonly<Record<string, string>>;
  /** The same options as sent; decides what differs, is never shown. */
  readonly rawOptions: Readonly<Record<string, string>>;
}

export function compare(a: ComparedBuild, b: ComparedBuild): Comparison {
  const steps = pairsOf(a.steps.steps, b.steps.steps)
    .map(comparedStep)
    .sort((x, y) => Math.abs(y.deltaMs) - Math.abs(x.deltaMs));
  return { a: a.summary, b: b.summary, verdict: verdictOf(a, b, steps), steps, options: differingOptions(a, b) };
}

type Pair = readonly [Step | undefined, Step | undefined];

/** Steps of the same digest belong together; of the rest, those of the same name in the order in which they stand. */
function pairsOf(a: readonly Step[], b: readonly Step[]): Pair[] {
  const left = new Set(b);
  const take = (find: (step: Step) => boolean): Step | undefined => {
    for (const step of left) {
      if (!find(step)) continue;
      left.delete(step);
      return step;
    }
    return undefined;
  };
  const byDigest = new Map(a.map((step) => [step, take(({ digest }) => digest === step.digest)]));
  const pairs = a.map((step): Pair => [step, byDigest.get(step) ?? take(({ name, op }) => name === step.name && op === step.op)]);
  return [...pairs, ...[...left].map((step): Pair => [undefined, step])];
}

const lengthOf = (step: Step | undefined): number => (step === undefined ? 0 : step.endMs - step.startMs);

function comparedStep([a, b]: Pair): ComparedStep {
  const side = (step: Step): NonNullable<ComparedStep['a']> => ({
    state: step.state,
    durationMs: lengthOf(step),
    ...(step.cache?.reason === undefined ? {} : { reason: step.cache.reason }),
  });
  return {
    name: (b ?? a)?.name ?? '',
    op: (b ?? a)?.op ?? '',
    match: a === undefined ? 'only-b' : b === undefined ? 'only-a' : 'both',
    ...(a === undefined ? {} : { a: side(a) }),
    ...(b === undefined ? {} : { b: side(b) }),
    deltaMs: Math.round((lengthOf(b) - lengthOf(a)) * 1000) / 1000,
  };
}

function verdictOf(a: ComparedBuild, b: ComparedBuild, steps: readonly ComparedStep[]): string {
  const deltaMs = b.steps.durationMs - a.steps.durationMs;
  const pace =
    Math.abs(deltaMs) < 0.02 * a.steps.durationMs || Math.abs(deltaMs) < 10
      ? 'B took as long as A'
      : `B took ${durationText(Math.abs(deltaMs))} ${deltaMs > 0 ? 'longer' : 'less'} than A`;
  const reran = steps.filter((step) => step.a?.state === 'cached' && step.b?.state !== 'cached' && step.b !== undefined);
  const saved = steps.filter((step) => step.b?.state === 'cached' && step.a !== undefined && step.a.state !== 'cached');
  const largest = steps[0];
  const parts = [
    ...(reran.length > 0 ? [`${counted(reran.length, 'step')} cached in A ran again`] : []),
    ...(saved.length > 0 ? [`${counted(saved.length, 'step')} that ran in A came from the cache`] : []),
    ...(largest !== undefined && Math.abs(largest.deltaMs) >= 10 ? [`the largest difference is ${largest.name}`] : []),
  ];
  return `${[pace, ...(parts.length > 0 ? [parts.join('; ')] : [])].join(': ')}.`;
}

function differingOptions(a: ComparedBuild, b: ComparedBuild): Comparison['options'] {
  const keys = [...new Set([...Object.keys(a.rawOptions), ...Object.keys(b.rawOptions)])].sort();
  return keys
    .filter((key) => a.rawOptions[key] !== b.rawOptions[key])
    .map((key) => ({
      key,
      ...(a.options[key] === undefined ? {} : { a: a.options[key] }),
      ...(b.options[key] === undefined ? {} : { b: b.options[key] }),
    }));
}

const counted = (count: number, word: string): string => `${count} ${word}${count === 1 ? '' : 's'}`;
/** `850 ms`, `12.3 s`, `4 min 12 s`. */
export function durationText(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}
