/** A daemon without Prometheus and a real Alertmanager with the shipped routes: what burns arrives where it belongs, and ends. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ALERTMANAGER } from '../../alerts/alertmanager.ts';
import { SITE } from '../../alerts/config.ts';
import { ALERTS } from '../../alerts/rules.ts';
import { ROOT_CAUSES } from '../../src/cmd/daemon/own-alerts.ts';
import { toYaml, type YamlValue } from '../../src/slo/yaml.ts';
import { AlertSender, type OwnAlert } from '../../src/telemetry/alert-sender.ts';
import { startAlertmanager } from '../alertmanager.ts';
import { TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { missing } from '../prometheus.ts';

const skip = missing('prometheus-alertmanager') ?? false;
const skipDaemon = unableTo('runc', 'busybox') || skip;

/** The shipped routes, at once and at any hour. */
const routes = (webhooks: string): string =>
  toYaml({
    ...(ALERTMANAGER as unknown as Record<string, YamlValue>),
    time_intervals: ALERTMANAGER.time_intervals.map(({ name }) => ({
      name,
      time_intervals: name === 'maintenance' ? [{ years: ['2020'] }] : [{ times: [{ start_time: '00:00', end_time: '24:00' }] }],
    })),
  })
    .replaceAll(SITE.receiversUrl, webhooks)
    .replaceAll(/group_(wait|interval): \d+[ms]/g, 'group_$1: 1s');

test('a fault burns the budget of the canary, and a daemon alone has the pager called with the labels of the rule', {
  skip: skipDaemon,
}, async () => {
  await using alertmanager = await startAlertmanager(routes);
  const dir = mkdtempSync(join(tmpdir(), 'cooper-broken-runc-'));
  const runc = join(dir, 'runc');
  writeFileSync(runc, '#!/bin/sh\nfor word; do case "$word" in run|create) exit 1;; esac; done\nexec runc "$@"\n');
  chmodSync(runc, 0o755);
  try {
    await using daemon = await TestDaemon.start({
      toml: [
        '[worker.oci]',
        `binary = "${runc}"`,
        '[cooper.alerts]',
        `alertmanager = ["${alertmanager.url}", "http://127.0.0.1:1"]`,
        '[cooper.canary]',
        'interval = "1s"',
      ].join('\n'),
    });
    await alertmanager.until(
      (all) => all.some(({ receiver, alerts }) => receiver === 'page' && alerts.some(({ labels }) => labels.long === '1h')),
      60_000,
    );
    const page = alertmanager.notifications.find(({ receiver }) => receiver === 'page');
    const burn = page?.alerts.find(({ labels }) => labels.long === '1h')?.labels;
    const rule = ALERTS.find(({ alert, labels }) => alert === 'CooperCanaryBurn' && labels.long === '1h');
    assert.ok(rule);
    assert.deepEqual(burn, { ...rule.labels, alertname: 'CooperCanaryBurn', instance: new URL(daemon.opsUrl).host });
    assert.ok(alertmanager.notifications.some(({ receiver }) => receiver === 'heartbeat'));
    const metrics = (await daemon.ops('/metrics')).body;
    assert.match(metrics, /cooper_telemetry_exports_total\{signal="alerts",result="ok"\} [1-9]/);
    assert.match(metrics, /cooper_telemetry_exports_total\{signal="alerts",result="error"\} [1-9]/);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('an alert that no longer fires is resolved at its receiver', { skip }, async () => {
  await using alertmanager = await startAlertmanager(routes);
  let firing: OwnAlert[] = [
    {
      labels: { alertname: 'CooperDiskFull', severity: 'critical', service: 'cooper', root_cause: 'capacity', instance: 'a:1' },
      annotations: {},
    },
  ];
  await using _ = new AlertSender({
    receivers: [{ kind: 'alertmanager', url: alertmanager.url }],
    firing: async () => firing,
    pageUrl: 'http://page',
    onSent: (_receiver, error) => assert.ifError(error),
    onDropped: () => assert.fail('dropped'),
    onError: (error) => assert.fail(String(error)),
    everyMs: 100,
  });
  await alertmanager.until((all) => all.some(({ receiver, status }) => receiver === 'page' && status === 'firing'));
  firing = [];
  await alertmanager.until((all) => all.some(({ receiver, status }) => receiver === 'page' && status === 'resolved'));
});

test('what the daemon sees of itself has the cause that the rules give it', () => {
  for (const [name, rootCause] of Object.entries(ROOT_CAUSES)) {
    const rules = ALERTS.filter(({ alert }) => alert === name);
    assert.deepEqual([...new Set(rules.map(({ labels }) => labels.root_cause))], [rootCause], name);
  }
});
