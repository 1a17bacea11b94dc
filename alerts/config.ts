/** What a site changes before it loads the generated files, in one place; everything else derives from the specs. */
export const SITE = {
  /** The `job` label Prometheus scrapes the daemons under. */
  job: 'cooper',
  /** Where this repository's runbooks/ are readable. Set COOPER_RUNBOOKS_URL when generating. */
  runbooksUrl: process.env.COOPER_RUNBOOKS_URL ?? 'https://cooper.example.org/runbooks',
  /** Grafana. Set COOPER_GRAFANA_URL when generating. */
  grafanaUrl: process.env.COOPER_GRAFANA_URL ?? 'https://grafana.example.org',
  /** Where notifications go: `<url>/<receiver>` is called as Alertmanager's webhook. Set COOPER_RECEIVERS_URL when generating. */
  receiversUrl: process.env.COOPER_RECEIVERS_URL ?? 'https://alerts.example.org/cooper',
  /** IANA name; office hours of tickets are counted in it. Set COOPER_TIME_ZONE when generating. */
  timeZone: process.env.COOPER_TIME_ZONE ?? 'UTC',
} as const;

export const DASHBOARD_UIDS = { executive: 'cooper-executive', oncall: 'cooper-oncall', debug: 'cooper-debug' } as const;

/** Links every alert carries: its runbook and the dashboard where triage starts. */
export function linksOf(alertName: string): { readonly runbook_url: string; readonly dashboard_url: string } {
  return {
    runbook_url: `${SITE.runbooksUrl}/${alertName}.md`,
    dashboard_url: `${SITE.grafanaUrl}/d/${DASHBOARD_UIDS.oncall}`,
  };
}
