import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { SITE } from '../../alerts/config.ts';
import { ALERT_NAMES, ALERTS, RULE_GROUPS } from '../../alerts/rules.ts';
import { DASHBOARDS } from '../../dashboards/all.ts';
import { dashboardJson, type Panel } from '../../dashboards/grafana.ts';
import { BUILD_LATENCY_SECONDS, CACHE_HIT_RATIO, OBJECTIVES } from '../../src/slo/objectives.ts';
import { toYaml } from '../../src/slo/yaml.ts';
import { substituted } from '../panels.ts';
import { missing } from '../prometheus.ts';
import {
  type BoardJson,
  metricsOf,
  type PanelJson,
  panelsOf,
  publicProblems,
  questionsOf,
  selectorsOf,
  unitsFor,
  unknownMetrics,
} from './dashboard-rules.ts';
import { promqlProblems } from './promql-names.ts';

const BOARDS = DASHBOARDS.map((board) => dashboardJson(board) as BoardJson);
const QUESTIONS = questionsOf(DASHBOARDS);

test('dashboards keep their uids, and their links lead to one another with time and variables', () => {
  const uids = BOARDS.map(({ uid }) => uid);
  assert.deepEqual(uids, ['cooper-executive', 'cooper-oncall', 'cooper-slo', 'cooper-debug']);
  const urls = BOARDS.flatMap((board) =>
    [...board.links, ...panelsOf(board).flatMap(({ links = [] }) => links)].map(({ url }) => url),
  );
  for (const url of urls.filter((one) => one.startsWith('/d/'))) {
    const [, uid = '', query] = /^\/d\/([\w-]+)\?(.*)$/.exec(url) ?? [];
    assert.ok(uids.includes(uid), url);
    assert.equal(query, '$' + '{__url_time_range}&$' + '{__all_variables}');
  }
});

for (const board of BOARDS) {
  test(`${board.uid} passes the public rules for dashboards, with no exclusion`, () => {
    assert.deepEqual(publicProblems(board), []);
    for (const { expr, title } of panelsOf(board).flatMap((panel) =>
      (panel.targets ?? []).map(({ expr = '' }) => ({ expr, title: panel.title })),
    ))
      assert.doesNotMatch(substituted(expr), /\$/, `${title}: a variable that does not exist`);
  });

  test(`${board.uid}: panels have ids and titles of their own, do not overlap and stay on the grid`, () => {
    const panels = panelsOf(board);
    const ids = board.panels.flatMap((panel) => [panel.id, ...(panel.panels ?? []).map(({ id }) => id)]);
    assert.equal(new Set(ids).size, ids.length);
    assert.equal(new Set(panels.map(({ title }) => title)).size, panels.length);
    for (const group of [board.panels, ...board.panels.map((panel) => panel.panels ?? [])]) notOverlapping(group);
  });
}

function notOverlapping(panels: readonly PanelJson[]): void {
  const cells = new Set<string>();
  for (const { gridPos, title } of panels) {
    assert.ok(gridPos.x + gridPos.w <= 24, title);
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        assert.ok(!cells.has(`${x},${y}`), `${title} overlaps at ${x},${y}`);
        cells.add(`${x},${y}`);
      }
    }
  }
}

test('the public rules find what is wrong', () => {
  const [board] = BOARDS;
  assert.ok(board !== undefined);
  const broken = (from: string | RegExp, to: string): string[] =>
    publicProblems(JSON.parse(JSON.stringify(board).replaceAll(from, to)) as BoardJson).map(
      (problem) => /(uneditable|template|panel|target)-[a-z-]+/.exec(problem)?.[0] ?? problem,
    );
  for (const [from, to, rule] of [
    ['"editable":false', '"editable":true', 'uneditable-dashboard'],
    ['"name":"prometheus_datasource"', '"name":"ds"', 'template-datasource'],
    ['"name":"job"', '"name":"work"', 'template-job'],
    ['"allValue":".+"', '"allValue":".*"', 'template-instance'],
    ['label_values(cooper_build_info, job)', 'cooper_build_info', 'template-label-promql'],
    ['"refresh":2', '"refresh":1', 'template-on-time-change-reload'],
    ['"uid":"$' + '{prometheus_datasource}"', '"uid":"abc"', 'panel-datasource'],
    ['"title":"Builds"', '"title":""', 'panel-title-description'],
    ['"unit":"percentunit"', '"unit":"ratio"', 'panel-units'],
    [/"targets":\[\{.*?\}\],"fieldConfig"/g, '"targets":[],"fieldConfig"', 'panel-no-targets'],
    [/"expr":"(?:[^"\\]|\\.)*"/g, '"expr":""', 'target-promql'],
    ['rate(cooper_step_cpu_seconds_total{job=~\\"$job\\",', 'rate(cooper_step_cpu_seconds_total{', 'target-job'],
    ['instance=~\\"$instance\\"', 'instance=\\"a\\"', 'target-instance'],
    ['increase(cooper_builds_total', 'delta(cooper_builds_total', 'target-counter-agg'],
    ['increase(cooper_builds_total', 'rate(cooper_builds_total', 'target-rate-interval'],
  ] as const)
    assert.ok(broken(from, to).includes(rule), `${rule} was not found: ${broken(from, to)}`);
});

