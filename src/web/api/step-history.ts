/**
 * Steps across builds: the same instruction, build after build. Read from the traces of the newest builds, which are parsed once and
 * kept for as long as somebody asks; nothing is held while nobody looks.
 */
import type { BuildSummary, Step, StepRun, StepSummary, Steps } from './model.ts';

/** Builds looked at; each costs one read of its trace. */
export const HISTORY_BUILDS = 50;
const MAX_KEPT_STEPS = 10_000; // about 8 MB
const FORGET_MS = 60_000;
const RECENT = 20;

/** Steps of finished builds, parsed once. */
export class StepCache implements Disposable {
  readonly #load: (ref: string) => Promise<Steps | undefined>;
  readonly #kept = new Map<string, Steps>();
  #keptSteps = 0;
  #forget: NodeJS.Timeout | undefined;

  constructor(load: (ref: string) => Promise<Steps | undefined>) {
    this.#load = load;
  }

  /** Steps of a build; of a running one, as they are now. Undefined when no trace of it is kept. */
  async of(ref: string): Promise<Steps | undefined> {
    this.#forget?.refresh();
    this.#forget ??= setTimeout(() => this[Symbol.dispose](), FORGET_MS).unref();
    const kept = this.#kept.get(ref);
    if (kept !== undefined) return kept;
    const steps = await this.#load(ref);
    if (steps?.complete === true) this.#keep(ref, steps);
    return steps;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#forget);
    this.#forget = undefined;
    this.#kept.clear();
    this.#keptSteps = 0;
  }

  #keep(ref: string, steps: Steps): void {
    this.#kept.set(ref, steps);
    this.#keptSteps += steps.steps.length;
    for (const [oldest, { steps: list }] of this.#kept) {
      if (this.#keptSteps <= MAX_KEPT_STEPS) return;
      this.#kept.delete(oldest);
      this.#keptSteps -= list.length;
    }
  }
}

export interface BuildSteps {
  readonly build: BuildSummary;
  readonly steps: Steps;
}

const lengthOf = (step: Step): number => step.endMs - step.startMs;
const executed = ({ state }: Step): boolean => state === 'done' || state === 'failed';

/** One line per step name, the one that cost most time first. `builds` newest first. */
export function summarise(builds: readonly BuildSteps[]): StepSummary[] {
  const byName = new Map<string, Step[]>();
  for (const { steps } of builds) {
    for (const step of steps.steps) {
      const list = byName.get(step.name);
      if (list === undefined) byName.set(step.name, [step]);
      else list.push(step);
    }
  }
  return [...byName].map(([name, list]) => summaryOf(name, list)).sort((a, b) => b.totalMs - a.totalMs);
}

function summaryOf(name: string, list: readonly Step[]): StepSummary {
  const runs = list.filter(executed);
  const lengths = runs.map(lengthOf);
  const sorted = lengths.toSorted((a, b) => a - b);
  return {
    name,
    op: list[0]?.op ?? '',
    builds: list.length,
    executed: runs.length,
    cached: list.filter(({ state }) => state === 'cached').length,
    failed: list.filter(({ state }) => state === 'failed').length,
    medianMs: sorted[Math.floor(sorted.length / 2)] ?? 0,
    slowestMs: sorted.at(-1) ?? 0,
    totalMs: Math.round(lengths.reduce((sum, length) => sum + length, 0) * 1000) / 1000,
    recentMs: lengths.slice(0, RECENT).reverse(),
  };
}

/** Every build in which a step of that name took part, newest first. */
export function runsOf(name: string, builds: readonly BuildSteps[]): StepRun[] {
  return builds.flatMap(({ build, steps }) =>
    steps.steps
      .filter((step) => step.name === name)
      .map((step) => ({
        ref: build.ref,
        build: build.name,
        startedAt: build.startedAt,
        state: step.state,
        durationMs: Math.round(lengthOf(step) * 1000) / 1000,
        digest: step.digest,
        ...(step.cache?.reason === undefined ? {} : { reason: step.cache.reason }),
        ...(step.cache?.detail === undefined ? {} : { detail: step.cache.detail }),
      })),
  );
}
