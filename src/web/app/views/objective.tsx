/** One objective: what it promises, how the budget was spent, and how close each pair of windows is to firing. */
import type { Slo, SloSeries } from '../../api/model.ts';
import { type Feed, useGet } from '../api.ts';
import { clock, duration, percent, plural, times } from '../format.ts';
import { Await, Figure, Heading, Meter, Panel, State, Table } from '../ui.tsx';
import { LineChart } from './line-chart.tsx';

const PARTS = 168;

export function Objective({ name, feed }: { readonly name: string; readonly feed: Feed }) {
  const report = feed.values.get('slo') as { readonly objectives: readonly Slo[] } | undefined;
  const slo = report?.objectives.find((one) => one.name === name);
  const series = useGet<SloSeries>(`/slo/${encodeURIComponent(name)}/series?parts=${PARTS}`);
  if (slo === undefined)
    return (
      <>
        <Heading>{name}</Heading>
        <p class="none">{report === undefined ? 'Loading…' : 'There is no objective of that name.'}</p>
      </>
    );
  return (
    <>
      <div class="title">
        <Heading>{slo.title}</Heading>
        <State state={slo.state} />
        <p class="verdict">{slo.description}</p>
      </div>
      <dl class="vitals">
        <Figure label="Target" value={percent(slo.target, 3)} note={`over ${slo.period}`} />
        <Figure
          label="Achieved"
          value={percent(slo.achieved, 3)}
          note={`${slo.good} of ${plural(slo.total, slo.events.replace(/s$/, ''))}`}
        />
        <Figure
          label="Budget left"
          value={percent(slo.budgetLeft)}
          note={<Meter share={slo.budgetLeft} label={`${percent(slo.budgetLeft)} left`} />}
        />
        <Figure
          label="Exhausted in"
          value={slo.exhaustsInSeconds == null ? 'not being spent' : duration(slo.exhaustsInSeconds * 1000)}
          note="at the pace of the last hour"
        />
        <Figure label="Watched" value={percent(slo.coverage ?? 1)} note="of the period" />
        <Figure label="Bad" value={slo.total - slo.good} note={`of ${(slo.total * (1 - slo.target)).toFixed(1)} allowed`} />
      </dl>
      {slo.note !== undefined && <p class="note">{slo.note}</p>}
      {slo.policy != null && (
        <p class="problem">
          Budget policy below {percent(slo.policy.budgetBelow)}: {slo.policy.consequence}
        </p>
      )}
      <Await of={series}>
        {(value) => (
          <div class="halves">
            <Panel title="Budget left" id="left">
              <LineChart title="Budget left" points={leftOf(value, slo.target)} top={1} format={(share) => percent(share, 0)} />
            </Panel>
            <Panel title="Burn rate" id="burn" aside={<span>1 spends exactly the budget over the period</span>}>
              <LineChart title="Burn rate" points={burnOf(value, slo.target)} format={times} limit={1} limitLabel="even pace" />
            </Panel>
          </div>
        )}
      </Await>
      <div class="halves">
        <Panel title="Alerting pairs" id="pairs">
          <Table
            caption="Pairs of windows that alert"
            rows={slo.pairs}
            keyOf={(pair) => `${pair.severity} ${pair.long} ${pair.short}`}
            none="This objective alerts nobody."
            columns={[
              { head: 'Windows', cell: (pair) => `${pair.long} and ${pair.short}` },
              { head: 'Severity', cell: ({ severity }) => severity },
              { head: 'Fires above', end: true, cell: ({ factor }) => times(factor) },
              {
                head: 'Now',
                end: true,
                cell: (pair) => `${times(rateOf(slo, pair.long))} and ${times(rateOf(slo, pair.short))}`,
              },
              {
                head: 'State',
                cell: ({ firing }) => <State state={firing ? 'critical' : 'ok'} label={firing ? 'firing' : 'quiet'} />,
              },
            ]}
          />
        </Panel>
        <Panel title="Windows" id="windows">
          <Table
            caption="Events and burn rate by window"
            rows={slo.burn}
            keyOf={({ window }) => window}
            none="No windows."
            columns={[
              { head: 'Last', cell: ({ window }) => window },
              { head: 'Good', end: true, cell: ({ good }) => good },
              { head: 'All', end: true, cell: ({ total }) => total },
              { head: 'Burn rate', end: true, cell: ({ burnRate }) => times(burnRate) },
            ]}
          />
        </Panel>
      </div>
      {slo.adjustments !== undefined && slo.adjustments.length > 0 && (
        <Panel title="Maintenance and adjustments" id="adjustments">
          <Table
            caption="What was taken out of the budget, by whom and why"
            rows={slo.adjustments}
            keyOf={({ id }) => id}
            none="None."
            columns={[
              { head: 'Kind', cell: ({ kind, active }) => `${kind}${active ? ', now' : ''}` },
              { head: 'From', cell: ({ from }) => clock(from) },
              { head: 'To', cell: ({ to }) => clock(to) },
              { head: 'Author', cell: ({ author }) => author },
              { head: 'Reason', wide: true, cell: ({ reason }) => reason },
            ]}
          />
        </Panel>
      )}
    </>
  );
}

const rateOf = (slo: Slo, window: string): number | null => slo.burn.find((burn) => burn.window === window)?.burnRate ?? null;

type Points = readonly (readonly [number, number])[];
const timeOf = ({ endsAt, periodSeconds, total }: SloSeries, at: number): number =>
  Date.parse(endsAt) / 1000 - periodSeconds + ((at + 1) / total.length) * periodSeconds;

function leftOf(series: SloSeries, target: number): Points {
  const allowed = series.total.reduce((sum, count) => sum + count, 0) * (1 - target);
  let spent = 0;
  return series.total.map((count, at) => {
    spent += count - (series.good[at] ?? 0);
    return [timeOf(series, at), allowed === 0 ? 1 : 1 - spent / allowed] as const;
  });
}
const burnOf = (series: SloSeries, target: number): Points =>
  series.total.map(
    (count, at) => [timeOf(series, at), count === 0 ? 0 : (count - (series.good[at] ?? 0)) / count / (1 - target)] as const,
  );
