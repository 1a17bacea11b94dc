/** Builds as rows: state, progress, how long, how much came from the cache. */
import type { BuildSummary } from '../../api/model.ts';
import { duration, shortRef } from '../format.ts';
import { href } from '../route.ts';
import { type Column, Meter, State, Table, Time } from '../ui.tsx';

const isLive = ({ state }: BuildSummary): boolean => state === 'running' || state === 'queued';

function Progress({ build }: { readonly build: BuildSummary }) {
  const { steps, state, queuePosition } = build;
  if (state === 'queued') return <span>place {queuePosition ?? '?'} in the queue</span>;
  if (steps === undefined) return <span>–</span>;
  if (!isLive(build)) return <span>{steps.total === 0 ? '–' : `${steps.cached} of ${steps.total}`}</span>;
  return (
    <span class="progress">
      <Meter
        share={steps.total === 0 ? 0 : steps.completed / steps.total}
        label={`${steps.completed} of ${steps.total} steps done`}
      />
      {steps.completed}/{steps.total}
    </span>
  );
}

const COLUMNS: readonly Column<BuildSummary>[] = [
  {
    head: 'Build',
    wide: true,
    cell: (build) => (
      <a class="name" href={href(['builds', build.ref])}>
        {build.image ?? build.name}
        <code>{shortRef(build.ref)}</code>
      </a>
    ),
  },
  {
    head: 'State',
    cell: (build) => (
      <span title={build.error}>
        <State state={build.state} />
      </span>
    ),
  },
  { head: 'Target', cell: (build) => <span class="cut">{build.name}</span> },
  { head: 'Steps cached', cell: (build) => <Progress build={build} />, end: true },
  {
    head: 'Duration',
    end: true,
    cell: (build) => duration(build.durationMs ?? Math.max(0, Date.now() - Date.parse(build.startedAt))),
  },
  { head: 'Started', end: true, cell: (build) => <Time at={build.startedAt} /> },
];

export function BuildTable({
  builds,
  caption,
  none,
}: {
  readonly builds: readonly BuildSummary[];
  readonly caption: string;
  readonly none: string;
}) {
  return <Table caption={caption} columns={COLUMNS} rows={builds} keyOf={({ ref }) => ref} none={none} />;
}
