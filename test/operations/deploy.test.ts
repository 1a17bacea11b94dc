/** The files a site copies to its Prometheus and Grafana. Grafana itself does not run in these tests. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parse } from 'yaml';
import { z } from 'zod';
import { SITE } from '../../alerts/config.ts';
import type { ExemplarLabels } from '../../src/telemetry/metrics.ts';
import { missing } from '../prometheus.ts';
import { promqlProblems } from './promql-names.ts';

const PROMETHEUS = 'deploy/prometheus/prometheus.yml';
const TRACE_LABEL: keyof ExemplarLabels = 'trace_id';
const read = (path: string): unknown => parse(readFileSync(path, 'utf8'));

/** Fields as Grafana documents them; a misspelt one is refused here, while Grafana would pass over it. */
const shift = z.string().regex(/^-?\d+[smh]$/);
const uid = z.string().regex(/^[\w-]{1,40}$/);
const common = { name: z.string(), uid, access: z.literal('proxy'), url: z.url() };
const DATASOURCES = z.strictObject({
  apiVersion: z.literal(1),
  datasources: z.array(
    z.discriminatedUnion('type', [
      z.strictObject({
        ...common,
        type: z.literal('prometheus'),
        jsonData: z.strictObject({
          httpMethod: z.literal('POST'),
          timeInterval: z.string(),
          manageAlerts: z.boolean(),
          alertmanagerUid: uid,
          exemplarTraceIdDestinations: z.array(
            z.strictObject({ name: z.literal(TRACE_LABEL), datasourceUid: uid, urlDisplayLabel: z.string() }),
          ),
        }),
      }),
      z.strictObject({
        ...common,
        type: z.literal('tempo'),
        jsonData: z.strictObject({
          tracesToLogsV2: z.strictObject({
            datasourceUid: uid,
            spanStartTimeShift: shift,
            spanEndTimeShift: shift,
            filterByTraceID: z.boolean(),
          }),
          tracesToMetrics: z.strictObject({
            datasourceUid: uid,
            spanStartTimeShift: shift,
            spanEndTimeShift: shift,
            queries: z.array(z.strictObject({ name: z.string(), query: z.string() })),
          }),
        }),
      }),
      z.strictObject({
        ...common,
        type: z.literal('loki'),
        jsonData: z.strictObject({
          derivedFields: z.array(
            z.strictObject({
              name: z.literal(TRACE_LABEL),
              matcherRegex: z.string(),
              url: z.literal('$$' + '{__value.raw}'),
              datasourceUid: uid,
              urlDisplayLabel: z.string(),
            }),
          ),
        }),
      }),
      z.strictObject({
        ...common,
        type: z.literal('alertmanager'),
        jsonData: z.strictObject({ implementation: z.literal('prometheus'), handleGrafanaManagedAlerts: z.boolean() }),
      }),
    ]),
  ),
});
const PROVIDERS = z.strictObject({
  apiVersion: z.literal(1),
  providers: z.array(
    z.strictObject({
      name: z.string(),
      orgId: z.number(),
      folder: z.string(),
      folderUid: uid,
      type: z.literal('file'),
      disableDeletion: z.boolean(),
      allowUiUpdates: z.literal(false),
      updateIntervalSeconds: z.number().min(10),
      options: z.strictObject({ path: z.string().startsWith('/'), foldersFromFilesStructure: z.boolean() }),
    }),
  ),
});
const SCRAPE = z.looseObject({
  global: z.looseObject({ scrape_interval: z.string() }),
  storage: z.looseObject({ exemplars: z.looseObject({ max_exemplars: z.number() }) }),
  scrape_configs: z.array(z.looseObject({ job_name: z.string() })),
});

test('promtool accepts the Prometheus configuration', { skip: missing('promtool') ?? false }, () => {
  const { status, stdout, stderr } = spawnSync('promtool', ['check', 'config', PROMETHEUS], { encoding: 'utf8' });
  assert.equal(status, 0, stdout + stderr);
});

test('Grafana and Prometheus are told the same job, interval and label of traces', () => {
  const { global, storage, scrape_configs: scrapes } = SCRAPE.parse(read(PROMETHEUS));
  assert.deepEqual(
    scrapes.map(({ job_name: job }) => job),
    [SITE.job],
  );
  assert.ok(storage.exemplars.max_exemplars > 0);
  const { datasources } = DATASOURCES.parse(read('deploy/grafana/provisioning/datasources/cooper.yaml'));
  const uids = datasources.map(({ uid }) => uid);
  assert.equal(new Set(uids).size, uids.length);
  for (const source of datasources) {
    const named = JSON.stringify(source.jsonData).matchAll(/"(?:datasource|alertmanager)Uid":"([^"]+)"/g);
    for (const [, name = ''] of named) assert.ok(uids.includes(name), `${source.name} names ${name}`);
    if (source.type === 'prometheus') assert.equal(source.jsonData.timeInterval, global.scrape_interval);
    if (source.type === 'tempo')
      for (const { query } of source.jsonData.tracesToMetrics.queries) assert.deepEqual(promqlProblems(query, new Set()), []);
    if (source.type === 'loki')
      for (const { matcherRegex } of source.jsonData.derivedFields)
        assert.equal(new RegExp(matcherRegex).exec('{"level":"warn","trace_id":"4bf92f35","msg":"x"}')?.[1], '4bf92f35');
  }
});

test('the folder of the boards is provisioned read-only', () => {
  const { providers } = PROVIDERS.parse(read('deploy/grafana/provisioning/dashboards/cooper.yaml'));
  assert.deepEqual(
    providers.map(({ folder }) => folder),
    ['Cooper'],
  );
});
