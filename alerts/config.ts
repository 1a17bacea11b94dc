import { secondsOf, type WindowName } from '../src/slo/windows.ts';

/** What a site changes before it loads the generated files, in one place; everything else derives from the specs. */
export const SITE = {
  /** The `job` label Prometheus scrapes the daemons under. */
  job: 'cooper',
  /** Where this repository's runbooks/ are readable. Set COOPER_RUNBOOKS_URL when generating. */
  runbooksUrl: process.env.COOPER_RUNBOOKS_URL ?? 'https://cooper.example.org/runbooks',
  /** Grafana. Set COOPER_GRAFANA_URL when generating. */
  grafanaUrl: process.env.COOPER_GRAFANA_URL ?? 'https://grafana.example.org',
  /** Alertmanager, for people: silences. Set COOPER_ALERTMANAGER_URL when generating. */
  alertmanagerUrl: process.env.COOPER_ALERTMANAGER_URL ?? 'https://alertmanager.example.org',
  /** Where notifications go: `<url>/<receiver>` is called as Alertmanager's webhook. Set COOPER_RECEIVERS_URL when generating. */
  receiversUrl: process.env.COOPER_RECEIVERS_URL ?? 'https://alerts.example.org/cooper',
  /** IANA name; office hours of tickets are counted in it. Set COOPER_TIME_ZONE when generating. */
  timeZone: process.env.COOPER_TIME_ZONE ?? 'UTC',
} as const;

export const DASHBOARD_UIDS = {
  executive: 'cooper-executive',
  oncall: 'cooper-oncall',
  debug: 'cooper-debug',
  slo: 'cooper-slo',
} as const;
type Board = keyof typeof DASHBOARD_UIDS;

/** How far back the board of an alert looks: far enough to see the beginning of what fired it. */
const LOOK_BACK: Readonly<Record<Board, WindowName>> = { executive: '7d', oncall: '3h', debug: '3h', slo: '1d' };

/** Milliseconds since the epoch, `secondsAgo` before the evaluation: a link read the next morning still shows the night. */
const msAgo = (secondsAgo: number): string =>
  `{{ with query "(time() - ${secondsAgo}) * 1000" }}{{ . | first | value | printf "%.0f" }}{{ end }}`;

/**
 * Links every alert carries: its runbook, and the dashboard where triage starts, at the time of the alert and for its job, instance and
 * objective. The values are templates: an alert without the label leaves the board's own choice.
 */
export function linksOf(
  alertName: string,
  board: Board = 'oncall',
): { readonly runbook_url: string; readonly dashboard_url: string } {
  const variable = (label: string): string => `{{ with $labels.${label} }}&var-${label}={{ . | urlquery }}{{ end }}`;
  const scope = `var-job=${encodeURIComponent(SITE.job)}${variable('instance')}${board === 'slo' ? variable('slo') : ''}`;
  return {
    runbook_url: `${SITE.runbooksUrl}/${alertName}.md`,
    dashboard_url: `${SITE.grafanaUrl}/d/${DASHBOARD_UIDS[board]}?from=${msAgo(secondsOf(LOOK_BACK[board]))}&to=${msAgo(0)}&${scope}`,
  };
}
export const sloLinksOf = (alertName: string): ReturnType<typeof linksOf> => linksOf(alertName, 'slo');
