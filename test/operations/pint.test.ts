import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { withPintComments } from '../../alerts/pint.ts';

const rule = { expr: 'vector(1)', labels: {}, annotations: {} };

test('a remark stands below the name of the rule it is about, and nowhere else', () => {
  const text = [
    'groups:',
    '  - name: a',
    '    rules:',
    '      - alert: CooperOther',
    '        expr: x',
    '      - alert: CooperWatchdog',
    '        expr: x',
  ];
  const groups = [{ name: 'a', interval: '30s', rules: ['CooperOther', 'CooperWatchdog'].map((alert) => ({ alert, ...rule })) }];
  const written = withPintComments(text.join('\n'), groups).split('\n');
  assert.deepEqual(written.slice(0, 6), text.slice(0, 6));
  assert.match(written[6] ?? '', /^ {8}# \S/);
  assert.equal(written[7], '        # pint disable alerts/comparison');
});

test('every remark in the shipped rules says why', () => {
  const lines = readFileSync('alerts/rules.yaml', 'utf8').split('\n');
  const disabled = [...lines.entries()].filter(([, line]) => line.includes('# pint '));
  assert.ok(disabled.length > 0);
  for (const [index] of disabled) assert.match(lines[index - 1] ?? '', /^ +# [A-Z].+\.$/);
});
