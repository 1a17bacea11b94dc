/** An explanation for a terminal: the first cause first, what follows from it counted. Pure. */

import type { CacheChange } from '../../builder/events.ts';
import type { ExplainedStep, Explanation, FirstCause } from '../../builder/explain/explanation.ts';
import { describeChange } from '../../builder/explain/words.ts';

const SHOWN_CHANGES = 10;
const SHOWN_STEPS = 5;

export function formatExplanation(explanation: Explanation): string {
  const { causes, totals, steps } = explanation;
  const lines = [headline(explanation)];
  if (totals.misses === 0 && causes.length === 0)
    lines.push('', steps.length === 0 ? 'The build has no step that can be cached.' : 'Every step was served from cache.');
  for (const [at, cause] of causes.entries()) lines.push('', ...causeLines(cause, at + 1));
  return lines.join('\n');
}

export function formatStep(step: ExplainedStep, { against, ref }: Explanation): string {
  const lines = [step.name, `  ${outcomeOf(step)}`];
  if (step.summary !== undefined) lines.push(`  ${step.reason}: ${step.summary}`);
  lines.push(...changeLines(step.changes ?? [], step.more ?? 0));
  if (step.because !== undefined) lines.push(`  first cause: cooper explain ${ref} ${JSON.stringify(step.because.name)}`);
  if (against !== undefined) lines.push(`  compared with build ${against}`);
  return lines.join('\n');
}

/** Steps whose number, digest or name is meant. */
export function stepsNamed({ steps }: Explanation, wanted: string): ExplainedStep[] {
  const exact = steps.filter(
    ({ name, step }) => name === wanted || step === wanted || (name.includes(`${wanted}] `) && /^\d+\/\d+$/.test(wanted)),
  );
  if (exact.length > 0) return exact;
  const text = wanted.toLowerCase();
  return steps.filter(
    ({ name, step }) =>
      name.toLowerCase().includes(text) ||
      (text.length >= 6 && step.replace('sha256:', '').startsWith(text.replace('sha256:', ''))),
  );
}

function headline({ ref, totals, against }: Explanation): string {
  const { cacheable, hitsLocal, hitsRemote, implied, misses, savedSeconds } = totals;
  const served = [
    `${hitsLocal} found here`,
    ...(hitsRemote > 0 ? [`${hitsRemote} in a remote cache`] : []),
    ...(implied > 0 ? [`${implied} not needed`] : []),
    `${misses} missed`,
  ].join(', ');
  const saved = savedSeconds > 0 ? `; ${savedSeconds.toFixed(1)} s saved` : '';
  const compared = against === undefined ? 'no earlier build to compare with' : `compared with build ${against}`;
  return `build ${ref}: ${cacheable} cacheable steps: ${served}${saved}\n${compared}`;
}

function causeLines({ reason, summary, changes, more, steps, follows }: FirstCause, number: number): string[] {
  const lines = [`${number}. ${reason}: ${summary}`];
  const listed = changes.filter(({ what }) => what !== 'input');
  if (listed.length > 1 || listed.some(({ what }) => what === 'file')) lines.push(...changeLines(listed, more));
  for (const { name } of steps.slice(0, SHOWN_STEPS)) lines.push(`   at ${name}`);
  if (steps.length > SHOWN_STEPS) lines.push(`   and ${steps.length - SHOWN_STEPS} more`);
  if (follows.length > 0) lines.push(`   ${follows.length === 1 ? '1 step follows' : `${follows.length} steps follow`} from it`);
  return lines;
}

function changeLines(changes: readonly CacheChange[], more: number): string[] {
  const lines = changes.slice(0, SHOWN_CHANGES).map((change) => `   - ${describeChange(change)}`);
  const left = changes.length - SHOWN_CHANGES + more;
  return left > 0 ? [...lines, `   - and ${left} more`] : lines;
}

function outcomeOf({ outcome, location, backend, savedSeconds, runSeconds }: ExplainedStep): string {
  const saved = savedSeconds === undefined ? '' : `, ${savedSeconds} s saved`;
  if (outcome === 'hit') return `hit (${backend ?? location ?? 'local'})${saved}`;
  if (outcome === 'implied') return `not needed: something made of it was found${saved}`;
  if (outcome === 'none') return 'not looked up: the build ended before';
  return `missed${runSeconds === undefined ? '' : `, ran ${runSeconds} s`}`;
}
