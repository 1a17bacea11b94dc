/** Alerts about whether the builder can be trusted: it builds, it recovers, what it keeps is intact, what it records is complete. */
import { BUILDS, REGISTRY_REQUESTS, TELEMETRY_DROPPED } from '../src/telemetry/catalog.ts';
import {
  CANARY_BUILDS,
  CERTIFICATE_NOT_AFTER,
  OUTAGE_ACTIVE,
  QUARANTINED,
  RATE_LIMIT,
  RATE_LIMIT_REMAINING,
  REPRODUCIBILITY_CHECKS,
} from '../src/telemetry/catalog-service.ts';
import { job, type Symptom } from './symptom.ts';

/** Two canaries of the last three failed (they run every five minutes) and none succeeded. */
const canaryFails = [
  `sum by (instance) (increase(${CANARY_BUILDS.name}{${job},result!="success"}[15m])) > 1.5`,
  `unless on (instance) sum by (instance) (increase(${CANARY_BUILDS.name}{${job},result="success"}[15m])) > 0.5`,
].join('\n');
const usersSucceed = `sum by (instance) (increase(${BUILDS.name}{${job},result="success"}[15m])) > 0.5`;

/** An outage that outlasts what M10 allows; what stops builds pages, what has a fallback does not. */
const OUTAGES = [
  { component: 'disk|builder', severity: 'critical', rootCause: 'builder' },
  { component: 'remote-cache', severity: 'warning', rootCause: 'cache' },
  { component: 'registry', severity: 'warning', rootCause: 'registry' },
  { component: 'collector', severity: 'info', rootCause: 'telemetry' },
] as const;
const componentMatcher = (component: string): string =>
  component.includes('|') ? `component=~"${component}"` : `component="${component}"`;

const untilExpiry = `min by (instance, certificate) (${CERTIFICATE_NOT_AFTER.name}{${job}} - time())`;
const DAY_S = 86_400;

export const TRUST_SYMPTOMS: readonly Symptom[] = [
  {
    alert: 'CooperCanaryFailing',
    expr: `(${canaryFails})\nunless on (instance) (${usersSucceed})`,
    severity: 'critical',
    rootCause: 'builder',
    summary: "The daemon's own test builds fail and no other build succeeds.",
    description:
      '{{ $value | printf "%.0f" }} test builds failed on {{ $labels.instance }} in 15 minutes and no build of a user succeeded there; /readyz says why.',
  },
  {
    // While users' builds succeed the builder works for them: somebody should look, nobody need get up.
    alert: 'CooperCanaryFailing',
    expr: `(${canaryFails})\nand on (instance) (${usersSucceed})`,
    for: '15m',
    severity: 'warning',
    rootCause: 'builder',
    summary: "The daemon's own test builds fail; other builds succeed.",
    description:
      '{{ $value | printf "%.0f" }} test builds failed on {{ $labels.instance }} in 15 minutes while builds of users succeed there; /readyz says why.',
  },
  ...OUTAGES.map(({ component, severity, rootCause }) => ({
    alert: 'CooperOutageLong',
    expr: `max by (instance, component) (${OUTAGE_ACTIVE.name}{${job},${componentMatcher(component)}}) > 900`,
    severity,
    rootCause,
    summary: 'Something the daemon needs has been down for more than 15 minutes.',
    description:
      '{{ $labels.component }} has been down for {{ $value | humanizeDuration }} as {{ $labels.instance }} sees it; 15 minutes are promised.',
  })),
  {
    alert: 'CooperCacheCorruption',
    expr: `sum by (instance, origin) (increase(${QUARANTINED.name}{${job}}[1h])) > 0.5`,
    severity: 'warning',
    rootCause: 'cache',
    board: 'debug',
    summary: 'Cached data did not match its digest and was moved aside.',
    description:
      '{{ $value | printf "%.0f" }} blobs or snapshots from {{ $labels.origin }} were quarantined on {{ $labels.instance }} in the last hour. Their hits became misses; no build used them.',
  },
  {
    // A registry is only asked when somebody builds, and what it said last stays until then: no requests, no alert.
    alert: 'CooperRegistryRateLimitLow',
    expr: [
      `min by (instance, registry) (${RATE_LIMIT_REMAINING.name}{${job}} / (${RATE_LIMIT.name}{${job}} > 0)) < 0.1`,
      `and on (instance) sum by (instance) (increase(${REGISTRY_REQUESTS.name}{${job}}[15m])) > 0.5`,
    ].join('\n'),
    for: '5m',
    severity: 'warning',
    rootCause: 'registry',
    board: 'debug',
    summary: 'A registry will soon refuse pulls: its rate limit is nearly used up.',
    description:
      '{{ $labels.registry }} allows {{ $labels.instance }} another {{ $value | humanizePercentage }} of its requests in this window; after that it answers 429.',
  },
  {
    alert: 'CooperCertificateExpiring',
    expr: `${untilExpiry} < ${2 * DAY_S}`,
    severity: 'critical',
    rootCause: 'certificates',
    summary: 'A certificate of a daemon expires within two days, or has expired.',
    description:
      'The {{ $labels.certificate }} certificate of {{ $labels.instance }} has {{ $value | humanizeDuration }} left; after that no client connects over TLS.',
  },
  {
    alert: 'CooperCertificateExpiring',
    expr: `(${untilExpiry} < ${14 * DAY_S}) >= ${2 * DAY_S}`,
    severity: 'warning',
    rootCause: 'certificates',
    summary: 'A certificate of a daemon expires within two weeks.',
    description: 'The {{ $labels.certificate }} certificate of {{ $labels.instance }} has {{ $value | humanizeDuration }} left.',
  },
  {
    alert: 'CooperBuildNotReproducible',
    expr: `sum by (instance) (increase(${REPRODUCIBILITY_CHECKS.name}{${job},result="different"}[1d])) > 0.5`,
    severity: 'info',
    rootCause: 'reproducibility',
    board: 'debug',
    summary: 'A build that was made again gave another image.',
    description:
      '{{ $value | printf "%.0f" }} sampled builds on {{ $labels.instance }} gave another digest the second time in the last day; `cooper reproduce REF` names the files.',
  },
  {
    alert: 'CooperAuditDropping',
    expr: `sum by (instance, reason) (increase(${TELEMETRY_DROPPED.name}{${job},signal="audit"}[1h])) > 0.5`,
    severity: 'warning',
    rootCause: 'security',
    board: 'debug',
    summary: 'Records of the audit log were lost.',
    description:
      '{{ $value | printf "%.0f" }} audit records were not written on {{ $labels.instance }} in the last hour ({{ $labels.reason }}); who used which secret then is not on file.',
  },
];