test('selectors are found with braces and without', () => {
  assert.deepEqual(
    selectorsOf(
      'sum by (le) (rate(a_bucket{le=~"600([.]0)?",x="}"}[$__rate_interval])) / on (job) up > bool 0 and b offset 1d',
    ).map(({ name }) => name),
    ['a_bucket', 'up', 'b'],
  );
});

test('every query is PromQL, those of annotations too', { skip: missing('promtool') ?? false }, (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'cooper-panels-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const exprs = [
    ...QUESTIONS.map(({ target }) => target.expr),
    ...BOARDS.flatMap(({ annotations }) => annotations.list.map(({ expr }) => expr)),
  ];
  const rules = exprs.map((expr, index) => ({ record: `panel:${index}:query`, expr: substituted(expr) }));
  const file = join(dir, 'panels.yaml');
  writeFileSync(file, toYaml({ groups: [{ name: 'panels', rules }] }));
  const { status, stdout, stderr } = spawnSync('promtool', ['check', 'rules', file], { encoding: 'utf8' });
  assert.equal(status, 0, stdout + stderr);
});

test('dashboards ask only for metrics, labels and values that can exist', () => {
  const none = new Set<string>();
  for (const { board, panel, target } of QUESTIONS) {
    // The value of a variable is chosen among those that exist.
    const expr = target.expr.replaceAll(/\w+="\$\w+"/g, '__name__!=""').replaceAll(/(,__name__!="")/g, '');
    assert.deepEqual([...promqlProblems(expr, none), ...unknownMetrics(expr)], [], `${board.title} / ${panel.title}`);
  }
  for (const { annotations } of BOARDS)
    for (const { expr, name } of annotations.list)
      assert.deepEqual([...promqlProblems(expr, none), ...unknownMetrics(expr)], [], name);
});

test('units follow the metric: seconds are seconds, bytes are bytes, rates are per second', () => {
  let judged = 0;
  for (const { board, panel, target } of QUESTIONS) {
    const units = unitsFor(target.expr);
    if (units === undefined || panel.type === 'heatmap') continue; // the unit of a heatmap is that of its buckets
    judged += 1;
    const unit = target.column?.unit ?? panel.unit;
    const named = panel.mappings ?? target.column?.mappings;
    assert.ok(
      named !== undefined || units.includes(unit),
      `${board.title} / ${panel.title}: ${unit}, not ${units}: ${target.expr}`,
    );
  }
  assert.ok(judged > QUESTIONS.length / 2, `${judged} of ${QUESTIONS.length} are simple enough to judge`);
});

test('dots are asked for only where observations carry a trace', () => {
  for (const { panel, target } of QUESTIONS)
    if (target.exemplar === true)
      for (const spec of metricsOf(target.expr)) assert.ok(spec.exemplars, `${panel.title}: ${spec.name}`);
});

test('a word has one colour on all boards, and red is never a user failure', () => {
  const colours = new Map<string, unknown>();
  for (const { fieldConfig } of BOARDS.flatMap(panelsOf)) {
    for (const { matcher, properties } of fieldConfig?.overrides ?? []) {
      const colour = properties.find(({ id }) => id === 'color')?.value as { fixedColor?: string } | undefined;
      if (colour === undefined) continue;
      assert.equal(colours.get(matcher.options) ?? colour.fixedColor, colour.fixedColor, matcher.options);
      colours.set(matcher.options, colour.fixedColor);
    }
  }
  assert.equal(colours.get('/(^|\\W)failure(\\W|$)/'), 'blue');
  assert.equal(colours.get('/(^|\\W)error(\\W|$)/'), 'red');
  assert.equal(colours.get('/(^|\\W)hit_local(\\W|$)/'), 'semi-dark-green');
});

test('every panel leads on, to a board or to a runbook that exists; debug is where the way ends', () => {
  for (const board of BOARDS) {
    for (const { title, type, links = [] } of panelsOf(board)) {
      if (board.uid !== 'cooper-debug' && type !== 'text') assert.ok(links.length > 0, `${board.uid} / ${title}`);
      for (const { url } of links) {
        const page = url.startsWith(SITE.runbooksUrl) ? url.slice(SITE.runbooksUrl.length + 1) : undefined;
        if (page !== undefined) assert.ok(existsSync(join('runbooks', page)), url);
      }
    }
  }
});

