/** Histories in which the alerts of symptoms-trust.ts and symptoms-capacity.ts fire, and ones in which they must not. */
import { type History, type Scenario, series } from './scenario.ts';

const SUCCESS = series('cooper_builds_total', ',result="success",error_class="none"');
const HOUR = 60;
/** A daemon that is scraped and builds nothing, and what else is the case; a sample a minute. */
const daemon = (more: History): History => ({ [series('up')]: '1x2000', [SUCCESS]: '0x2000', ...more });
const canaries = (result: string): string => series('cooper_canary_builds_total', `,result="${result}"`);
const outage = (component: string): string => series('cooper_outage_active_seconds', `,component="${component}"`);
const slots = (state: string): string => series('cooper_worker_slots', `,state="${state}"`);
const limits = (remaining: string): History => ({
  [series('cooper_registry_rate_limit_remaining', ',registry="docker.io"')]: remaining,
  [series('cooper_registry_rate_limit', ',registry="docker.io"')]: '100x2000',
});
const pulls = series('cooper_registry_requests_total', ',op="manifest-get",code_class="2xx"');
const certificate = series('cooper_tls_certificate_not_after_timestamp_seconds', ',certificate="grpc-server"');
const inodes = (free: number): History => ({
  [series('cooper_disk_free_inodes')]: `${free}x2000`,
  [series('cooper_disk_inodes')]: '1000x2000',
});
const lookups = series('cooper_cache_lookups_total', ',result="miss"');
const regret = series('cooper_gc_regret_total');
const dropped = (signal: string): string => series('cooper_telemetry_dropped_total', `,signal="${signal}",reason="disk_error"`);

/** One failed canary every five minutes from minute 10 on. */
const FAILING = '0x9 1x5 2x5 3x5 4x5 5x5 6x5 7x5 8x5';

