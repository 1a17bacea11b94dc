/**
 * Alertmanager's tree for the alerts of rules.ts: who hears what, together with what, and when not. Written to alertmanager.yml by
 * `npm run generate`; routing-cases.ts says what must come of it, and a real Alertmanager is asked.
 *
 * Severities: critical wakes somebody, warning is work for the day, info is shown and sent nowhere, none is the watchdog.
 */
import { SITE } from './config.ts';

export const RECEIVERS = ['page', 'ticket', 'security', 'heartbeat', 'shown-only'] as const;
export type Receiver = (typeof RECEIVERS)[number];

/** The two intervals a site edits: when tickets are delivered, and when nothing but the exceptions below is. */
const TIME_INTERVALS = [
  {
    name: 'business-hours',
    time_intervals: [
      { weekdays: ['monday:friday'], times: [{ start_time: '08:00', end_time: '18:00' }], location: SITE.timeZone },
    ],
  },
  // A year that is over: nothing is muted until somebody writes the window of a maintenance here.
  { name: 'maintenance', time_intervals: [{ years: ['2020'] }] },
];

/** A daemon that is away, a backend that is out, a disk that is full: each explains the alerts that only follow from it. */
const INHIBITIONS: readonly {
  readonly because: string;
  readonly source: readonly string[];
  readonly target: readonly string[];
  readonly equal: readonly string[];
}[] = [
  {
    because: 'A daemon that is away explains everything else its address reports.',
    source: ['alertname="CooperDaemonDown"'],
    target: ['alertname!~"CooperDaemonDown|CooperWatchdog"', 'root_cause!="security"'],
    equal: ['instance', 'service'],
  },
  {
    because: 'A page for an objective explains the tickets for the same objective.',
    source: ['severity="critical"', 'slo!=""'],
    target: ['severity="warning"', 'slo!=""'],
    equal: ['slo', 'service'],
  },
  {
    because: 'A remote cache that is out explains misses, slow builds and failed cache exports.',
    source: ['alertname="CooperRemoteCacheOutage"'],
    target: [`slo=~"${['cache-hit', 'build-latency', 'cache-push', 'first-artifact'].join('|')}"`, 'severity="warning"'],
    equal: ['service'],
  },
  {
    because: 'A full disk explains a disk that is filling and garbage collection that fails on it.',
    source: ['alertname="CooperDiskFull"'],
    target: ['alertname=~"CooperDiskFilling|CooperDiskForecast|CooperGcFailing"'],
    equal: ['instance', 'service'],
  },
  {
    because: 'A disk that is full in hours says all that a forecast of days says.',
    source: ['alertname="CooperDiskFilling"'],
    target: ['alertname="CooperDiskForecast"'],
    equal: ['instance', 'service'],
  },
];

export const ALERTMANAGER = {
  global: { resolve_timeout: '5m' },
  route: {
    receiver: 'ticket',
    // By cause, not by name: one cause is one notification however many alerts tell of it.
    group_by: ['root_cause', 'service'],
    group_wait: '30s',
    group_interval: '5m',
    repeat_interval: '4h',
    routes: [
      // The dead man's switch: an outside receiver expects this all the time and raises an alarm when it stops.
      {
        matchers: ['alertname="CooperWatchdog"'],
        receiver: 'heartbeat',
        group_wait: '0s',
        group_interval: '1m',
        repeat_interval: '1m',
      },
      // Whatever may be a leak is never muted and waits for no office hours.
      { matchers: ['root_cause="security"'], receiver: 'security', group_by: ['alertname', 'instance'], group_wait: '10s' },
      { matchers: ['severity="critical"'], receiver: 'page', mute_time_intervals: ['maintenance'] },
      {
        matchers: ['severity="warning"'],
        receiver: 'ticket',
        active_time_intervals: ['business-hours'],
        mute_time_intervals: ['maintenance'],
      },
      { matchers: ['severity="info"'], receiver: 'shown-only' },
    ],
  },
  inhibit_rules: INHIBITIONS.map(({ source, target, equal }) => ({ source_matchers: source, target_matchers: target, equal })),
  time_intervals: TIME_INTERVALS,
  receivers: RECEIVERS.map((name) => ({
    name,
    ...(name === 'shown-only'
      ? {}
      : { webhook_configs: [{ url: `${SITE.receiversUrl}/${name}`, send_resolved: name !== 'heartbeat' }] }),
  })),
} as const;

/** Alert names the tree speaks of, so that a test can compare them with those that exist. */
export const NAMED_ALERTS: readonly string[] = INHIBITIONS.flatMap(({ source, target }) => [...source, ...target])
  .filter((matcher) => matcher.startsWith('alertname'))
  .flatMap((matcher) => (/"([^"]+)"/.exec(matcher)?.[1] ?? '').split('|'));
