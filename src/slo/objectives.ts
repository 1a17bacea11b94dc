/**
 * What this daemon promises. Thresholds are bucket edges of the catalogue (a test compares), targets are reachable by every pair
 * (problemsOf), and user failures burn nothing.
 */
import { BUILD_DURATION, BUILDS, CACHE_BYTES, CACHE_LIMIT_BYTES, STEPS } from '../telemetry/catalog.ts';
import {
  CANARY_BUILDS,
  FIRST_ARTIFACT,
  OUTAGE,
  REMOTE_OPERATIONS,
  REPRODUCIBILITY_CHECKS,
} from '../telemetry/catalog-service.ts';
import { type BurnPair, FOUR_WEEK_PAIRS, type Objective, WEEKLY_PAIRS } from './spec.ts';

/** Builds must finish within ten minutes: the upper end of what the usual CI target calls fast enough. */
export const BUILD_LATENCY_SECONDS = 600;
/** A cache that serves less than this share of steps is not doing its work. */
export const CACHE_HIT_RATIO = 0.7;

/** A build waits no longer than this for a slot. */
export const QUEUE_WAIT_SECONDS = 60;
/** From the trigger to the first image somebody can use. */
export const FIRST_ARTIFACT_SECONDS = 600;
/** An outage is over within a quarter of an hour. */
export const OUTAGE_SECONDS = 900;
/** Collection runs now and then, so for a while the cache may hold a tenth more than its limit. */
export const CACHE_OVERSHOOT = 1.1;