export const MORE_SYMPTOM_SCENARIOS: readonly Scenario[] = [
  {
    name: 'test builds that fail where nobody builds',
    history: daemon({ [canaries('error')]: FAILING, [canaries('success')]: '4x2000' }),
    at: [
      { minute: 12, fires: [] },
      { minute: 30, fires: ['CooperCanaryFailing critical'] },
    ],
  },
  {
    name: 'test builds that time out while users build',
    history: { ...daemon({ [canaries('timeout')]: FAILING, [canaries('success')]: '4x2000' }), [SUCCESS]: '0+1x2000' },
    at: [{ minute: 40, fires: ['CooperCanaryFailing warning'] }],
  },
  {
    name: 'one test build that failed between others that did not',
    history: daemon({ [canaries('error')]: '0x20 1x100', [canaries('success')]: '0+1x2000' }),
    at: [{ minute: 30, fires: [] }],
  },
  ...(
    [
      ['builder', 'critical'],
      ['remote-cache', 'warning'],
      ['registry', 'warning'],
      ['collector', 'info'],
    ] as const
  ).map(([component, severity]) => ({
    name: `an outage of ${component} that lasts longer than a quarter of an hour`,
    history: daemon({ [outage(component)]: '0+60x60' }),
    at: [
      { minute: 14, fires: [] },
      { minute: 20, fires: [`CooperOutageLong ${severity}`] },
    ],
  })),
  {
    name: 'a blob that did not match its digest, for an hour after it was found',
    history: daemon({ [series('cooper_cache_quarantined_total', ',origin="content"')]: '0x9 1x200' }),
    at: [
      { minute: 14, fires: ['CooperCacheCorruption'] },
      { minute: 90, fires: [] },
    ],
  },
  {
    name: 'a rate limit of which five in a hundred are left, while builds pull',
    history: daemon({ ...limits('50-5x9 5x100'), [pulls]: '0+2x200' }),
    at: [
      { minute: 6, fires: [] },
      { minute: 30, fires: ['CooperRegistryRateLimitLow'] },
    ],
  },
  {
    name: 'a rate limit that was nearly used up when somebody last pulled',
    history: daemon({ ...limits('5x200'), [pulls]: '7x200' }),
    at: [{ minute: 30, fires: [] }],
  },
  {
    name: 'a certificate with a week left',
    history: daemon({ [certificate]: `${7 * 86_400}x200` }),
    at: [{ minute: 10, fires: ['CooperCertificateExpiring warning'] }],
  },
  {
    name: 'a certificate with a day left',
    history: daemon({ [certificate]: `${86_400}x200` }),
    at: [{ minute: 10, fires: ['CooperCertificateExpiring critical'] }],
  },
  {
    name: 'a certificate with a month left',
    history: daemon({ [certificate]: `${30 * 86_400}x200` }),
    at: [{ minute: 10, fires: [] }],
  },
  {
    name: 'a disk with one inode in a hundred left',
    history: daemon(inodes(10)),
    at: [{ minute: 30, fires: ['CooperInodesLow critical'] }],
  },
  {
    name: 'a disk with one inode in twenty left',
    history: daemon(inodes(50)),
    at: [{ minute: 30, fires: ['CooperInodesLow warning'] }],
  },
  { name: 'a disk with inodes to spare', history: daemon(inodes(400)), at: [{ minute: 30, fires: [] }] },
  {
    name: 'a disk without a limit of inodes',
    history: daemon({ [series('cooper_disk_free_inodes')]: '0x100', [series('cooper_disk_inodes')]: '0x100' }),
    at: [{ minute: 30, fires: [] }],
  },
  {
    name: 'a build that gave another image the second time',
    history: daemon({ [series('cooper_reproducibility_checks_total', ',result="different"')]: '0x9 1x100' }),
    at: [{ minute: 20, fires: ['CooperBuildNotReproducible'] }],
  },
  {
    name: 'builds that gave the same image, and one that could not be repeated',
    history: daemon({
      [series('cooper_reproducibility_checks_total', ',result="same"')]: '0+1x100',
      [series('cooper_reproducibility_checks_total', ',result="skipped"')]: '0x9 1x100',
      [series('cooper_reproducibility_checks_total', ',result="different"')]: '0x100',
    }),
    at: [{ minute: 20, fires: [] }],
  },
  {
    name: 'audit records that could not be written',
    history: daemon({ [dropped('audit')]: '0x9 2x100' }),
    at: [{ minute: 12, fires: ['CooperAuditDropping'] }],
  },
  {
    name: 'spans given up are no lost audit records',
    history: daemon({ [dropped('spans')]: '0x9 2x100', [dropped('audit')]: '0x100' }),
    at: [{ minute: 12, fires: [] }],
  },
  {
    name: 'a cache that loses one look-up in ten to its own collection',
    history: daemon({ [lookups]: '0+10x600', [regret]: '0+1x600' }),
    at: [{ minute: 2 * HOUR, fires: ['CooperCacheTooSmall'] }],
  },
  {
    name: 'a cache that loses one look-up in a hundred',
    history: daemon({ [lookups]: '0+100x600', [regret]: '0+1x600' }),
    at: [{ minute: 2 * HOUR, fires: [] }],
  },
  {
    name: 'a handful of look-ups lost where hardly anything is built',
    history: daemon({ [lookups]: '0x9 30x600', [regret]: '0x9 5x600' }),
    at: [{ minute: 2 * HOUR, fires: [] }],
  },
  {
    name: 'a disk that is full the day after tomorrow',
    history: daemon({ [series('cooper_disk_time_to_full_seconds')]: `${2 * 86_400}x200` }),
    at: [
      { minute: 50, fires: [] },
      { minute: 70, fires: ['CooperDiskForecast'] },
    ],
  },
  {
    name: 'a disk that is full in a month',
    history: daemon({ [series('cooper_disk_time_to_full_seconds')]: `${30 * 86_400}x200` }),
    at: [{ minute: 70, fires: [] }],
  },
  {
    name: 'workers of which nine in ten are busy',
    history: daemon({ [slots('busy')]: '9x200', [slots('free')]: '1x200' }),
    at: [{ minute: 90, fires: ['CooperWorkersSaturated'] }],
  },
  {
    name: 'workers of which half are busy',
    history: daemon({ [slots('busy')]: '5x2000', [slots('free')]: '5x2000' }),
    at: [{ minute: 8 * HOUR, fires: [] }],
  },
  {
    name: 'workers of which one in ten is busy',
    history: daemon({ [slots('busy')]: '1x2000', [slots('free')]: '9x2000' }),
    at: [
      { minute: 5 * HOUR, fires: [] },
      { minute: 7 * HOUR, fires: ['CooperWorkersIdle'] },
    ],
  },
];
