/** One build: what became of it, what it spent its time on, and for each step why it ran. Follows a running build to its end. */
import { useMemo } from 'preact/hooks';
import type { BuildDetail, LogLine, Step, Steps } from '../../api/model.ts';
import { type Feed, useFeed, useGet, useLines } from '../api.ts';
import { bytes, duration, percent, shortRef } from '../format.ts';
import { href, type Place, replace } from '../route.ts';
import { Parallelism } from '../spark.tsx';
import { Figure, Heading, Meter, Panel, Problem, State, Time } from '../ui.tsx';
import { CancelBuild } from './actions.tsx';
import { StepPanel } from './step-panel.tsx';
import { Waterfall } from './waterfall.tsx';
import { WhyRan } from './why.tsx';

type Totals = Omit<Steps, 'steps'>;

export function Build(props: { readonly reference: string; readonly place: Place; readonly writable: boolean }) {
  const { reference } = props;
  const path = `/builds/${encodeURIComponent(reference)}`;
  const feed = useFeed(`${path}/live`);
  const known = useGet<BuildDetail>(path); // says what is wrong when there is no such build
  const build = (feed.values.get('build') as BuildDetail | undefined) ?? (known.state === 'ready' ? known.value : undefined);
  if (build === undefined)
    return (
      <>
        <Heading>Build {shortRef(reference)}</Heading>
        {known.state === 'failed' ? <Problem error={known.error} /> : <p class="none">Loading…</p>}
      </>
    );
  return <Shown key={reference} build={build} feed={feed} place={props.place} writable={props.writable} />;
}

function Shown(props: { readonly build: BuildDetail; readonly feed: Feed; readonly place: Place; readonly writable: boolean }) {
  const { build, feed, place } = props;
  const steps = useMemo(() => stepsOf(feed), [feed]);
  const totals = feed.values.get('totals') as Totals | undefined;
  const chosen = place.query.get('step');
  const step = steps.find(({ id }) => id === chosen) ?? defaultStep(steps);
  const running = build.endedAt === undefined;
  return (
    <>
      <div class="title">
        <Heading>{build.image ?? build.name}</Heading>
        <State state={build.state} />
        <p class="note">
          <code>{build.ref}</code> started <Time at={build.startedAt} />
          {build.repository !== undefined && <> from {build.repository}</>}
        </p>
        <div class="actions">
          <a href={href(['compare', build.ref])}>Compare with the one before</a>
          <a href={`/api/v1/builds/${encodeURIComponent(build.ref)}/logs`}>Whole log</a>
          {running && <CancelBuild reference={build.ref} writable={props.writable} />}
        </div>
      </div>
      {build.error !== undefined && (
        <div class="problem">
          <pre>{build.error}</pre>
        </div>
      )}
      <Numbers build={build} totals={totals} steps={steps} />
      {running && build.steps !== undefined && (
        <p class="now" role="status">
          {build.state === 'queued' ? `Waiting: place ${build.queuePosition ?? '?'} in the queue` : nowRunning(steps)}
        </p>
      )}
      <Panel
        title="Steps"
        id="steps"
        aside={<span>arrow keys move, ◆ marks the critical path: the chain that decided how long the build took</span>}
      >
        {steps.length === 0 ? (
          <p class="none">{feed.state === 'ended' ? 'The trace of this build is not kept.' : 'No step has started yet.'}</p>
        ) : (
          <>
            <Parallelism steps={steps} endMs={totals?.durationMs ?? 1} />
            <Waterfall
              steps={steps}
              endMs={totals?.durationMs ?? 1}
              chosen={step?.id}
              onChoose={(id) => replace(href(['builds', build.ref], { step: id }))}
            />
          </>
        )}
      </Panel>
      {step !== undefined && (
        <StepPanel
          key={step.id}
          reference={build.ref}
          step={step}
          steps={steps}
          resources={build.resources?.find(({ step: digest }) => digest === step.digest)}
        />
      )}
      <div class="halves">
        <WhyRan steps={steps} reference={build.ref} isOver={build.endedAt !== undefined} />
        <Facts build={build} />
      </div>
      {(build.warnings ?? 0) > 0 && <Warnings key={`${build.ref} ${build.warnings}`} reference={build.ref} steps={steps} />}
    </>
  );
}

function stepsOf(feed: Feed): Step[] {
  const steps: Step[] = [];
  for (const [key, value] of feed.values) if (key !== 'build' && key !== 'totals') steps.push(value as Step);
  return steps.sort((a, b) => a.startMs - b.startMs || a.endMs - b.endMs);
}

/** What somebody who opens the build wants to see first: the failure, what runs now, or the longest. */
function defaultStep(steps: readonly Step[]): Step | undefined {
  const longest = (of: readonly Step[]): Step | undefined =>
    of.reduce<Step | undefined>(
      (most, step) => (most === undefined || step.endMs - step.startMs > most.endMs - most.startMs ? step : most),
      undefined,
    );
  return (
    steps.find(({ state }) => state === 'failed') ??
    steps.findLast(({ state, op }) => state === 'running' && op === 'exec') ??
    longest(steps)
  );
}

