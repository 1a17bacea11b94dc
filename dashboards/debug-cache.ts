/** The debug board's rows about what is kept: the cache, remote caches, garbage collection. */
import * as catalog from '../src/telemetry/catalog.ts';
import * as service from '../src/telemetry/catalog-service.ts';
import type { Row } from './grafana.ts';
import { aggregate, quantile, sumIncrease, sumOf, sumRate } from './query.ts';
import { series } from './series.ts';

export const cacheRow: Row = {
  title: 'Cache',
  panels: [
    series(
      'Steps by how they were served',
      'Per second. hit_implied: not looked up, because a step above it hit.',
      'ops',
      sumRate(catalog.STEPS, {}, 'cache'),
      '{{cache}}',
      { stacked: true },
    ),
    series(
      'Hit ratio by kind of step',
      'Share of cacheable steps served from cache.',
      'percentunit',
      `${sumRate(catalog.STEPS, { cache: 'hit_memory|hit_local|hit_remote|hit_implied' }, 'kind')} / (${sumRate(catalog.STEPS, { cache: 'hit_memory|hit_local|hit_remote|hit_implied|miss' }, 'kind')} > 0)`,
      '{{kind}}',
      { max: 1, emptyUntil: 'a build has a cacheable step' },
    ),
    series(
      'Why lookups missed',
      'The first true cause, counted; `cooper explain REF` says it for every step of a build.',
      'ops',
      sumRate(catalog.CACHE_MISSES, {}, 'reason'),
      '{{reason}}',
      { stacked: true },
    ),
    series(
      'Lookups',
      'Where results of cacheable steps were found.',
      'ops',
      sumRate(catalog.CACHE_LOOKUPS, {}, 'result'),
      '{{result}}',
      { stacked: true },
    ),
    series(
      'Time saved',
      'Run time that hits saved, seconds per second, by where the result was.',
      'short',
      sumRate(catalog.CACHE_SAVED, {}, 'location'),
      '{{location}}',
      { stacked: true },
    ),
    series(
      'Things that did not match their digest',
      'Moved aside, by where they were found; their hits became misses.',
      'short',
      sumIncrease(service.QUARANTINED, {}, '$__rate_interval', 'origin'),
      '{{origin}}',
      { bars: true, alerts: ['CooperCacheCorruption'] },
    ),
  ],
};

export const remoteRow: Row = {
  title: 'Remote caches',
  panels: [
    series(
      'Operations',
      'Per second, by backend and operation.',
      'ops',
      sumRate(service.REMOTE_OPERATIONS, {}, 'backend', 'op'),
      '{{backend}} {{op}}',
    ),
    series(
      'Duration, 95th percentile',
      'Whatever the result; skipped operations are not in it.',
      's',
      quantile(0.95, service.REMOTE_DURATION, {}, 'backend', 'op'),
      '{{backend}} {{op}}',
      { exemplar: true, emptyUntil: 'a build uses a remote cache' },
    ),
    series(
      'Bytes moved',
      'From (import, load) and to (upload, export) remote caches.',
      'Bps',
      sumRate(service.REMOTE_BYTES, {}, 'backend', 'op'),
      '{{backend}} {{op}}',
    ),
    series(
      'Changes of breakers',
      'By the state they went to.',
      'short',
      sumIncrease(service.BREAKER_CHANGES, {}, '$__rate_interval', 'backend', 'state'),
      '{{backend}} {{state}}',
      { bars: true },
    ),
    series(
      'Warmed targets',
      'Built by `cooper cache warm`.',
      'short',
      sumIncrease(service.WARM_TARGETS, {}, '$__rate_interval', 'result'),
      '{{result}}',
      { bars: true },
    ),
    {
      type: 'stat',
      title: 'Last warmed',
      description: 'When `cooper cache warm` last ended.',
      unit: 'dateTimeFromNow',
      targets: [{ expr: `${aggregate('max', service.WARM_LAST_RUN, {}, 'instance')} * 1000`, legend: '{{instance}}' }],
      emptyUntil: '`cooper cache warm` runs',
      width: 8,
    },
  ],
};

export const collectionRow: Row = {
  title: 'Garbage collection and disk',
  panels: [
    series(
      'Cache size by kind',
      'Bytes of records, by the kinds `du` shows.',
      'bytes',
      aggregate('sum', catalog.CACHE_BYTES, {}, 'kind'),
      '{{kind}}',
      { stacked: true },
    ),
    series(
      'Cache limit',
      'Bytes at which the garbage collector removes records; 0 means no limit.',
      'bytes',
      aggregate('sum', catalog.CACHE_LIMIT_BYTES, {}, 'instance'),
      '{{instance}}',
    ),
    series(
      'Records',
      'Records in use by a build, and others.',
      'short',
      aggregate('sum', catalog.CACHE_RECORDS, {}, 'in_use'),
      'in use: {{in_use}}',
      { stacked: true },
    ),
    series(
      'Runs',
      'Garbage collection and prune, by trigger and result.',
      'short',
      sumIncrease(catalog.GC_RUNS, {}, '$__rate_interval', 'trigger', 'result'),
      '{{trigger}} {{result}}',
      { bars: true, alerts: ['CooperGcFailing'] },
    ),
    series(
      'Bytes given back',
      'By garbage collection and prune.',
      'bytes',
      sumIncrease(catalog.GC_FREED_BYTES, {}, '$__rate_interval'),
      'bytes',
      { bars: true },
    ),
    series(
      'Records removed',
      'By what started the run.',
      'short',
      sumIncrease(service.GC_REMOVED_RECORDS, {}, '$__rate_interval', 'trigger'),
      '{{trigger}}',
      { bars: true },
    ),
    series(
      'Age of what was removed last',
      'For how long the record removed last had not been used: how far back the cache reaches.',
      's',
      aggregate('min', service.GC_LAST_EVICTED_AGE, {}, 'instance'),
      '{{instance}}',
      { emptyUntil: 'garbage collection removes a record' },
    ),
    series(
      'Removed too early',
      'Lookups that missed what garbage collection had removed within a day: the cache is too small.',
      'short',
      sumIncrease(catalog.GC_REGRET, {}, '$__rate_interval'),
      'lookups',
      { bars: true, alerts: ['CooperCacheTooSmall'] },
    ),
    series(
      'Time spent collecting',
      'Seconds per second: 1 means it runs all the time.',
      'short',
      sumOf(catalog.GC_DURATION, {}),
      'share of time',
    ),
    {
      type: 'stat',
      title: 'Last run',
      description: 'When garbage collection or prune last ended.',
      unit: 'dateTimeFromNow',
      targets: [{ expr: `${aggregate('max', service.GC_LAST_RUN, {}, 'instance')} * 1000`, legend: '{{instance}}' }],
      emptyUntil: 'garbage collection runs',
      width: 8,
    },
  ],
};