const OCCURRENCES = { kind: 'occurrences' } as const;
/** What makes builds slow or dear, not wrong, waits for the morning. */
const tickets = (pairs: readonly BurnPair[]): BurnPair[] => pairs.map((pair) => ({ ...pair, severity: 'ticket' }));
const ENDED = ['success', 'failure', 'error', 'timeout'] as const;

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
    budgeting: OCCURRENCES,
    pairs: WEEKLY_PAIRS,
    alertName: 'CooperBuildSuccessBurn',
    eventWord: 'builds',
    toldApartBy: ['error_class'],
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
    budgeting: OCCURRENCES,
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
    pairs: tickets(WEEKLY_PAIRS),
    alertName: 'CooperCacheHitBurn',
    eventWord: 'slices',
    rootCause: 'cache',
  },
  {
    name: 'queue-wait',
    title: 'Queue wait',
    description: `Builds that were not cancelled waited at most ${QUEUE_WAIT_SECONDS} seconds to be admitted.`,
    reasoning:
      'Waiting is the part of a build that only the operator can shorten, and it hides in the total of long builds. A minute is a tenth of what a build may take; nineteen of twenty leaves room for the burst after a merge.',
    service: 'cooper',
    target: 0.95,
    period: '7d',
    indicator: {
      kind: 'events',
      good: { metric: BUILD_DURATION.name, where: { phase: ['queue'], result: ENDED }, le: QUEUE_WAIT_SECONDS },
      total: { metric: BUILD_DURATION.name, where: { phase: ['queue'], result: ENDED } },
    },
    budgeting: OCCURRENCES,
    pairs: WEEKLY_PAIRS,
    alertName: 'CooperQueueWaitBurn',
    eventWord: 'builds',
    toldApartBy: ['result'],
    rootCause: 'capacity',
  },
  {
    name: 'first-artifact',
    title: 'Time to first artifact',
    description: `The first output of a build is there within ${FIRST_ARTIFACT_SECONDS / 60} minutes of its trigger, or of its acceptance where the client names no trigger.`,
    reasoning:
      'The usual wish is under ten minutes for CI. It includes the queue of the CI system when the client passes the time of the trigger on, and that is not ours to page for: it makes tickets, and build latency pages.',
    service: 'cooper',
    target: 0.95,
    period: '7d',
    indicator: {
      kind: 'events',
      good: { metric: FIRST_ARTIFACT.name, where: {}, le: FIRST_ARTIFACT_SECONDS },
      total: { metric: FIRST_ARTIFACT.name, where: {} },
    },
    budgeting: OCCURRENCES,
    pairs: tickets(WEEKLY_PAIRS),
    alertName: 'CooperFirstArtifactBurn',
    eventWord: 'builds',
    toldApartBy: ['from'],
    rootCause: 'capacity',
  },
  {
    name: 'cache-push',
    title: 'Cache push',
    description:
      'Exports to remote caches that were tried succeed. Exports skipped because a breaker was open are not tried; the outage itself is counted in outage recovery.',
    reasoning:
      'The usual wish is a failure rate below 1 %, which is this target. A failed export fails no build and is tried again, so it makes tickets.',
    service: 'cooper',
    target: 0.99,
    period: '7d',
    indicator: {
      kind: 'failures',
      bad: { metric: REMOTE_OPERATIONS.name, where: { op: ['export'], result: ['error', 'timeout', 'denied', 'corrupt'] } },
      total: {
        metric: REMOTE_OPERATIONS.name,
        where: { op: ['export'], result: ['ok', 'error', 'timeout', 'denied', 'corrupt'] },
      },
    },
    budgeting: OCCURRENCES,
    pairs: tickets(WEEKLY_PAIRS),
    alertName: 'CooperCachePushBurn',
    eventWord: 'exports',
    toldApartBy: ['backend', 'result'],
    rootCause: 'cache',
  },
  {
    name: 'reproducibility',
    title: 'Reproducibility',
    description:
      'A sampled image that is built again from nothing has the same digest. Checks that could not be done count neither way.',
    reasoning:
      'High reproducibility is expected, and few builds are sampled: a week would hold too few to judge, so the period is four weeks. One in twenty may differ, because timestamps in third-party installers do.',
    service: 'cooper',
    target: 0.95,
    period: '28d',
    indicator: {
      kind: 'events',
      good: { metric: REPRODUCIBILITY_CHECKS.name, where: { result: ['same'] } },
      total: { metric: REPRODUCIBILITY_CHECKS.name, where: { result: ['same', 'different'] } },
    },
    budgeting: OCCURRENCES,
    pairs: tickets(FOUR_WEEK_PAIRS),
    alertName: 'CooperReproducibilityBurn',
    eventWord: 'checks',
    rootCause: 'builder',
  },
  {
    name: 'cache-growth',
    title: 'Cache growth',
    description: `Looked at every five minutes, the cache holds at most ${CACHE_OVERSHOOT} times its limit: collection keeps up with growth. A daemon without a limit is not judged.`,
    reasoning:
      'Growth is to be controlled by the policy of garbage collection, so the objective is that the policy works, not a rate of growth. The overshoot is what a busy hour adds between two collections.',
    service: 'cooper',
    target: 0.99,
    period: '7d',
    indicator: {
      kind: 'state',
      of: 'value',
      gauge: { metric: CACHE_BYTES.name, where: {} },
      per: { metric: CACHE_LIMIT_BYTES.name, where: {} },
      op: 'lte',
      threshold: CACHE_OVERSHOOT,
      everySeconds: 300,
    },
    budgeting: OCCURRENCES,
    pairs: tickets(WEEKLY_PAIRS),
    alertName: 'CooperCacheGrowthBurn',
    eventWord: 'looks',
    rootCause: 'cache',
  },
  {
    name: 'outage-recovery',
    title: 'Outage recovery',
    description: `Outages of remote caches, registries and other components end within ${OUTAGE_SECONDS / 60} minutes. An outage counts when it ends.`,
    reasoning:
      'The usual wish is a recovery within 15 minutes. Outages are few, so the period is four weeks. At 90 % the fast pair (13.4 times) could never fire, because the fastest burn is 10; at 95 % it can.',
    service: 'cooper',
    target: 0.95,
    period: '28d',
    indicator: {
      kind: 'events',
      good: { metric: OUTAGE.name, where: {}, le: OUTAGE_SECONDS },
      total: { metric: OUTAGE.name, where: {} },
    },
    budgeting: OCCURRENCES,
    pairs: tickets(FOUR_WEEK_PAIRS),
    alertName: 'CooperOutageRecoveryBurn',
    eventWord: 'outages',
    toldApartBy: ['component'],
    rootCause: 'cache',
  },
  {
    name: 'canary',
    title: 'Canary builds',
    description: 'The synthetic builds of the daemon itself succeed. Their input is ours, so every other result is bad.',
    reasoning:
      'A daemon that nobody can reach has no failed builds: without events of its own an outage would read as a perfect week. The canary is that event, and it fails for no reason of a user.',
    service: 'cooper',
    target: 0.99,
    period: '7d',
    indicator: {
      kind: 'events',
      good: { metric: CANARY_BUILDS.name, where: { result: ['success'] } },
      total: { metric: CANARY_BUILDS.name, where: { result: ENDED } },
    },
    budgeting: OCCURRENCES,
    pairs: WEEKLY_PAIRS,
    alertName: 'CooperCanaryBurn',
    eventWord: 'builds',
    toldApartBy: ['result'],
    rootCause: 'builder',
  },
];
