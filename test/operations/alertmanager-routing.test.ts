/** The shipped routes in a real Alertmanager: every case of routing-cases.ts, all at once, kept apart by the service they concern. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ALERTMANAGER, NAMED_ALERTS } from '../../alerts/alertmanager.ts';
import { SITE } from '../../alerts/config.ts';
import { ROUTING_CASES, type RoutingCase } from '../../alerts/routing-cases.ts';
import { ALERT_NAMES, ALERTS } from '../../alerts/rules.ts';
import { toYaml, type YamlValue } from '../../src/slo/yaml.ts';
import { type Notification, startAlertmanager } from '../alertmanager.ts';
import { missing } from '../prometheus.ts';

const skip = missing('prometheus-alertmanager') ?? false;
const WHENS = ['office', 'night', 'maintenance'] as const;
const ALWAYS = [{ times: [{ start_time: '00:00', end_time: '24:00' }] }];
const NEVER = [{ years: ['2020'] }];

/** The shipped file with waits of a second, and with the intervals that say it is that time of day now. */
const configurationFor = (when: (typeof WHENS)[number], webhooks: string, mutate = (text: string): string => text): string =>
  mutate(
    toYaml({
      ...(ALERTMANAGER as unknown as Record<string, YamlValue>),
      time_intervals: [
        { name: 'business-hours', time_intervals: when === 'night' ? NEVER : ALWAYS },
        { name: 'maintenance', time_intervals: when === 'maintenance' ? ALWAYS : NEVER },
      ],
    }),
  )
    .replaceAll(SITE.receiversUrl, webhooks)
    .replaceAll(/group_wait: \d+s/g, 'group_wait: 1s')
    .replaceAll(/group_interval: \d+[ms]/g, 'group_interval: 1s');

const serviceOf = (index: number): string => `case-${index}`;
function labelsOf(index: number, [alert, more = {}]: RoutingCase['firing'][number]): Record<string, string> {
  const rule = ALERTS.find(
    ({ alert: name, labels }) => name === alert && Object.entries(more).every(([key, value]) => (labels[key] ?? value) === value),
  );
  assert.ok(rule, `no rule ${alert} with ${JSON.stringify(more)}`);
  return { ...rule.labels, ...more, alertname: alert, service: serviceOf(index) };
}

/** What each case led to, as text that can be compared: `receiver: alerts in one notification`. */
async function outcomes(
  when: (typeof WHENS)[number],
  mutate?: (text: string) => string,
): Promise<Map<number, { notified: string[]; inhibited: string[] }>> {
  const cases = [...ROUTING_CASES.entries()].filter(([, { when: at = 'office' }]) => at === when);
  await using alertmanager = await startAlertmanager((webhooks) => configurationFor(when, webhooks, mutate));
  await alertmanager.post(cases.flatMap(([index, { firing }]) => firing.map((one) => ({ labels: labelsOf(index, one) }))));
  // A probe that every route lets through; when it and a second one have come, all groups of the first round have been sent.
  for (const probe of ['1', '2']) {
    await alertmanager.post([
      { labels: { alertname: 'CooperWatchdog', service: `probe-${probe}`, root_cause: `probe-${probe}` } },
    ]);
    const arrived = ({ groupLabels }: Notification): boolean => groupLabels.service === `probe-${probe}`;
    await alertmanager.until((all) => all.some(arrived));
    if (probe === '1') await new Promise((resolve) => setTimeout(resolve, 2_500)); // two group waits
  }
  const active = await alertmanager.alerts();
  return new Map(
    cases.map(([index]) => {
      const service = serviceOf(index);
      const groups = alertmanager.notifications
        .map(({ receiver, alerts }) => ({ receiver, alerts: alerts.filter(({ labels }) => labels.service === service) }))
        .filter(({ alerts }) => alerts.length > 0)
        .map(
          ({ receiver, alerts }) =>
            `${receiver}: ${[...new Set(alerts.map(({ labels }) => labels.alertname))].sort().join(', ')}`,
        );
      const inhibited = active
        .filter(({ labels, inhibited: is }) => labels.service === service && is)
        .map(({ labels }) => labels.alertname ?? '');
      return [index, { notified: [...new Set(groups)].sort(), inhibited: inhibited.sort() }];
    }),
  );
}

for (const when of WHENS) {
  test(`a real Alertmanager routes, groups, inhibits and mutes every case at ${when} as stated`, { skip }, async () => {
    for (const [index, outcome] of await outcomes(when)) {
      const { name, notified, inhibited = [] } = ROUTING_CASES[index] as RoutingCase;
      const expected = notified.map(([receiver, alerts]) => `${receiver}: ${[...alerts].sort().join(', ')}`).sort();
      assert.deepEqual(outcome, { notified: expected, inhibited: [...inhibited].sort() }, name);
    }
  });
}

for (const [what, when, from, to] of [
  ['sends pages to the tickets', 'night', /receiver: page/g, 'receiver: ticket'],
  ['groups by name', 'office', /- root_cause\n +- service/g, '- alertname\n    - service'],
  ['lets a dead daemon explain nothing', 'night', /CooperDaemonDown(?!\|)/g, 'CooperDaemonGone'],
  ['mutes nothing in a maintenance', 'maintenance', /\n +mute_time_intervals:\n +- maintenance/g, ''],
] as const) {
  test(`the cases notice a configuration that ${what}`, { skip }, async () => {
    const results = await outcomes(when, (text) => {
      const mutated = text.replaceAll(from, to);
      assert.notEqual(mutated, text);
      return mutated;
    });
    const wrong = [...results].filter(([index, { notified }]) => {
      const expected = (ROUTING_CASES[index] as RoutingCase).notified.map(
        ([receiver, alerts]) => `${receiver}: ${[...alerts].sort().join(', ')}`,
      );
      return JSON.stringify(notified) !== JSON.stringify(expected.sort());
    });
    assert.notEqual(wrong.length, 0);
  });
}

test('inhibition names only alerts that exist, and compares only labels they carry', () => {
  for (const name of NAMED_ALERTS) assert.ok(ALERT_NAMES.includes(name), name);
  const carried = new Set([...ALERTS.flatMap(({ labels }) => Object.keys(labels)), 'instance']);
  for (const { equal } of ALERTMANAGER.inhibit_rules) for (const label of equal) assert.ok(carried.has(label), label);
});
