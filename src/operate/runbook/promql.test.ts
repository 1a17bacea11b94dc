import assert from 'node:assert/strict';
import { test } from 'node:test';
import { boolForm } from './promql.ts';
import { parseRunbook } from './runbook.ts';

for (const [expr, expected] of [
  ['up == 1', 'up == bool 1'],
  ['sum(increase(a_total{b=~"x|y"}[5m])) < 1', 'sum(increase(a_total{b=~"x|y"}[5m])) < bool 1'],
  ['min by (i) (free / (size > 0)) > 0.1', 'min by (i) (free / (size > 0)) > bool 0.1'],
  ['a{b!="=="} >= 2', 'a{b!="=="} >= bool 2'],
  ['a{b="\\"<"} != 2', 'a{b="\\"<"} != bool 2'],
  ['up == bool 1', 'up == bool 1'],
  ['absent(x) or min(x) > 3', undefined],
  ['x > 1 unless y', undefined],
  ['orders > 1', 'orders > bool 1'],
  ['1 < x < 3', undefined],
  ['ALERTS{a="b"}', undefined],
] as const)
  test(`${expr} ${expected === undefined ? 'asserts by being there' : 'is asked as a comparison that shows what does not hold'}`, () =>
    assert.equal(boolForm(expr), expected));

const page = (body: string): string => `---\nalert: X\nlast_drilled: never\n---\n\n# X\n\n## Triage\n\n${body}`;
test('a page is front matter, sections and blocks with their lines', () => {
  const { facts, sections, blocks } = parseRunbook('X', page('```sh check\na\nb\n```\n\n## Verify\n\n```promql\nup == 1\n```\n'));
  assert.deepEqual([facts.alert, sections], ['X', ['Triage', 'Verify']]);
  assert.deepEqual(blocks, [
    { kind: 'check', section: 'Triage', line: 11, text: 'a\nb' },
    { kind: 'promql', section: 'Verify', line: 18, text: 'up == 1' },
  ]);
});
for (const [what, text, said] of [
  ['without front matter', '# X\n', /X\.md:1: .*front matter/],
  ['with a tag that is none', page('```bash\nls\n```\n'), /X\.md:10: "bash" is no tag/],
  ['with a block that never ends', page('```promql\nup\n'), /X\.md:11: the block never ends/],
] as const)
  test(`a page ${what} is refused with its line`, () => assert.throws(() => parseRunbook('X', text), said));
