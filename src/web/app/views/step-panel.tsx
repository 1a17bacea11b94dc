/** One step: why it ran or did not, its phases and resources, what it waited for, what it printed. */
import { useEffect, useRef } from 'preact/hooks';
import type { LogLine, Step, StepResources } from '../../api/model.ts';
import { useLines } from '../api.ts';
import { bytes, duration, percent, words } from '../format.ts';
import { href } from '../route.ts';
import { Meter, State } from '../ui.tsx';
import { Resources } from './resources.tsx';

const MAX_LINES = 3_000;

export function StepPanel(props: {
  readonly reference: string;
  readonly step: Step;
  readonly steps: readonly Step[];
  readonly resources: StepResources | undefined;
}) {
  const { reference, step, steps, resources } = props;
  const length = step.endMs - step.startMs;
  const inputs = step.inputs.flatMap((id) => steps.find((other) => other.id === id) ?? []);
  return (
    <section class="panel step" aria-labelledby="step-name">
      <div class="head">
        <h2 id="step-name">{step.name}</h2>
        <div class="aside">
          <a href={href(['steps'], { name: step.name })}>in other builds</a>
        </div>
      </div>
      <div class="columns2">
        <div>
          <dl class="pairs">
            <Pair name="state">
              <State state={step.state} /> {duration(length)}, {step.op}
              {step.critical ? ', on the critical path' : ''}
            </Pair>
            <Pair name="cache">{cacheSentence(step)}</Pair>
            {step.cpuSeconds !== undefined && (
              <Pair name="CPU">
                {duration(step.cpuSeconds * 1000)}
                {step.cpuSeconds * 1000 > length / 20 && `, ${((step.cpuSeconds * 1000) / length).toFixed(1)} cores`}
              </Pair>
            )}
            {step.peakMemoryBytes !== undefined && (
              <Pair name="memory">
                {bytes(step.peakMemoryBytes)} at most
                {step.oomKilled === true && <State state="error" label="killed: out of memory" />}
              </Pair>
            )}
            {inputs.length > 0 && (
              <Pair name="waited for">
                {inputs.slice(0, 8).map((input) => (
                  <a key={input.id} class="block" href={href(['builds', reference], { step: input.id })}>
                    {input.name}
                  </a>
                ))}
                {inputs.length > 8 && <span class="note">and {inputs.length - 8} more</span>}
              </Pair>
            )}
            <Pair name="digest">
              <code class="cut">{step.digest}</code>
            </Pair>
          </dl>
          {step.phases.length > 0 && <Phases step={step} length={length} />}
          <Facts facts={step.facts} />
          {resources !== undefined && <Resources resources={resources} />}
          {step.events.length > 0 && (
            <ul class="plain events" aria-label="Progress">
              {step.events.map((event) => (
                <li key={`${event.name} ${event.atMs}`}>
                  <span class="at">{duration(event.atMs)}</span> {event.name} <span class="note">{event.detail}</span>
                </li>
              ))}
            </ul>
          )}
          {step.error !== undefined && <pre class="problem">{step.error}</pre>}
        </div>
        <Log key={step.digest} reference={reference} digest={step.digest} name={step.name} />
      </div>
    </section>
  );
}

/** What else the trace says; zeros say nothing. */
function Facts({ facts }: { readonly facts: Step['facts'] }) {
  const told = Object.entries(facts).filter(([, value]) => value !== '0');
  if (told.length === 0) return null;
  return (
    <details>
      <summary>{told.length} more facts of the trace</summary>
      <dl class="pairs">
        {told.map(([key, value]) => (
          <Pair key={key} name={key.replaceAll(/[._]/g, ' ')}>
            {value}
          </Pair>
        ))}
      </dl>
    </details>
  );
}

function Pair({ name, children }: { readonly name: string; readonly children: preact.ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** Says it in words for every case, so that silence is never taken for a hit. */
function cacheSentence({ cacheable, state, cache }: Step): string {
  if (!cacheable || cache === undefined)
    return state === 'cached' ? 'its result was there already' : 'steps of this kind are not looked up';
  if (cache.hit) return cache.location === undefined ? 'hit' : `hit: ${words(cache.location)}`;
  const reason = `not cached: ${words(cache.reason ?? 'no reason recorded')}`;
  return cache.detail === undefined ? reason : `${reason}, ${cache.detail}`;
}

function Phases({ step, length }: { readonly step: Step; readonly length: number }) {
  return (
    <ul class="phases" aria-label="Phases">
      {step.phases.map((phase) => (
        <li key={`${phase.name} ${phase.startMs}`}>
          <span>{words(phase.name)}</span>
          <Meter
            share={(phase.endMs - phase.startMs) / Math.max(1, length)}
            label={percent((phase.endMs - phase.startMs) / Math.max(1, length), 0)}
          />
          <span class="end">{duration(phase.endMs - phase.startMs)}</span>
        </li>
      ))}
    </ul>
  );
}

function Log({ reference, digest, name }: { readonly reference: string; readonly digest: string; readonly name: string }) {
  const path = `/builds/${encodeURIComponent(reference)}/logs`;
  const { lines, dropped, ended } = useLines<LogLine>(`${path}/live?kind=log&step=${digest}`, MAX_LINES);
  const box = useRef<HTMLPreElement>(null);
  const follows = useRef(true);
  useEffect(() => {
    if (follows.current && box.current !== null) box.current.scrollTop = box.current.scrollHeight;
  }, [lines]);
  const text = lines.map((line) => line.text).join('');
  return (
    <div class="log">
      <div class="head">
        <h3>Output</h3>
        <a href={`${path}?step=${digest}`}>as text</a>
      </div>
      {dropped > 0 && <p class="note">The first {dropped} pieces are left out here; the text has them.</p>}
      <pre
        ref={box}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
        tabIndex={0}
        role="log"
        aria-live="off"
        aria-label={`Output of ${name}`}
        onScroll={({ currentTarget: { scrollTop, scrollHeight, clientHeight } }) => {
          follows.current = scrollTop + clientHeight > scrollHeight - 8;
        }}
      >
        {text === '' ? (ended ? 'It printed nothing.' : 'Nothing yet.') : plain(text)}
      </pre>
    </div>
  );
}

/** Without terminal colours and cursor moves; of a line that was redrawn in place, the last state. */
const plain = (text: string): string =>
  text
    .replace(/\u001b\[[0-9;?]*[A-Za-z]|\u001b\][^\u0007]*\u0007/g, '')
    .replace(/\r\n/g, '\n')
    .replace(/^[^\n]*\r(?!\n)/gm, '');
