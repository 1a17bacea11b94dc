/** The first minute: does it hold, what fires, what runs, how full is it. */
import type { Alert, BuildSummary, Slo, SloSeries, Status } from '../../api/model.ts';
import { type Feed, useGet } from '../api.ts';
import { ago, bytes, duration, percent, plural, times } from '../format.ts';
import { href } from '../route.ts';
import { BurnChart } from '../spark.tsx';
import { Figure, Heading, Meter, Panel, State, type Tone, toneOf } from '../ui.tsx';
import { AlertList } from './alert-list.tsx';
import { BuildTable } from './build-table.tsx';

export function Overview({ feed }: { readonly feed: Feed }) {
  const status = feed.values.get('status') as Status | undefined;
  const report = feed.values.get('slo') as { readonly objectives: readonly Slo[]; readonly generatedAt: string } | undefined;
  const alerts = feed.values.get('alerts') as readonly Alert[] | undefined;
  const builds = (feed.values.get('builds') as readonly BuildSummary[] | undefined) ?? [];
  if (status === undefined || report === undefined)
    return (
      <>
        <Heading>Overview</Heading>
        <p class="none">{feed.state === 'lost' ? 'The daemon does not answer.' : 'Loading…'}</p>
      </>
    );
  return (
    <>
      <div class="title">
        <Heading>Overview</Heading>
        <p class="verdict">{verdictOf(status, report.objectives, alerts ?? [])}</p>
      </div>
      {alerts !== undefined && alerts.length > 0 && (
        <Panel title="Firing alerts" id="firing" aside={<a href="#/alerts">with runbooks</a>}>
          <AlertList alerts={alerts} />
        </Panel>
      )}
      <Vitals status={status} />
      <Panel title="Objectives" id="objectives" aside={<span>bars: burn per part of the period · line: budget left</span>}>
        <ul class="objectives">
          {report.objectives.map((slo) => (
            <Objective key={slo.name} slo={slo} at={report.generatedAt.slice(0, 16)} />
          ))}
        </ul>
        {report.objectives.length === 0 && <p class="none">No objectives are configured.</p>}
      </Panel>
      <Panel title="Builds" id="newest" aside={<a href="#/builds">all builds</a>}>
        <BuildTable
          builds={builds}
          caption="Running and newest builds"
          none="No builds yet. Connect a client to one of the addresses below."
        />
      </Panel>
      {status.breakers.length > 0 && (
        <Panel title="Remote caches" id="breakers">
          <ul class="plain">
            {status.breakers.map((breaker) => (
              <li key={breaker.name}>
                <State state={breaker.state} label={`breaker ${breaker.state}`} /> <code>{breaker.name}</code>{' '}
                <span class="note">
                  {breaker.since !== undefined && `since ${ago(breaker.since)}`} {breaker.detail}
                </span>
              </li>
            ))}
          </ul>
        </Panel>
      )}
    </>
  );
}

/** One sentence an operator can read aloud. */
function verdictOf(status: Status, objectives: readonly Slo[], alerts: readonly Alert[]): string {
  const { running, queued } = status.builds;
  const bad = objectives.filter(({ state }) => toneOf(state) === 'bad' || toneOf(state) === 'warn');
  const slo =
    bad.length > 0
      ? `${plural(bad.length, 'objective')} at risk: ${bad.map(({ title }) => title.toLowerCase()).join(', ')}.`
      : objectives.every(({ state }) => state === 'idle')
        ? 'No objective has events yet.'
        : 'Every objective holds.';
  const work =
    running === 0 && queued === 0
      ? 'No build is running.'
      : `${plural(running, 'build')} running, ${queued === 0 ? 'none' : queued} waiting.`;
  return `${alerts.length === 0 ? 'Nothing fires.' : `${plural(alerts.length, 'alert')} firing.`} ${slo} ${work}`;
}

const fullness = (share: number): Tone => (share > 0.97 ? 'bad' : share > 0.85 ? 'warn' : 'busy');

