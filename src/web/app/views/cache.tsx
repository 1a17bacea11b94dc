/** The cache: how full, of what, how it grows, what collection did and would do. */
import { useState } from 'preact/hooks';
import type { Cache as CacheDocument, CacheRecord, GcPlan } from '../../api/model.ts';
import { useGet } from '../api.ts';
import { bytes, duration, percent, plural } from '../format.ts';
import { Await, Figure, Heading, Meter, Panel, State, Table, Time } from '../ui.tsx';
import { Action } from './actions.tsx';
import { LineChart } from './line-chart.tsx';

export function Cache({ writable }: { readonly writable: boolean }) {
  const [turn, setTurn] = useState(0);
  const loaded = useGet<CacheDocument>('/cache', turn);
  const plan = useGet<GcPlan>('/gc/plan', turn);
  const records = useGet<{ readonly total: number; readonly records: readonly CacheRecord[] }>('/cache/records?limit=50', turn);
  const again = (): void => setTurn((now) => now + 1);
  return (
    <>
      <div class="title">
        <Heading>Cache</Heading>
        <div class="actions">
          <Action
            label="Run collection"
            title="Run garbage collection now?"
            path="/gc/run"
            writable={writable}
            onDone={again}
            done={(answer) => {
              const run = answer as { readonly freedBytes: number; readonly removedRecords: number };
              return `Removed ${plural(run.removedRecords, 'record')}, ${bytes(run.freedBytes)}.`;
            }}
          >
            <p>The policies are applied as after a build; what they would remove is listed on this page.</p>
          </Action>
          <Action
            label="Prune everything unused"
            title="Remove every record that nothing uses?"
            path="/cache/prune"
            writable={writable}
            onDone={again}
            done={(answer) => {
              const { removed, bytes: freed } = answer as { readonly removed: number; readonly bytes: number };
              return `Removed ${plural(removed, 'record')}, ${bytes(freed)}.`;
            }}
          >
            <p>The next builds run their steps again. Running builds keep what they use.</p>
          </Action>
        </div>
      </div>
      <Await of={loaded}>{(cache) => <Shown cache={cache} />}</Await>
      <Panel title="What a collection would remove now" id="plan">
        <Await of={plan}>
          {({ bytes: freed, removals, kept, daysToFull }) => (
            <>
              <p class="note">
                {plural(removals.length, 'record')}, {bytes(freed)}.{' '}
                {daysToFull !== undefined && `At the present pace the disk is full in ${daysToFull.toFixed(1)} days.`}
              </p>
              <Table
                caption="Records that would go, in order"
                rows={removals.slice(0, 100)}
                keyOf={({ id }) => id}
                none="Nothing would go."
                columns={[
                  { head: 'Record', wide: true, cell: (record) => record.description || record.id },
                  { head: 'Kind', cell: ({ kind }) => kind },
                  { head: 'Why', cell: ({ policy, rule }) => `policy ${policy}: ${rule}` },
                  { head: 'Last used', end: true, cell: ({ lastUsedAt, createdAt }) => <Time at={lastUsedAt ?? createdAt} /> },
                  { head: 'Size', end: true, cell: (record) => bytes(record.bytes) },
                ]}
              />
              <p class="note kept">
                {kept.length > 0 &&
                  `Stays: ${kept.map((part) => `${plural(part.records, 'record')}, ${bytes(part.bytes)}, ${part.reason}`).join('; ')}.`}
              </p>
            </>
          )}
        </Await>
      </Panel>
      <Panel title="Largest records" id="records">
        <Await of={records}>
          {({ total, records: list }) => (
            <>
              <Table
                caption="Cache records, largest first"
                rows={list}
                keyOf={({ id }) => id}
                none="The cache is empty."
                columns={[
                  { head: 'Record', wide: true, cell: (record) => record.description || record.id },
                  { head: 'Kind', cell: ({ kind }) => kind },
                  { head: 'Uses', end: true, cell: ({ uses }) => uses },
                  { head: 'In use', cell: ({ inUse }) => (inUse ? 'yes' : 'no') },
                  { head: 'Last used', end: true, cell: ({ lastUsedAt, createdAt }) => <Time at={lastUsedAt ?? createdAt} /> },
                  { head: 'Size', end: true, cell: (record) => bytes(record.bytes) },
                ]}
              />
              {total > list.length && <p class="note">and {total - list.length} smaller ones</p>}
            </>
          )}
        </Await>
      </Panel>
    </>
  );
}

