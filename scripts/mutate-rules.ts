/**
 * The mutation score of the alert rules: `npm run mutate-rules -- [--sample N] [--slo NAME ...] [--symptoms]`. Changes each rule in
 * one place at a time and lists the changes that no test notices. Objectives are slow (seconds a change): sample them. Exits 1 when the
 * tests fail without any change.
 */
import { parseArgs } from 'node:util';
import { judge, mutantsOf, nameOf, sampleOf, subjects, testsPass } from '../alerts/mutations.ts';

const { values } = parseArgs({
  options: { sample: { type: 'string' }, slo: { type: 'string', multiple: true }, symptoms: { type: 'boolean' } },
});
const slos = values.slo ?? (values.symptoms ? [] : ['build-success', 'cache-push', 'cache-hit', 'cache-growth']);
const chosen = subjects(slos).filter(({ name }) => values.slo === undefined || slos.includes(name));
for (const subject of chosen) {
  if (await testsPass(subject)) continue;
  console.error(`${subject.name}: the tests fail without any change`);
  process.exit(1);
}
const all = chosen.flatMap(mutantsOf);
const mutants = sampleOf(all, Number(values.sample ?? all.length));
let done = 0;
const verdicts = await judge(mutants, () => {
  done += 1;
  if (done % 100 === 0) console.error(`${done} of ${mutants.length}`);
});
const survivors = verdicts.filter(({ killed }) => !killed);
for (const { mutant } of survivors) console.log(`not noticed: ${mutant.subject.name} ${nameOf(mutant.rule)}: ${mutant.what}`);
const kinds = Map.groupBy(verdicts, ({ mutant }) => mutant.what.split(/[:\s]/)[0] ?? '');
for (const [kind, of] of kinds) console.log(`${kind}: ${of.filter(({ killed }) => killed).length} of ${of.length} noticed`);
const untested = new Set(verdicts.map(({ mutant }) => mutant.rule));
for (const { killed, mutant } of verdicts) if (killed) untested.delete(mutant.rule);
console.log(
  `rules that no test notices: ${untested.size}${untested.size === 0 ? '' : `: ${[...untested].map(nameOf).join(', ')}`}`,
);
const score = ((verdicts.length - survivors.length) / verdicts.length) * 100;
console.log(`score ${score.toFixed(1)} %: ${verdicts.length - survivors.length} of ${verdicts.length} changes noticed`);
