// biome-ignore-all lint/a11y/useSemanticElements: rows that are not in sight are not in the document, which a real table cannot say
/**
 * Steps against time. Only the rows in sight are in the document, so a build of thousands scrolls as easily as one of ten. A grid for
 * keyboards and screen readers: one tab stop, arrows move, the row in focus is the step shown below.
 */
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { Step } from '../../api/model.ts';
import { duration, words } from '../format.ts';
import { Mark, toneOf } from '../ui.tsx';

const ROW = 26;
const SPARE = 12;
const MAX_HEIGHT = 520;

type Order = 'time' | 'longest';

export function Waterfall(props: {
  readonly steps: readonly Step[];
  readonly endMs: number;
  readonly chosen: string | undefined;
  readonly onChoose: (id: string) => void;
}) {
  const { steps, endMs, chosen, onChoose } = props;
  const [text, setText] = useState('');
  const [only, setOnly] = useState('all');
  const [order, setOrder] = useState<Order>('time');
  const rows = useMemo(() => select(steps, text, only, order), [steps, text, only, order]);
  const at = rows.findIndex(({ id }) => id === chosen);
  const { box, from, to, onScroll, reveal } = useWindow(rows.length);
  const first = useRef(true);
  useEffect(() => {
    if (first.current && at >= 0) reveal(at);
    first.current = false;
  }, [at, reveal]);
  const move = (event: KeyboardEvent): void => {
    const page = Math.floor(MAX_HEIGHT / ROW) - 1;
    const moves: Readonly<Record<string, number>> = {
      ArrowDown: at + 1,
      ArrowUp: at - 1,
      PageDown: at + page,
      PageUp: at - page,
      Home: 0,
      End: rows.length - 1,
    };
    const wanted = moves[event.key];
    if (wanted === undefined) return;
    event.preventDefault();
    const next = Math.min(rows.length - 1, Math.max(0, wanted));
    const row = rows[next];
    if (row === undefined) return;
    onChoose(row.id);
    reveal(next);
  };
  return (
    <>
      <div class="filters">
        <label>
          Find a step
          <input type="search" value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <label>
          Show
          <select value={only} onChange={(event) => setOnly(event.currentTarget.value)}>
            <option value="all">all steps</option>
            <option value="critical">critical path</option>
            <option value="ran">not cached</option>
            <option value="failed">failed</option>
          </select>
        </label>
        <label>
          Order
          <select value={order} onChange={(event) => setOrder(event.currentTarget.value as Order)}>
            <option value="time">by start</option>
            <option value="longest">longest first</option>
          </select>
        </label>
        <span class="note">
          {rows.length} of {steps.length} steps
        </span>
        <span class="legend" aria-hidden="true">
          {LEGEND.map(([phase, label]) => (
            <span key={phase}>
              <span class="track">
                <i class={`phase ${phase}`} />
              </span>
              {label}
            </span>
          ))}
        </span>
      </div>
      <div
        class="waterfall"
        role="grid"
        aria-label="Steps of the build"
        aria-rowcount={rows.length + 1}
        aria-colcount={4}
        aria-activedescendant={at >= 0 ? `row-${rows[at]?.id}` : undefined}
        tabIndex={0}
        onKeyDown={move}
      >
        <div class="row heads" role="row" aria-rowindex={1} tabIndex={-1}>
          <span role="columnheader" tabIndex={-1}>
            Step
          </span>
          <span role="columnheader" tabIndex={-1}>
            State
          </span>
          <span role="columnheader" tabIndex={-1} class="end">
            Duration
          </span>
          <span role="columnheader" tabIndex={-1} class="axis">
            <span class="unseen">Time</span>
            <Axis endMs={endMs} />
          </span>
        </div>
        <div
          class="rows"
          role="presentation"
          ref={box}
          onScroll={onScroll}
          style={{ height: `${Math.min(MAX_HEIGHT, rows.length * ROW + 2)}px` }}
        >
          <div role="presentation" class="all" style={{ height: `${rows.length * ROW}px` }}>
            {rows.slice(from, to).map((step, place) => (
              <Row key={step.id} step={step} at={from + place} endMs={endMs} isChosen={step.id === chosen} onChoose={onChoose} />
            ))}
          </div>
        </div>
      </div>
    </>
  );
}

