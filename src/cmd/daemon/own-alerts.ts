/** The daemon's own alerts for those without Prometheus: what ops-alerts.ts and the objectives say fires, labelled as the rules label it. */
import { hostname } from 'node:os';
import type { SloReport } from '../../slo/report.ts';
import { alertLabelsOf } from '../../slo/rules.ts';
import type { Objective } from '../../slo/spec.ts';
import { type AlertReceiver, AlertSender, type OwnAlert } from '../../telemetry/alert-sender.ts';
import type { Logger } from '../../telemetry/logs.ts';
import type { Recorders } from '../../telemetry/recorders.ts';
import type { Alert } from '../../web/api/model.ts';

export interface OwnAlertsConfig {
  readonly receivers: readonly AlertReceiver[];
  /** Value of the label `instance`; absent: the address of the ops port, or the name of the machine. */
  readonly instance: string | undefined;
  /** Where people reach the daemon's page; absent: the address of the ops port. */
  readonly pageUrl: string | undefined;
}
export interface OwnAlertsParts {
  readonly objectives: readonly Objective[];
  readonly report: () => Promise<SloReport>;
  readonly alerts: () => Promise<readonly Alert[]>;
  readonly opsUrl: string | undefined;
  readonly recorders: Recorders;
  readonly log: Logger;
}

/** `root_cause` of what the daemon sees of itself, as alerts/symptoms.ts has it; a test compares. */
export const ROOT_CAUSES: Readonly<Record<string, string>> = {
  CooperDiskFull: 'capacity',
  CooperBuildsStuck: 'builder',
  CooperRemoteCacheOutage: 'cache',
  CooperGcFailing: 'capacity',
  CooperConfigUnknownKeys: 'config',
};
const SERVICE = 'cooper';

/** Undefined when nobody is to be told. */
export function startOwnAlerts(config: OwnAlertsConfig, parts: OwnAlertsParts): AlertSender | undefined {
  if (config.receivers.length === 0) return undefined;
  const { log, recorders, opsUrl } = parts;
  const pageUrl = config.pageUrl ?? opsUrl ?? `http://${hostname()}`;
  const instance = config.instance ?? (opsUrl === undefined ? hostname() : new URL(opsUrl).host);
  const failing = new Set<AlertReceiver>();
  return new AlertSender({
    receivers: config.receivers,
    pageUrl,
    firing: async () => ownAlerts(parts.objectives, await parts.report(), await parts.alerts(), { instance, pageUrl }),
    onSent: (receiver, error) => {
      recorders.alertsPosted(error === undefined ? 'ok' : 'error');
      const { kind } = receiver;
      if (error !== undefined && !failing.has(receiver)) log.warn('alerts cannot be delivered', { receiver: kind, error });
      if (error === undefined && failing.has(receiver)) log.info('alerts can be delivered again', { receiver: kind });
      if (error === undefined) failing.delete(receiver);
      else failing.add(receiver);
    },
    onDropped: (count, reason) => recorders.dropped('alerts', reason, count),
    onError: (error) => log.warn('alerts', { error }),
  });
}

/** Every firing pair, every symptom, and the watchdog, which says that alerts travel. */
export function ownAlerts(
  objectives: readonly Objective[],
  report: SloReport,
  alerts: readonly Alert[],
  { instance, pageUrl }: { readonly instance: string; readonly pageUrl: string },
): OwnAlert[] {
  const linked = (name: string, place: string): Record<string, string> => ({
    runbook_url: `${pageUrl}/#/runbooks/${name}`,
    dashboard_url: `${pageUrl}/#/${place}`,
  });
  const burns = objectives.flatMap((objective) => burnsOf(objective, report, instance, linked));
  const symptoms = alerts
    .filter(({ slo }) => slo === undefined)
    .map(({ name, severity, summary, detail, since }) => ({
      labels: { alertname: name, severity, service: SERVICE, root_cause: ROOT_CAUSES[name] ?? 'builder', instance },
      annotations: { summary, description: detail, ...linked(name, 'alerts') },
      ...(since !== undefined && { startsAt: since }),
    }));
  return [...merged([...burns, ...symptoms]), watchdog(instance, linked('CooperWatchdog', 'alerts'))];
}

function burnsOf(
  objective: Objective,
  report: SloReport,
  instance: string,
  linked: (name: string, place: string) => Record<string, string>,
): OwnAlert[] {
  const status = report.objectives.find(({ name }) => name === objective.name);
  if (status === undefined) return [];
  return objective.pairs.flatMap((pair) => {
    const judged = status.pairs.find((one) => one.severity === pair.severity && one.long === pair.long);
    if (judged?.firing !== true) return [];
    const [long, short] = [pair.long, pair.short].map((window) => status.burn.find((burn) => burn.window === window));
    const rate = (of: typeof long): string => of?.burnRate?.toFixed(1) ?? 'no';
    const lasts = status.exhaustsInSeconds;
    return [
      {
        labels: { alertname: objective.alertName, ...alertLabelsOf(objective, pair), instance },
        annotations: {
          summary: `${objective.title}: the error budget burns fast enough to spend ${pair.budgetPercent} % of the budget of ${objective.period} in ${pair.long}.`,
          description: [
            ...(long === undefined
              ? []
              : [
                  `${Math.round(long.total - long.good)} of ${Math.round(long.total)} ${status.events} in the last ${pair.long} were bad.`,
                ]),
            `Burn rate ${rate(long)} over ${pair.long} and ${rate(short)} over ${pair.short}; this alert is for ${Math.round(judged.factor * 100) / 100} and more in both.`,
            `${Math.round(status.budgetLeft * 100)}% of the budget of ${objective.period} is left${lasts === null || lasts <= 0 ? '' : `; at this pace it lasts ${Math.round(lasts / 60)} minutes`}.`,
            ...(judged.frozen ? ['It fired when the data stopped, and nothing has been seen since.'] : []),
          ].join(' '),
          ...linked(objective.alertName, `slo/${objective.name}`),
        },
        ...(judged.since !== undefined && { startsAt: judged.since }),
      },
    ];
  });
}

/** Alerts that only their text tells apart (two caches that are out) are one. */
function merged(alerts: readonly OwnAlert[]): OwnAlert[] {
  const byLabels = new Map<string, OwnAlert>();
  for (const alert of alerts) {
    const key = JSON.stringify(alert.labels);
    const known = byLabels.get(key);
    const description = [known, alert].flatMap((one) => one?.annotations.description ?? []).join('\n');
    byLabels.set(key, known === undefined ? alert : { ...known, annotations: { ...known.annotations, description } });
  }
  return [...byLabels.values()];
}

const watchdog = (instance: string, links: Readonly<Record<string, string>>): OwnAlert => ({
  labels: { alertname: 'CooperWatchdog', severity: 'none', service: SERVICE, root_cause: 'telemetry', instance },
  annotations: {
    summary: 'Always fires: the proof that alerts travel.',
    description: 'A receiver outside this system must hear this all the time and raise an alarm when it stops.',
    ...links,
  },
});