function Vitals({ status }: { readonly status: Status }) {
  const { builds, slots, cache, canary, breakers } = status;
  const used = cache.diskBytes === 0 ? 0 : 1 - cache.diskFreeBytes / cache.diskBytes;
  const open = breakers.filter(({ state }) => state !== 'closed').length;
  return (
    <dl class="vitals">
      <Figure
        label="Builds"
        value={`${builds.running} running`}
        note={
          builds.queued === 0
            ? `none waiting, ${builds.limit} at once`
            : `${builds.queued} waiting, the oldest ${duration(builds.oldestQueuedSeconds * 1000)}`
        }
      />
      <Figure
        label="RUN slots"
        value={`${slots.busy} of ${slots.limit}`}
        note={
          <Meter
            share={slots.busy / Math.max(1, slots.limit)}
            label={`${slots.busy} of ${slots.limit} slots busy, ${slots.waiting} steps waiting`}
          />
        }
      />
      <Figure
        label="Cache"
        value={bytes(cache.bytes)}
        note={
          cache.limitBytes === 0 ? (
            'no limit'
          ) : (
            <>
              <Meter share={cache.bytes / cache.limitBytes} label={`${percent(cache.bytes / cache.limitBytes)} of the limit`} />
              of {bytes(cache.limitBytes)}
            </>
          )
        }
      />
      <Figure
        label="Disk"
        value={`${bytes(cache.diskFreeBytes)} free`}
        note={<Meter share={used} tone={fullness(used)} label={`${percent(used)} of the disk is used`} />}
      />
      <Figure
        label="Remote caches"
        value={breakers.length === 0 ? 'none used' : open === 0 ? 'all answer' : `${open} not used`}
        note={breakers.length === 0 ? 'since the start' : `${plural(breakers.length, 'breaker')}`}
      />
      <Figure
        label="Canary"
        value={canary === undefined ? 'no run yet' : <State state={canary.state} />}
        note={canary === undefined ? 'since the start' : `${ago(canary.lastAt)}, ${duration(canary.durationMs)}`}
      />
      <Figure label="Up" value={ago(status.startedAt).replace(' ago', '')} note={plural(status.sessions, 'session')} />
    </dl>
  );
}

const WINDOWS = ['1h', '6h', '1d'];

function Objective({ slo, at }: { readonly slo: Slo; readonly at: string }) {
  const series = useGet<SloSeries>(`/slo/${encodeURIComponent(slo.name)}/series?parts=112`, at);
  const firing = slo.pairs.filter((pair) => pair.firing);
  return (
    <li class={`objective ${toneOf(slo.state)}`}>
      <div class="line">
        <h3>
          <a href={href(['slo', slo.name])}>{slo.title}</a>
        </h3>
        <State state={slo.state} />
      </div>
      <div class="budget">
        <b>{percent(Math.max(0, slo.budgetLeft), 0)}</b> of the budget left
      </div>
      {series.state === 'ready' ? (
        <BurnChart series={series.value} target={slo.target} events={slo.events} />
      ) : (
        <div class="burn" aria-hidden="true" />
      )}
      <p class="numbers">
        <span>
          {percent(slo.achieved, 2)} of {plural(slo.total, slo.events.replace(/s$/, ''))}, target {percent(slo.target, 2)} in{' '}
          {slo.period}
        </span>
        <span>
          {slo.burn
            .filter(({ window }) => WINDOWS.includes(window))
            .map(({ window, burnRate }) => `${window} ${times(burnRate)}`)
            .join(' · ')}
        </span>
      </p>
      {firing.map((pair) => (
        <p key={`${pair.long} ${pair.short} ${pair.severity}`} class="note">
          {pair.severity}: {pair.long} and {pair.short} burn above {times(pair.factor)}
        </p>
      ))}
      {slo.exhaustsInSeconds != null && slo.budgetLeft > 0 && (
        <p class="note">at the pace of the last hour the budget lasts {duration(slo.exhaustsInSeconds * 1000)}</p>
      )}
      {slo.note !== undefined && <p class="note">{slo.note}</p>}
    </li>
  );
}