function Shown({ cache }: { readonly cache: CacheDocument }) {
  const { kinds, growth, runs, policies, disk } = cache;
  const records = kinds.reduce((sum, kind) => sum + kind.records, 0);
  const inUse = kinds.reduce((sum, kind) => sum + kind.inUse, 0);
  const points = growth.map(({ at, bytes: size }) => [Date.parse(at) / 1000, size] as const);
  return (
    <>
      <dl class="vitals">
        <Figure
          label="Size"
          value={bytes(cache.bytes)}
          note={
            cache.limitBytes === 0 ? (
              'no limit'
            ) : (
              <Meter share={cache.bytes / cache.limitBytes} label={`${percent(cache.bytes / cache.limitBytes)} of the limit`} />
            )
          }
        />
        <Figure label="Limit" value={cache.limitBytes === 0 ? 'none' : bytes(cache.limitBytes)} />
        <Figure label="Records" value={records} note={`${inUse} in use`} />
        <Figure label="Disk" value={`${bytes(disk.freeBytes)} free`} note={`of ${bytes(disk.totalBytes)}`} />
        <Figure
          label="Last collection"
          value={runs[0] === undefined ? 'none yet' : <Time at={runs[0].at} />}
          note={runs[0] === undefined ? 'since the start' : bytes(runs[0].freedBytes)}
        />
      </dl>
      <div class="halves">
        <Panel title="By kind" id="kinds">
          <Table
            caption="Cache by kind of record"
            rows={kinds}
            keyOf={({ kind }) => kind}
            none="The cache is empty."
            columns={[
              { head: 'Kind', cell: ({ kind }) => kind },
              { head: 'Records', end: true, cell: (kind) => kind.records },
              { head: 'In use', end: true, cell: (kind) => kind.inUse },
              {
                head: 'Share',
                wide: true,
                cell: (kind) => (
                  <Meter
                    share={kind.bytes / Math.max(1, cache.bytes)}
                    label={percent(kind.bytes / Math.max(1, cache.bytes), 0)}
                  />
                ),
              },
              { head: 'Size', end: true, cell: (kind) => bytes(kind.bytes) },
            ]}
          />
        </Panel>
        <Panel title="Growth" id="growth" aside={<span>since the daemon started</span>}>
          {points.length < 2 ? (
            <p class="none">A sample is taken every five minutes; two are needed.</p>
          ) : (
            <LineChart
              title="Size of the cache"
              points={points}
              format={bytes}
              {...(cache.limitBytes > 0 ? { limit: cache.limitBytes } : {})}
            />
          )}
        </Panel>
      </div>
      <div class="halves">
        <Panel title="Collection runs" id="runs">
          <Table
            caption="Garbage collection runs, newest first"
            rows={runs}
            keyOf={({ at }) => at}
            none="None since the daemon started."
            columns={[
              { head: 'When', cell: ({ at }) => <Time at={at} /> },
              { head: 'Trigger', cell: ({ trigger }) => trigger },
              { head: 'Result', cell: ({ ok, error }) => <State state={ok ? 'ok' : 'error'} label={error ?? 'ok'} /> },
              { head: 'Took', end: true, cell: ({ seconds }) => duration(seconds * 1000) },
              { head: 'Removed', end: true, cell: ({ removedRecords }) => removedRecords },
              { head: 'Freed', end: true, cell: ({ freedBytes }) => bytes(freedBytes) },
            ]}
          />
        </Panel>
        <Panel title="Policies, in order" id="policies">
          <Table
            caption="Garbage collection policies"
            rows={policies.map((policy, at) => ({ ...policy, at: at + 1 }))}
            keyOf={({ at }) => String(at)}
            none="Collection is off."
            columns={[
              { head: '#', cell: ({ at }) => at },
              {
                head: 'Applies to',
                wide: true,
                cell: ({ filters, all }) =>
                  `${filters.length === 0 ? 'every record' : filters.join(' or ')}${all ? ', internal ones too' : ''}`,
              },
              {
                head: 'Keep for',
                end: true,
                cell: ({ keepSeconds }) => (keepSeconds === 0 ? '–' : duration(keepSeconds * 1000)),
              },
              { head: 'Max used', end: true, cell: ({ maxUsedBytes }) => (maxUsedBytes === 0 ? '–' : bytes(maxUsedBytes)) },
              { head: 'Min free', end: true, cell: ({ minFreeBytes }) => (minFreeBytes === 0 ? '–' : bytes(minFreeBytes)) },
            ]}
          />
        </Panel>
      </div>
    </>
  );
}
