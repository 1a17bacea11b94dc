/** Two builds side by side: what took longer, what ran again, what was asked differently. */
import type { BuildSummary, ComparedStep, Comparison } from '../../api/model.ts';
import { useGet } from '../api.ts';
import { clock, duration, shortRef, words } from '../format.ts';
import { href } from '../route.ts';
import { Await, Heading, Panel, State, Table } from '../ui.tsx';

export function Compare({ a, b }: { readonly a: string | undefined; readonly b: string | undefined }) {
  const builds = useGet<{ readonly builds: readonly BuildSummary[] }>('/builds?limit=100');
  const query = new URLSearchParams({ ...(a === undefined ? {} : { a }), ...(b === undefined ? {} : { b }) });
  const loaded = useGet<Comparison>(a === undefined ? undefined : `/compare?${query}`);
  const shown = loaded.state === 'ready' ? loaded.value : undefined;
  const [left, right] = [shown?.a.ref ?? (b === undefined ? undefined : a), shown?.b.ref ?? b ?? a];
  const list = builds.state === 'ready' ? builds.value.builds.filter(({ endedAt }) => endedAt !== undefined) : [];
  const choose = (next: { readonly a?: string; readonly b?: string }): void => {
    const [one, other] = [next.a ?? left, next.b ?? right];
    if (one !== undefined && other !== undefined) location.hash = href(['compare', one, other]);
  };
  return (
    <>
      <Heading>Compare builds</Heading>
      <div class="filters">
        <Choice label="A" builds={list} value={left} onChoose={(ref) => choose({ a: ref })} />
        <Choice label="B" builds={list} value={right} onChoose={(ref) => choose({ b: ref })} />
      </div>
      {a === undefined ? (
        <p class="none">Choose two builds.</p>
      ) : (
        <Await of={loaded}>{(comparison) => <Shown comparison={comparison} />}</Await>
      )}
    </>
  );
}

function Choice(props: {
  readonly label: string;
  readonly builds: readonly BuildSummary[];
  readonly value: string | undefined;
  readonly onChoose: (ref: string) => void;
}) {
  return (
    <label>
      {props.label}
      <select value={props.value ?? ''} onChange={(event) => props.onChoose(event.currentTarget.value)}>
        {props.value === undefined && <option value="">choose a build</option>}
        {props.builds.map((build) => (
          <option key={build.ref} value={build.ref}>
            {build.image ?? build.name} · {shortRef(build.ref)} · {clock(build.startedAt)} · {duration(build.durationMs)}
          </option>
        ))}
      </select>
    </label>
  );
}

function Side({ side }: { readonly side: ComparedStep['a'] }) {
  if (side === undefined) return <span class="note">not in it</span>;
  return (
    <span class="side">
      <State state={side.state} /> {duration(side.durationMs)}
      {side.reason !== undefined && <span class="note"> {words(side.reason)}</span>}
    </span>
  );
}

function Shown({ comparison }: { readonly comparison: Comparison }) {
  const { a, b, verdict, steps, options } = comparison;
  const most = Math.max(1, ...steps.map(({ deltaMs }) => Math.abs(deltaMs)));
  return (
    <>
      <p class="verdict" role="status">
        {verdict}
      </p>
      <Panel
        title="Steps"
        id="compared"
        aside={
          <span>
            A <a href={href(['builds', a.ref])}>{shortRef(a.ref)}</a> {duration(a.durationMs)} · B{' '}
            <a href={href(['builds', b.ref])}>{shortRef(b.ref)}</a> {duration(b.durationMs)}
          </span>
        }
      >
        <Table
          caption="Steps, largest difference first"
          rows={steps}
          keyOf={(step) => `${step.name} ${step.match} ${step.a?.durationMs} ${step.b?.durationMs}`}
          none="Neither build has steps."
          columns={[
            { head: 'Step', wide: true, cell: (step) => <a href={href(['steps'], { name: step.name })}>{step.name}</a> },
            { head: 'A', cell: (step) => <Side side={step.a} /> },
            { head: 'B', cell: (step) => <Side side={step.b} /> },
            {
              head: 'B less A',
              end: true,
              cell: ({ deltaMs }) => (
                <span class="delta">
                  {Math.abs(deltaMs) < 1 ? '±0' : `${deltaMs > 0 ? '+' : '−'}${duration(Math.abs(deltaMs))}`}
                  <i class={deltaMs > 0 ? 'more' : 'less'} style={{ width: `${(Math.abs(deltaMs) / most) * 60}px` }} />
                </span>
              ),
            },
          ]}
        />
      </Panel>
      <Panel title="Asked differently" id="options">
        <Table
          caption="Options that differ"
          rows={options}
          keyOf={({ key }) => key}
          none="Both builds were asked for in the same way."
          columns={[
            { head: 'Option', cell: ({ key }) => <code>{key}</code> },
            { head: 'A', cell: ({ a: value }) => value ?? <span class="note">not set</span> },
            { head: 'B', cell: ({ b: value }) => value ?? <span class="note">not set</span> },
          ]}
        />
      </Panel>
    </>
  );
}
