/**
 * What Alertmanager must make of sets of alerts that fire together: who is notified, in which groups, what is inhibited or muted. A test
 * puts each case to a real Alertmanager that runs alertmanager.yml.
 */
import type { Receiver } from './alertmanager.ts';

type Labels = Readonly<Record<string, string>>;
export interface RoutingCase {
  readonly name: string;
  /** Alert names with labels beyond those their rule gives; where a rule of that name has several severities, `severity` chooses. */
  readonly firing: readonly (readonly [alert: string, labels?: Labels])[];
  /** When it happens: `office` is inside business hours, `night` outside, `maintenance` inside a maintenance window by day. */
  readonly when?: 'office' | 'night' | 'maintenance';
  /** Every notification that must come, as receiver and the alerts in it, and no other. */
  readonly notified: readonly (readonly [receiver: Receiver, alerts: readonly string[]])[];
  /** Alerts that stay visible and are told to nobody because another explains them. */
  readonly inhibited?: readonly string[];
}

const a = { instance: 'a:8470' };
const b = { instance: 'b:8470' };

export const ROUTING_CASES: readonly RoutingCase[] = [
  { name: 'the watchdog reaches the heartbeat', firing: [['CooperWatchdog']], notified: [['heartbeat', ['CooperWatchdog']]] },
  {
    name: 'the watchdog goes on in a maintenance',
    firing: [['CooperWatchdog']],
    when: 'maintenance',
    notified: [['heartbeat', ['CooperWatchdog']]],
  },
  {
    name: 'a daemon that is down pages at night, and what it explains is told to nobody',
    firing: [
      ['CooperDaemonDown', a],
      ['CooperDiskFull', a],
      ['CooperGcFailing', a],
    ],
    when: 'night',
    notified: [['page', ['CooperDaemonDown']]],
    inhibited: ['CooperDiskFull', 'CooperGcFailing'],
  },
  {
    name: 'another daemon that has a problem of its own is heard',
    firing: [
      ['CooperDaemonDown', a],
      ['CooperDiskFull', b],
    ],
    notified: [
      ['page', ['CooperDaemonDown']],
      ['page', ['CooperDiskFull']],
    ],
  },
  {
    name: 'one cause is one notification',
    firing: [
      ['CooperDiskFilling', a],
      ['CooperWorkerOomKills', a],
      ['CooperGcFailing', b],
    ],
    notified: [['ticket', ['CooperDiskFilling', 'CooperGcFailing', 'CooperWorkerOomKills']]],
  },
  {
    name: 'causes apart are notifications apart',
    firing: [
      ['CooperRegistryErrors', a],
      ['CooperEventLoopBlocked', a],
    ],
    notified: [
      ['ticket', ['CooperRegistryErrors']],
      ['ticket', ['CooperEventLoopBlocked']],
    ],
  },
  { name: 'a ticket waits for the morning', firing: [['CooperRegistryErrors', a]], when: 'night', notified: [] },
  {
    name: 'a page for an objective hides its tickets',
    firing: [
      ['CooperBuildSuccessBurn', { severity: 'critical', long: '1h' }],
      ['CooperBuildSuccessBurn', { severity: 'warning', long: '1d' }],
      ['CooperBuildSuccessBurn', { severity: 'warning', long: '3d' }],
    ],
    notified: [['page', ['CooperBuildSuccessBurn']]],
    inhibited: ['CooperBuildSuccessBurn', 'CooperBuildSuccessBurn'],
  },
  {
    name: 'a cache outage with a working fallback is one ticket, not misses and slow builds too',
    firing: [
      ['CooperRemoteCacheOutage', { ...a, severity: 'warning', backend: 's3' }],
      ['CooperCacheHitBurn', { severity: 'warning', long: '1d' }],
      ['CooperBuildLatencyBurn', { severity: 'warning', long: '1d' }],
    ],
    notified: [['ticket', ['CooperRemoteCacheOutage']]],
    inhibited: ['CooperBuildLatencyBurn', 'CooperCacheHitBurn'],
  },
  {
    name: 'a cache outage whose fallback fails pages, and the page about failing builds is heard with it',
    firing: [
      ['CooperRemoteCacheOutage', { ...a, severity: 'critical', backend: 's3' }],
      ['CooperBuildSuccessBurn', { severity: 'critical', long: '1h' }],
    ],
    when: 'night',
    notified: [
      ['page', ['CooperRemoteCacheOutage']],
      ['page', ['CooperBuildSuccessBurn']],
    ],
  },
  {
    name: 'a leaked secret is heard at night, whatever else is wrong with that daemon',
    firing: [
      ['CooperSecretLeak', a],
      ['CooperDaemonDown', a],
    ],
    when: 'night',
    notified: [
      ['security', ['CooperSecretLeak']],
      ['page', ['CooperDaemonDown']],
    ],
  },
  {
    name: 'a leaked secret is heard in a maintenance',
    firing: [['CooperSecretLeak', a]],
    when: 'maintenance',
    notified: [['security', ['CooperSecretLeak']]],
  },
  { name: 'a maintenance mutes pages', firing: [['CooperDaemonDown', a]], when: 'maintenance', notified: [] },
  { name: 'what only explains is shown and sent nowhere', firing: [['CooperTelemetryDropping', a]], notified: [] },
  {
    name: 'test builds that fail while others succeed are a ticket',
    firing: [['CooperCanaryFailing', { ...a, severity: 'warning' }]],
    notified: [['ticket', ['CooperCanaryFailing']]],
  },
  {
    name: 'test builds that fail where nothing succeeds page at night',
    firing: [['CooperCanaryFailing', { ...a, severity: 'critical' }]],
    when: 'night',
    notified: [['page', ['CooperCanaryFailing']]],
  },
  {
    name: 'a cache that is out for long, and what of it was corrupt, are one ticket',
    firing: [
      ['CooperRemoteCacheOutage', { ...a, severity: 'warning', backend: 's3' }],
      ['CooperOutageLong', { ...a, root_cause: 'cache', component: 'remote-cache' }],
      ['CooperCacheCorruption', { ...a, origin: 'remote-cache' }],
    ],
    notified: [['ticket', ['CooperCacheCorruption', 'CooperOutageLong', 'CooperRemoteCacheOutage']]],
  },
  {
    name: 'a builder that is out for long pages in the night, a collector does not',
    firing: [
      ['CooperOutageLong', { ...a, root_cause: 'builder', component: 'builder' }],
      ['CooperOutageLong', { ...a, root_cause: 'telemetry', component: 'collector' }],
    ],
    when: 'night',
    notified: [['page', ['CooperOutageLong']]],
  },
  {
    name: 'a disk that fills in hours hides the forecast of days, but not the cache that is too small',
    firing: [
      ['CooperDiskFilling', a],
      ['CooperDiskForecast', a],
      ['CooperCacheTooSmall', a],
    ],
    notified: [['ticket', ['CooperCacheTooSmall', 'CooperDiskFilling']]],
    inhibited: ['CooperDiskForecast'],
  },
  {
    name: 'lost audit records reach security in a maintenance, also from a daemon that is away',
    firing: [
      ['CooperAuditDropping', { ...a, reason: 'disk_error' }],
      ['CooperDaemonDown', a],
    ],
    when: 'maintenance',
    notified: [['security', ['CooperAuditDropping']]],
  },
  {
    name: 'a certificate that is about to expire pages, and one that has two weeks is a ticket',
    firing: [
      ['CooperCertificateExpiring', { ...a, severity: 'critical', certificate: 'grpc-server' }],
      ['CooperCertificateExpiring', { ...b, severity: 'warning', certificate: 'ops-server' }],
    ],
    notified: [
      ['page', ['CooperCertificateExpiring']],
      ['ticket', ['CooperCertificateExpiring']],
    ],
  },
  {
    name: 'a registry that refuses and its rate limit are one ticket',
    firing: [
      ['CooperRegistryErrors', a],
      ['CooperRegistryRateLimitLow', { ...a, registry: 'docker.io' }],
    ],
    notified: [['ticket', ['CooperRegistryErrors', 'CooperRegistryRateLimitLow']]],
  },
  { name: 'idle workers are shown and sent nowhere', firing: [['CooperWorkersIdle']], notified: [] },
  {
    name: 'busy workers are a ticket that waits for the morning',
    firing: [['CooperWorkersSaturated']],
    when: 'night',
    notified: [],
  },
];