/** Which rows are in sight, and a way to bring one there. */
function useWindow(count: number) {
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const frame = useRef(0);
  const onScroll = (): void => {
    cancelAnimationFrame(frame.current);
    frame.current = requestAnimationFrame(() => setTop(box.current?.scrollTop ?? 0));
  };
  useLayoutEffect(() => () => cancelAnimationFrame(frame.current), []);
  const [reveal] = useState(() => (at: number): void => {
    const element = box.current;
    if (element === null) return;
    const above = at * ROW;
    if (above < element.scrollTop) element.scrollTop = above;
    else if (above + ROW > element.scrollTop + element.clientHeight) element.scrollTop = above + ROW - element.clientHeight;
  });
  const from = Math.max(0, Math.floor(top / ROW) - SPARE);
  return { box, onScroll, reveal, from, to: Math.min(count, Math.ceil((top + MAX_HEIGHT) / ROW) + SPARE) };
}

function select(steps: readonly Step[], text: string, only: string, order: Order): readonly Step[] {
  const wanted = text.trim().toLowerCase();
  const shown = steps.filter(
    (step) =>
      (wanted === '' || step.name.toLowerCase().includes(wanted)) &&
      (only === 'all' ||
        (only === 'critical' && step.critical) ||
        (only === 'ran' && step.state !== 'cached') ||
        (only === 'failed' && step.state === 'failed')),
  );
  return order === 'time' ? shown : shown.sort((a, b) => b.endMs - b.startMs - (a.endMs - a.startMs));
}

const LEGEND = [
  ['queue', 'waits for a slot'],
  ['pull', 'fetches'],
  ['run', 'runs'],
  ['export', 'commits, exports'],
] as const;
const PHASES = new Set(['queue', 'lookup', 'transfer', 'pull', 'unpack', 'mounts', 'run', 'commit', 'export', 'push', 'key']);

function Row(props: {
  readonly step: Step;
  readonly at: number;
  readonly endMs: number;
  readonly isChosen: boolean;
  readonly onChoose: (id: string) => void;
}) {
  const { step, at, endMs, isChosen, onChoose } = props;
  const share = (ms: number): string => `${(ms / Math.max(1, endMs)) * 100}%`;
  const tone = toneOf(step.state);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the grid takes the keys
    <div
      class={`row ${step.state}${isChosen ? ' chosen' : ''}${step.critical ? ' critical' : ''}`}
      role="row"
      id={`row-${step.id}`}
      aria-rowindex={at + 2}
      aria-selected={isChosen}
      tabIndex={-1}
      style={{ transform: `translateY(${at * ROW}px)` }}
      onClick={() => onChoose(step.id)}
    >
      <span role="gridcell" tabIndex={-1} class="name" title={step.name}>
        {step.critical && (
          <span class="diamond">
            <span aria-hidden="true">◆</span>
            <span class="unseen">critical path: </span>
          </span>
        )}
        {step.name}
      </span>
      <span role="gridcell" tabIndex={-1} class={`state ${tone}`}>
        <Mark tone={tone} />
        {step.state}
      </span>
      <span role="gridcell" tabIndex={-1} class="end">
        {duration(step.endMs - step.startMs)}
      </span>
      <span role="gridcell" tabIndex={-1} class="track" aria-label={`from ${duration(step.startMs)} to ${duration(step.endMs)}`}>
        <i class="bar" style={{ left: share(step.startMs), width: `max(2px, ${share(step.endMs - step.startMs)})` }} />
        {step.phases.map((phase) => (
          <i
            key={`${phase.name} ${phase.startMs}`}
            class={`phase ${PHASES.has(phase.name) ? phase.name : 'other'}`}
            title={`${words(phase.name)} ${duration(phase.endMs - phase.startMs)}`}
            style={{ left: share(phase.startMs), width: share(phase.endMs - phase.startMs) }}
          />
        ))}
      </span>
    </div>
  );
}

function Axis({ endMs }: { readonly endMs: number }) {
  const step = niceStep(endMs / 5);
  const marks = Array.from({ length: Math.floor(endMs / step) + 1 }, (_, at) => at * step).filter((ms) => ms < endMs * 0.95);
  return (
    <span class="ticks" aria-hidden="true">
      {marks.map((ms) => (
        <i key={ms} style={{ left: `${(ms / Math.max(1, endMs)) * 100}%` }}>
          {duration(ms)}
        </i>
      ))}
    </span>
  );
}
function niceStep(ms: number): number {
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5];
  return steps.find((step) => step >= ms) ?? 36e5 * Math.ceil(ms / 36e5);
}
