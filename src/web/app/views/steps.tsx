/** Steps across builds: where the time of the last builds went, and one step through all of them. */
import type { StepRun, StepSummary } from '../../api/model.ts';
import { useGet } from '../api.ts';
import { duration, percent, plural, shortRef, words } from '../format.ts';
import { href, type Place } from '../route.ts';
import { Columns } from '../spark.tsx';
import { Await, Figure, Heading, Panel, State, Table, Time } from '../ui.tsx';

export function Steps({ place }: { readonly place: Place }) {
  const name = place.query.get('name');
  return name === null ? <All /> : <One key={name} name={name} />;
}

function All() {
  const loaded = useGet<{ readonly builds: number; readonly steps: readonly StepSummary[] }>('/steps?limit=300');
  return (
    <>
      <Heading>Steps across builds</Heading>
      <Await of={loaded}>
        {({ builds, steps }) => (
          <Panel title="Where the time went" id="steps" aside={<span>of the newest {plural(builds, 'build')}</span>}>
            <Table
              caption="Steps, the one that cost most time first"
              rows={steps}
              keyOf={(step) => step.name}
              none="No trace of a build is kept yet."
              columns={[
                { head: 'Step', wide: true, cell: (step) => <a href={href(['steps'], { name: step.name })}>{step.name}</a> },
                {
                  head: 'Runs',
                  cell: (step) => (
                    <Columns
                      values={step.recentMs}
                      label={`last ${plural(step.recentMs.length, 'run')}, the latest ${duration(step.recentMs.at(-1))}`}
                    />
                  ),
                },
                { head: 'Ran', end: true, cell: (step) => step.executed },
                {
                  head: 'Cached',
                  end: true,
                  cell: (step) => `${step.cached} (${percent(step.cached / Math.max(1, step.builds), 0)})`,
                },
                {
                  head: 'Failed',
                  end: true,
                  cell: (step) => (step.failed === 0 ? '–' : <State state="failed" label={String(step.failed)} />),
                },
                { head: 'Median', end: true, cell: (step) => duration(step.executed === 0 ? undefined : step.medianMs) },
                { head: 'Slowest', end: true, cell: (step) => duration(step.executed === 0 ? undefined : step.slowestMs) },
                { head: 'Total', end: true, cell: (step) => duration(step.totalMs) },
              ]}
            />
          </Panel>
        )}
      </Await>
    </>
  );
}

function One({ name }: { readonly name: string }) {
  const loaded = useGet<{ readonly runs: readonly StepRun[] }>(`/steps/history?${new URLSearchParams({ name })}`);
  return (
    <>
      <p class="crumb">
        <a href="#/steps">Steps across builds</a>
      </p>
      <Heading>{name}</Heading>
      <Await of={loaded}>{({ runs }) => <History runs={runs} />}</Await>
    </>
  );
}

function History({ runs }: { readonly runs: readonly StepRun[] }) {
  const executed = runs.filter(({ state }) => state === 'done' || state === 'failed');
  const lengths = executed.map(({ durationMs }) => durationMs);
  const sorted = lengths.toSorted((a, b) => a - b);
  const cached = runs.filter(({ state }) => state === 'cached').length;
  const most = Math.max(1, ...lengths);
  return (
    <>
      <dl class="vitals">
        <Figure label="In builds" value={runs.length} />
        <Figure label="Cached" value={percent(cached / Math.max(1, runs.length), 0)} note={`${cached} of ${runs.length}`} />
        <Figure
          label="Median run"
          value={duration(sorted[Math.floor(sorted.length / 2)])}
          note={plural(executed.length, 'run')}
        />
        <Figure label="Slowest run" value={duration(sorted.at(-1))} />
      </dl>
      <section class="panel" aria-label="Runs">
        <Table
          caption="This step in each build, newest first"
          rows={runs}
          keyOf={(run) => `${run.ref} ${run.digest}`}
          none="No kept build has a step of that name."
          columns={[
            {
              head: 'Build',
              cell: (run) => (
                <a class="name" href={href(['builds', run.ref])}>
                  {run.build}
                  <code>{shortRef(run.ref)}</code>
                </a>
              ),
            },
            { head: 'State', cell: (run) => <State state={run.state} /> },
            {
              head: 'Duration',
              cell: (run) => (
                <span class="lengthbar">
                  <i class={run.state} style={{ width: `${(run.durationMs / most) * 160}px` }} />
                  {duration(run.durationMs)}
                </span>
              ),
            },
            {
              head: 'Why it was not cached',
              wide: true,
              cell: (run) =>
                run.reason === undefined ? '–' : `${words(run.reason)}${run.detail === undefined ? '' : `: ${run.detail}`}`,
            },
            { head: 'Started', end: true, cell: (run) => <Time at={run.startedAt} /> },
          ]}
        />
      </section>
    </>
  );
}
