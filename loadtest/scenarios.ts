/**
 * The load scenarios, as data that k6 and the Node driver both read. No imports of either: what a scenario asks for must not depend on who
 * runs it. Builds arrive when the scenario says, however long the ones before take (an open model).
 */
import { SLO } from './slo.ts';

export type Workload = 'noop' | 'compile' | 'context' | 'logs' | 'cold';
export interface Stage {
  /** Share of the whole duration. */
  readonly share: number;
  /** Rate at its end, as a multiple of the base rate; it is reached in a straight line from the stage before. */
  readonly rate: number;
}
export interface Scenario {
  readonly about: string;
  /** Multiple of the base rate at the start. */
  readonly start: number;
  readonly stages: readonly Stage[];
  /** How often each kind of build comes; only the proportions count. */
  readonly mix: Readonly<Partial<Record<Workload, number>>>;
  readonly tenants: number;
  readonly thresholds: readonly (keyof typeof THRESHOLDS)[];
}

/** Rules over the metrics of a result; the figures are those of src/slo/objectives.ts. */
export const THRESHOLDS = {
  success: { metric: 'builds_failed', stat: 'rate', below: 1 - SLO['build-success'].target },
  latency: { metric: 'build_seconds', stat: 'p95', below: SLO['build-latency'].seconds },
  queue: { metric: 'queue_seconds', stat: 'p95', below: SLO['queue-wait'].seconds },
  artifact: { metric: 'first_artifact_seconds', stat: 'p95', below: SLO['first-artifact'].seconds },
  hits: { metric: 'hit_ratio', stat: 'avg', above: SLO['cache-hit'].ratio },
} as const;

const JUDGED = ['success', 'latency', 'queue', 'artifact'] as const;
const MIXED = { noop: 6, compile: 2, context: 1, logs: 1 } as const;

export const SCENARIOS = {
  steady: {
    about: 'the same rate all the time',
    start: 1,
    stages: [{ share: 1, rate: 1 }],
    mix: MIXED,
    tenants: 1,
    thresholds: JUDGED,
  },
  ramp: {
    about: 'from little to ten times the base rate, to find where the daemon saturates',
    start: 0.2,
    stages: [{ share: 1, rate: 10 }],
    mix: { compile: 1 },
    tenants: 1,
    thresholds: ['success'],
  },
  spike: {
    about: 'quiet, then eight times as much for a tenth of the time, then quiet again',
    start: 1,
    stages: [
      { share: 0.4, rate: 1 },
      { share: 0.02, rate: 8 },
      { share: 0.1, rate: 8 },
      { share: 0.02, rate: 1 },
      { share: 0.46, rate: 1 },
    ],
    mix: MIXED,
    tenants: 1,
    thresholds: JUDGED,
  },
  soak: {
    about: 'three times the base rate, for long runs',
    start: 3,
    stages: [{ share: 1, rate: 3 }],
    mix: MIXED,
    tenants: 4,
    thresholds: JUDGED,
  },
  'cold-storm': {
    about: 'builds of which nothing is cached, as after a cache was lost',
    start: 2,
    stages: [{ share: 1, rate: 2 }],
    mix: { cold: 1 },
    tenants: 1,
    thresholds: ['success', 'latency'],
  },
  tenants: {
    about: 'many tenants, each with its own images',
    start: 1,
    stages: [{ share: 1, rate: 1 }],
    mix: { compile: 1, noop: 1 },
    tenants: 32,
    thresholds: JUDGED,
  },
  warm: {
    about: 'what is cached already: the hit ratio is judged too',
    start: 1,
    stages: [{ share: 1, rate: 1 }],
    mix: { noop: 1 },
    tenants: 1,
    thresholds: [...JUDGED, 'hits'],
  },
} as const satisfies Readonly<Record<string, Scenario>>;
export type ScenarioName = keyof typeof SCENARIOS;
export const isScenario = (name: string): name is ScenarioName => Object.hasOwn(SCENARIOS, name);

/** Seconds from the start at which builds arrive, `ratePerSecond` being the base rate. */
export function arrivalsOf(scenario: Scenario, durationS: number, ratePerSecond: number): number[] {
  const arrivals: number[] = [];
  const stepS = 0.01;
  let due = 0;
  let from = scenario.start;
  let beganS = 0;
  for (const { share, rate } of scenario.stages) {
    const lengthS = share * durationS;
    const steps = Math.max(1, Math.round(lengthS / stepS));
    for (let step = 0; step < steps; step += 1) {
      due += (from + ((rate - from) * (step + 0.5)) / steps) * ratePerSecond * (lengthS / steps);
      for (; due >= 1; due -= 1) arrivals.push(beganS + (lengthS * (step + 1)) / steps);
    }
    beganS += lengthS;
    from = rate;
  }
  return arrivals;
}

/** Which kind of build the n-th arrival is: in turn, by the proportions of the mix, the same in every run. */
export function workloadOf({ mix }: Scenario, n: number): Workload {
  const turn = Object.entries(mix).flatMap(([kind, weight]) => Array<Workload>(weight).fill(kind as Workload));
  return turn[(n * 7) % turn.length] ?? 'noop'; // 7 has no factor in common with the sizes above, so kinds are spread
}