function nowRunning(steps: readonly Step[]): string {
  const running = steps.filter(({ state }) => state === 'running').map(({ name }) => name);
  return running.length === 0
    ? 'Between steps'
    : `Running ${running.slice(0, 3).join(' · ')}${running.length > 3 ? ` and ${running.length - 3} more` : ''}`;
}

function Numbers({
  build,
  totals,
  steps,
}: {
  readonly build: BuildDetail;
  readonly totals: Totals | undefined;
  readonly steps: readonly Step[];
}) {
  const whole = totals?.durationMs ?? build.durationMs ?? 0;
  const cpu = steps.reduce((sum, step) => sum + (step.cpuSeconds ?? 0), 0);
  const peak = Math.max(0, ...steps.map((step) => step.peakMemoryBytes ?? 0));
  const looked = steps.filter(({ cacheable }) => cacheable);
  const hits = looked.filter(({ state }) => state === 'cached').length;
  const oom = steps.filter(({ oomKilled }) => oomKilled === true).length;
  const counts = build.steps ?? { total: steps.length, completed: 0, cached: 0 };
  return (
    <dl class="vitals">
      <Figure
        label="Duration"
        value={duration(build.durationMs ?? whole)}
        note={build.endedAt === undefined ? 'so far' : undefined}
      />
      <Figure
        label="Steps"
        value={build.endedAt === undefined ? `${counts.completed} of ${counts.total}` : String(counts.total)}
        note={
          <Meter share={counts.completed / Math.max(1, counts.total)} label={`${counts.completed} of ${counts.total} done`} />
        }
      />
      <Figure
        label="Cache hits"
        value={looked.length === 0 ? '–' : percent(hits / looked.length, 0)}
        note={`${hits} of ${looked.length} looked up`}
      />
      <Figure
        label="Critical path"
        value={duration(totals?.criticalMs)}
        note={whole > 0 ? `${percent((totals?.criticalMs ?? 0) / whole, 0)} of the time` : undefined}
      />
      <Figure
        label="Parallelism"
        value={whole > 0 ? `${((totals?.accumulatedMs ?? 0) / whole).toFixed(1)}×` : '–'}
        note={`${duration(totals?.accumulatedMs)} in all steps`}
      />
      <Figure
        label="CPU of RUN"
        value={cpu > 0 ? duration(cpu * 1000) : '–'}
        note={cpu > whole / 20_000 && whole > 0 ? `${(cpu / (whole / 1000)).toFixed(1)} cores` : undefined}
      />
      <Figure
        label="Peak memory"
        value={peak > 0 ? bytes(peak) : '–'}
        note={oom > 0 ? <State state="error" label={`${oom} killed for memory`} /> : 'of one step'}
      />
    </dl>
  );
}

function Facts({ build }: { readonly build: BuildDetail }) {
  const rows: readonly (readonly [string, string])[] = [
    ['frontend', build.frontend || 'run by the client'],
    ...Object.entries(build.options),
    ...build.exporters.flatMap(({ type, attributes }): [string, string][] => [
      [
        'output',
        `${type} ${Object.entries(attributes)
          .map(([key, value]) => `${key}=${value}`)
          .join(' ')}`.trim(),
      ],
    ]),
    ...Object.entries(build.response).filter(([key]) => key !== 'containerimage.descriptor'),
    ...(build.traceId === undefined ? [] : ([['trace', build.traceId]] as const)),
  ];
  return (
    <Panel title="Request and result" id="facts">
      <dl class="pairs">
        {rows.map(([key, value], at) => (
          <div key={at}>
            <dt>{key}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </Panel>
  );
}

const MAX_WARNINGS = 500;

function Warnings({ reference, steps }: { readonly reference: string; readonly steps: readonly Step[] }) {
  const { lines } = useLines<LogLine>(`/builds/${encodeURIComponent(reference)}/logs/live?kind=warning`, MAX_WARNINGS);
  const nameOf = (digest: string): string => steps.find((step) => step.digest === digest)?.name ?? '';
  return (
    <Panel title="Warnings" id="warnings">
      <ul class="plain">
        {lines.map((line, at) => (
          <li key={at}>
            <State state="warning" label={line.text.split('\n')[0] ?? ''} />{' '}
            <span class="note">
              {line.place} {nameOf(line.step)} {line.text.split('\n').slice(1).join(' ')}
              {line.url !== undefined && /^https?:/.test(line.url) && (
                <>
                  {' '}
                  <a href={line.url} rel="noreferrer noopener">
                    about this rule
                  </a>
                </>
              )}
            </span>
          </li>
        ))}
      </ul>
    </Panel>
  );
}
