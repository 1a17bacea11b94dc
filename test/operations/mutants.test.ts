/** Tests of the rule tests: rules that are wrong in one place must not pass. `npm run mutate-rules` tries all of them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judge, mutantsOf, nameOf, sampleOf, subjects } from '../../alerts/mutations.ts';
import { ALERTS } from '../../alerts/rules.ts';
import { OBJECTIVES } from '../../src/slo/objectives.ts';
import { missing } from '../prometheus.ts';

const skip = missing('promtool') ?? false;
const SAMPLE = 12;

test('a symptom rule that gives nothing, or another severity, is noticed', { skip }, async (context) => {
  const mutants = subjects([])
    .flatMap(mutantsOf)
    .filter(({ subject, what }) => /^(rule|severity)/.test(what) && subject.name !== 'CooperWatchdog');
  const verdicts = await judge(sampleOf(mutants, SAMPLE));
  const missed = verdicts.filter(({ killed }) => !killed).map(({ mutant }) => `${nameOf(mutant.rule)}: ${mutant.what}`);
  context.diagnostic(`changes noticed: ${verdicts.length - missed.length} of ${verdicts.length}`);
  assert.deepEqual(missed, []);
});

test('every rule is changed in several ways', () => {
  const all = subjects(OBJECTIVES.map(({ name }) => name));
  const rules = all.flatMap(({ groups }) => groups.flatMap((group) => group.rules));
  assert.ok(ALERTS.every((alert) => rules.includes(alert)));
  for (const subject of all) {
    const mutants = mutantsOf(subject);
    for (const rule of subject.groups.flatMap((group) => group.rules))
      assert.ok(
        mutants.some((mutant) => mutant.rule === rule),
        nameOf(rule),
      );
    for (const { rule, mutated } of mutants) assert.notDeepEqual(mutated, rule);
  }
});