const thresholds = (board: string, title: string): (number | null)[] =>
  BOARDS.filter(({ uid }) => uid === board)
    .flatMap(panelsOf)
    .find((panel) => panel.title === title)
    ?.fieldConfig?.defaults.thresholds.steps.map(({ value }) => value) ?? [];

test("panels about an objective draw the objective's own thresholds", () => {
  assert.deepEqual(thresholds('cooper-executive', 'Build success (7d)'), [null, 0.99]);
  assert.deepEqual(thresholds('cooper-executive', 'Median build'), [null, BUILD_LATENCY_SECONDS]);
  assert.deepEqual(thresholds('cooper-executive', 'Cache hit ratio'), [null, CACHE_HIT_RATIO]);
  assert.deepEqual(thresholds('cooper-oncall', 'Build success: burn rate'), [null, 1, 1.4, 3.5, 13.44]);
  for (const { title, target, pairs } of OBJECTIVES) {
    assert.deepEqual(thresholds('cooper-slo', `${title}: achieved`), [null, target]);
    assert.equal(thresholds('cooper-slo', `${title}: burn rate`).length, pairs.length + 1);
  }
});

test("panels about an alert draw the alert's own bound", () => {
  for (const [title, alert] of [
    ['Oldest build in the queue', 'CooperBuildsStuck'],
    ['Disk left', 'CooperDiskFull'],
    ['Event-loop delay, p99', 'CooperEventLoopBlocked'],
    ['Share of registry requests that failed', 'CooperRegistryErrors'],
  ] as const) {
    const expr = ALERTS.find((rule) => rule.alert === alert)?.expr ?? '';
    const drawn = thresholds('cooper-oncall', title);
    assert.ok(
      drawn.some((value) => value !== null && new RegExp(`[<>] ${String(value).replace('.', '[.]')}\\b`).test(expr)),
      `${title} draws ${drawn}, and ${alert} is ${expr}`,
    );
  }
});

/** Metrics an alert stands on, recorded series followed to what they are made of. */
function metricsBehind(expr: string): Set<string> {
  const records = new Map(
    RULE_GROUPS.flatMap(({ rules }) => rules.flatMap((rule) => ('record' in rule ? [[rule.record, rule.expr] as const] : []))),
  );
  const found = new Set<string>();
  const follow = (text: string): void => {
    for (const [name] of text.matchAll(/\b(?:cooper|process|nodejs)[\w:]+|\bup\b/g)) {
      if (found.has(name)) continue;
      found.add(name);
      follow(records.get(name) ?? '');
    }
  };
  follow(expr);
  return found;
}

test('every alert has a panel on the board it links to, and the panel asks for what the alert looks at', () => {
  const panelsFor = (alert: string): { readonly uid: string; readonly panel: Panel }[] =>
    DASHBOARDS.flatMap(({ uid, rows }) =>
      rows.flatMap(({ panels }) => panels.filter(({ alerts = [] }) => alerts.includes(alert)).map((panel) => ({ uid, panel }))),
    );
  for (const alert of ALERT_NAMES) {
    const rule = ALERTS.find((one) => one.alert === alert);
    const [, linked = ''] = /\/d\/([\w-]+)\?/.exec(rule?.annotations.dashboard_url ?? '') ?? [];
    const shown = panelsFor(alert).filter(({ uid }) => uid === linked);
    if (alert === 'CooperWatchdog') continue; // looks at nothing
    assert.ok(shown.length > 0, `no panel of ${linked} has alerts: ['${alert}']`);
    const behind = metricsBehind(rule?.expr ?? '');
    const objective = OBJECTIVES.some(({ alertName }) => alertName === alert);
    for (const { panel } of shown) {
      const asked = panel.targets.flatMap(({ expr }) => selectorsOf(expr).map(({ name }) => name));
      assert.ok(
        objective ? asked.includes('cooper_slo_burn_rate_ratio') : asked.some((name) => behind.has(name)),
        `${panel.title} asks for ${asked}; ${alert} looks at ${[...behind]}`,
      );
    }
  }
  for (const { alerts = [], title } of DASHBOARDS.flatMap(({ rows }) => rows.flatMap(({ panels }) => panels)))
    for (const alert of alerts) assert.ok(ALERT_NAMES.includes(alert), `${title}: ${alert} is no alert`);
});

test('links of alerts carry time, job, and the instance or objective they are about', () => {
  for (const { alert, annotations, labels } of ALERTS) {
    const url = annotations.dashboard_url ?? '';
    assert.match(
      url,
      /\/d\/cooper-(oncall|slo|debug)\?from=\{\{ with query .+\}\}&to=\{\{ with query .+\}\}&var-job=cooper\{\{ with \$labels\.instance \}\}/,
      alert,
    );
    assert.equal(url.includes('/d/cooper-slo?'), labels.slo !== undefined, alert);
    assert.equal(url.includes('&var-slo='), labels.slo !== undefined, alert);
  }
});
