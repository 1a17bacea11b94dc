/** The small parts every view is made of. A state is always a shape and a word, never a colour alone. */
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { ApiError, Loaded } from './api.ts';
import { ago, clock, words } from './format.ts';

export type Tone = 'good' | 'bad' | 'warn' | 'busy' | 'quiet';
const SHAPES: Readonly<Record<Tone, string>> = {
  good: 'M3 8.500l3.200 3.200L13 5',
  bad: 'M4 4l8 8M12 4l-8 8',
  warn: 'M8 2.500v7M8 12.500v1',
  busy: 'M8 3a5 5 0 1 1-4.800 3.600',
  quiet: 'M4 8h8',
};
const TONES: Readonly<Record<string, Tone>> = {
  success: 'good',
  ok: 'good',
  done: 'good',
  cached: 'good',
  closed: 'good',
  failure: 'bad',
  failed: 'bad',
  error: 'bad',
  timeout: 'bad',
  exhausted: 'bad',
  open: 'bad',
  critical: 'bad',
  'half-open': 'warn',
  warning: 'warn',
  running: 'busy',
};
export function toneOf(state: string): Tone {
  if (state.startsWith('burning')) return state.includes('page') ? 'bad' : 'warn';
  return TONES[state] ?? 'quiet';
}

export function Mark({ tone }: { readonly tone: Tone }) {
  return (
    <svg class={`mark ${tone}`} viewBox="0 0 16 16" aria-hidden="true">
      <path d={SHAPES[tone]} />
    </svg>
  );
}
/** A state as shape and word. */
export function State({ state, label }: { readonly state: string; readonly label?: string }) {
  const tone = toneOf(state);
  return (
    <span class={`state ${tone}`}>
      <Mark tone={tone} />
      {label ?? words(state)}
    </span>
  );
}

export function Panel(props: {
  readonly title: string;
  readonly id: string;
  readonly aside?: ComponentChildren;
  readonly children: ComponentChildren;
}) {
  return (
    <section class="panel" aria-labelledby={props.id}>
      <div class="head">
        <h2 id={props.id}>{props.title}</h2>
        {props.aside !== undefined && <div class="aside">{props.aside}</div>}
      </div>
      {props.children}
    </section>
  );
}

/** Share of a whole as a bar with its text beside it; `limit` marks where it becomes too much. */
export function Meter(props: { readonly share: number; readonly label: string; readonly tone?: Tone }) {
  const share = Math.min(1, Math.max(0, props.share));
  return (
    <div class={`meter ${props.tone ?? 'busy'}`} role="img" aria-label={props.label} style={{ '--share': String(share) }}>
      <i />
    </div>
  );
}

export function Figure(props: { readonly label: string; readonly value: ComponentChildren; readonly note?: ComponentChildren }) {
  return (
    <div class="figure">
      <dt>{props.label}</dt>
      <dd>{props.value}</dd>
      {props.note !== undefined && <dd class="note">{props.note}</dd>}
    </div>
  );
}

/** A time as "3 min ago" that stays true, with the full one in the tooltip. */
export function Time({ at }: { readonly at: string | undefined }) {
  const [, setTick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setTick((tick) => tick + 1), 10_000);
    return () => clearInterval(timer);
  }, []);
  if (at === undefined) return <span>–</span>;
  return (
    <time dateTime={at} title={`${clock(at)} UTC`}>
      {ago(at)}
    </time>
  );
}

export interface Column<T> {
  readonly head: string;
  readonly cell: (row: T) => ComponentChildren;
  readonly end?: boolean;
  readonly wide?: boolean;
}
/** A table with headers; on a narrow screen it scrolls in itself. The first column names the row. */
export function Table<T>(props: {
  readonly caption: string;
  readonly columns: readonly Column<T>[];
  readonly rows: readonly T[];
  readonly keyOf: (row: T) => string;
  readonly none: string;
}) {
  if (props.rows.length === 0) return <p class="none">{props.none}</p>;
  const classOf = ({ end, wide }: Column<T>): string => `${end ? 'end' : ''} ${wide ? 'wide' : ''}`.trim();
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    // biome-ignore lint/a11y/useSemanticElements: a section would be a landmark of its own in every outline
    <div class="scroll" tabIndex={0} role="group" aria-label={props.caption}>
      <table>
        <caption class="unseen">{props.caption}</caption>
        <thead>
          <tr>
            {props.columns.map((column) => (
              <th key={column.head} scope="col" class={classOf(column)}>
                {column.head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {props.rows.map((row) => (
            <tr key={props.keyOf(row)}>
              {props.columns.map((column, at) =>
                at === 0 ? (
                  <th key={column.head} scope="row" class={classOf(column)}>
                    {column.cell(row)}
                  </th>
                ) : (
                  <td key={column.head} class={classOf(column)}>
                    {column.cell(row)}
                  </td>
                ),
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function Problem({ error }: { readonly error: ApiError }) {
  return (
    <div class="problem" role="alert">
      <p>{error.message}</p>
      {error.hint !== undefined && <p class="note">{error.hint}</p>}
    </div>
  );
}

/** What a document shows while it is not there. */
export function Await<T>(props: { readonly of: Loaded<T>; readonly children: (value: T) => ComponentChildren }) {
  const { of } = props;
  if (of.state === 'failed') return <Problem error={of.error} />;
  if (of.state === 'loading') return <p class="none">Loading…</p>;
  return <>{props.children(of.value)}</>;
}

const viewOf = (): string => location.hash.split('?')[0] ?? '';
/** The view whose heading had the focus last; a page that has just come takes it from nobody. */
let focused = viewOf();
let holdsFocus = false;

/** The heading of a view; takes the focus when the view changes, so that a screen reader and the keyboard go on there. */
export function Heading({ children }: { readonly children: ComponentChildren }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    const isReplaced = holdsFocus && document.activeElement === document.body; // "Loading" gave way to the view itself
    if (viewOf() === focused && !isReplaced) return;
    focused = viewOf();
    heading.current?.focus();
    holdsFocus = true;
  }, []);
  const release = (): void => {
    holdsFocus = false;
  };
  return (
    <h1 tabIndex={-1} ref={heading} onKeyDown={release} onPointerDown={release}>
      {children}
    </h1>
  );
}
