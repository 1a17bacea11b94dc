/**
 * What this daemon promises. Thresholds are bucket edges of the catalogue (a test compares), targets are reachable by every pair
 * (problemsOf), and user failures burn nothing.
 */
import { BUILD_DURATION, BUILDS, STEPS } from '../telemetry/catalog.ts';
import { type Objective, WEEKLY_PAIRS } from './spec.ts';

/** Builds must finish within ten minutes: the upper end of what the usual CI target calls fast enough. */
export const BUILD_LATENCY_SECONDS = 600;
/** A cache that serves less than this share of steps is not doing its work. */
export const CACHE_HIT_RATIO = 0.7;

export const OBJECTIVES: readonly Objective[] = [
  {
    name: 'build-success',
    title: 'Build success',
    description:
      "Builds end as their input deserves: a broken Dockerfile or a failing command is the user's and counts as good; errors and timeouts of the daemon, its disk, its worker or a registry are bad. Cancelled builds count neither way.",
    reasoning:
      'The usual starting target for a week. At 99 % every pair is reachable, and a week of 1000 builds may hold ten failures of ours.',
    service: 'cooper',
    target: 0.99,
    period: '7d',
    indicator: {
      kind: 'events',
      good: { metric: BUILDS.name, where: { result: ['success', 'failure'] } },
      total: { metric: BUILDS.name, where: { result: ['success', 'failure', 'error', 'timeout'] } },
    },
    budgeting: { kind: 'occurrences' },
    pairs: WEEKLY_PAIRS,
    alertName: 'CooperBuildSuccessBurn',
    eventWord: 'builds',
    rootCause: 'builder',
  },
  {
    name: 'build-latency',
    title: 'Build latency',
    description: `Successful builds finish within ${BUILD_LATENCY_SECONDS / 60} minutes, from being accepted to the last export.`,
    reasoning:
      'A median of three to ten minutes is the usual wish; a literal median is a target of 50 %, whose fastest burn rate is 2, so no page could ever fire. Nineteen of twenty within the upper end of that range is stricter and can be alerted on.',
    service: 'cooper',
    target: 0.95,
    period: '7d',
    indicator: {
      kind: 'events',
      good: { metric: BUILD_DURATION.name, where: { phase: ['total'], result: ['success'] }, le: BUILD_LATENCY_SECONDS },
      total: { metric: BUILD_DURATION.name, where: { phase: ['total'], result: ['success'] } },
    },
    budgeting: { kind: 'occurrences' },
    pairs: WEEKLY_PAIRS,
    alertName: 'CooperBuildLatencyBurn',
    eventWord: 'builds',
    rootCause: 'capacity',
  },
  {
    name: 'cache-hit',
    title: 'Cache hit ratio',
    description: `In every five minutes with cacheable steps, at least ${CACHE_HIT_RATIO * 100} % of them are served from cache. Counted in slices, because a budget of 30 % of steps could never burn fast enough to page.`,
    reasoning:
      'The usual wish is a hit ratio above 70 %. As a share of steps its fastest burn rate is 3.3, and a week of nothing but misses would take two days to notice. So a slice of five minutes is the event, 70 % makes it good, and 95 % of the slices must be.',
    service: 'cooper',
    target: 0.95,
    period: '7d',
    indicator: {
      kind: 'events',
      good: { metric: STEPS.name, where: { cache: ['hit_memory', 'hit_local', 'hit_remote', 'hit_implied'] } },
      total: { metric: STEPS.name, where: { cache: ['hit_memory', 'hit_local', 'hit_remote', 'hit_implied', 'miss'] } },
    },
    budgeting: { kind: 'timeslices', sliceSeconds: 300, threshold: CACHE_HIT_RATIO },
    // A cold cache makes builds slow, not wrong: it never pages.
    pairs: WEEKLY_PAIRS.map((pair) => ({ ...pair, severity: 'ticket' as const })),
    alertName: 'CooperCacheHitBurn',
    eventWord: 'slices',
    rootCause: 'cache',
  },
];
