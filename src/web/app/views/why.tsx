/** Why steps were not cached: the first causes, what changed, and what only followed from them. */
import type { Explanation, Step } from '../../api/model.ts';
import { useGet } from '../api.ts';
import { duration, plural, shortRef, words } from '../format.ts';
import { href } from '../route.ts';
import { Panel } from '../ui.tsx';

const SHOWN = 6;

/** The daemon explains finished builds; until then, and where it cannot, the reasons of the steps are grouped here. */
export function WhyRan({
  steps,
  reference,
  isOver,
}: {
  readonly steps: readonly Step[];
  readonly reference: string;
  readonly isOver: boolean;
}) {
  const loaded = useGet<Explanation>(isOver ? `/builds/${encodeURIComponent(reference)}/explain` : undefined);
  const explanation = loaded.state === 'ready' && loaded.value.causes.length > 0 ? loaded.value : undefined;
  const aside =
    explanation?.against === undefined ? undefined : (
      <span>
        against <a href={href(['builds', explanation.against])}>{shortRef(explanation.against)}</a>, the nearest build before
      </span>
    );
  return (
    <Panel title="Why steps were not cached" id="why" aside={aside}>
      {explanation === undefined ? (
        <Grouped steps={steps} reference={reference} />
      ) : (
        <ul class="plain reasons">
          {explanation.causes.map((cause) => (
            <Cause key={`${cause.reason} ${cause.steps[0]?.step}`} cause={cause} steps={steps} reference={reference} />
          ))}
        </ul>
      )}
    </Panel>
  );
}

const costOf = (steps: readonly Step[]): number => steps.reduce((sum, step) => sum + step.endMs - step.startMs, 0);

function Cause(props: {
  readonly cause: Explanation['causes'][number];
  readonly steps: readonly Step[];
  readonly reference: string;
}) {
  const { cause, steps, reference } = props;
  const byDigest = new Map(steps.map((step) => [step.digest, step]));
  const all = [...cause.steps, ...cause.follows].flatMap(({ step }) => byDigest.get(step) ?? []);
  return (
    <li>
      <b>{words(cause.reason)}</b>{' '}
      <span class="note">
        {plural(cause.steps.length, 'step')}
        {cause.follows.length > 0 && `, ${cause.follows.length} more because of ${cause.steps.length === 1 ? 'it' : 'them'}`},{' '}
        {duration(costOf(all))}
      </span>
      <p>{cause.summary}</p>
      {cause.changes.length > 0 && (
        <ul class="changes" aria-label="What changed">
          {cause.changes.slice(0, SHOWN).map((change) => (
            <li key={`${change.what} ${change.name}`}>
              {words(change.what)} {change.name}
              {change.old !== undefined && (
                <>
                  {' '}
                  <del>{brief(change.old)}</del>
                </>
              )}
              {change.new !== undefined && (
                <>
                  {' '}
                  → <ins>{brief(change.new)}</ins>
                </>
              )}
            </li>
          ))}
          {cause.more + Math.max(0, cause.changes.length - SHOWN) > 0 && (
            <li>and {cause.more + Math.max(0, cause.changes.length - SHOWN)} more</li>
          )}
        </ul>
      )}
      <StepLinks steps={all} reference={reference} />
    </li>
  );
}

/** Digests are told apart by their beginning. */
const brief = (text: string): string => text.replace(/(sha256:[0-9a-f]{10})[0-9a-f]{54}/g, '$1…');

function StepLinks({ steps, reference }: { readonly steps: readonly Step[]; readonly reference: string }) {
  return (
    <ul>
      {steps.slice(0, SHOWN).map((step) => (
        <li key={step.id}>
          <a href={href(['builds', reference], { step: step.id })}>{step.name}</a>
        </li>
      ))}
      {steps.length > SHOWN && <li class="note">and {steps.length - SHOWN} more</li>}
    </ul>
  );
}

function Grouped({ steps, reference }: { readonly steps: readonly Step[]; readonly reference: string }) {
  const byReason = new Map<string, Step[]>();
  for (const step of steps) {
    if (!step.cacheable || step.state === 'cached') continue;
    const reason = step.cache?.reason ?? 'no reason recorded';
    byReason.set(reason, [...(byReason.get(reason) ?? []), step]);
  }
  if (byReason.size === 0) return <p class="none">Every step that can be cached came from the cache.</p>;
  return (
    <ul class="plain reasons">
      {[...byReason]
        .sort(([, a], [, b]) => costOf(b) - costOf(a))
        .map(([reason, of]) => (
          <li key={reason}>
            <b>{words(reason)}</b>{' '}
            <span class="note">
              {plural(of.length, 'step')}, {duration(costOf(of))}
            </span>
            <StepLinks steps={of} reference={reference} />
          </li>
        ))}
    </ul>
  );
}
