import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { toYaml } from '../../src/slo/yaml.ts';
import { CATALOG } from '../../src/telemetry/catalog.ts';
import { exposedNamesOf } from '../../src/telemetry/metric-spec.ts';
import { missing } from '../prometheus.ts';

const skip = missing('promtool') ?? false;

test('the sample query of every metric is one that Prometheus parses', { skip }, (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'cooper-examples-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const rules = CATALOG.map(({ example }, index) => ({ record: `example:${index}`, expr: example }));
  writeFileSync(join(dir, 'examples.yaml'), toYaml({ groups: [{ name: 'examples', rules }] }));
  const { status, stdout, stderr } = spawnSync('promtool', ['check', 'rules', join(dir, 'examples.yaml')], { encoding: 'utf8' });
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout, new RegExp(`SUCCESS: ${CATALOG.length} rules found`));
});

test('the sample query of a metric asks for that metric, by a name that a scrape shows', () => {
  for (const spec of CATALOG) {
    const names: readonly string[] = exposedNamesOf(spec);
    assert.ok(
      names.some((name) => new RegExp(`(?<![\\w:])${name}(?!\\w)`).test(spec.example)),
      `${spec.name}: ${spec.example}`,
    );
  }
});

test('docs/metrics.md has a section for every metric, with its unit, its labels, its bound and its query', () => {
  const page = readFileSync('docs/metrics.md', 'utf8');
  for (const { name, unit, labels, maxSeries, example } of CATALOG) {
    const section = page.split(`\n## ${name}\n`)[1]?.split('\n## ')[0] ?? assert.fail(`no section ${name}`);
    assert.match(section, new RegExp(`unit: ${unit}; at most ${maxSeries} `));
    for (const label of Object.keys(labels)) assert.ok(section.includes(`- \`${label}\`: `), `${name} ${label}`);
    assert.ok(section.includes(`\`\`\`promql\n${example}\n\`\`\``), name);
  }
});
