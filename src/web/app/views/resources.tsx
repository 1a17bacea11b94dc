/** What a step's processes used while they ran: memory against its limit, and cores. */
import type { StepResources } from '../../api/model.ts';
import { bytes } from '../format.ts';

type Point = readonly [atMs: number, value: number];

export function Resources({ resources }: { readonly resources: StepResources }) {
  const { samples, memoryLimitBytes } = resources;
  const memory = samples.flatMap(({ timestamp, memoryStat }): Point[] =>
    timestamp === undefined || memoryStat?.current === undefined ? [] : [[Date.parse(timestamp), memoryStat.current]],
  );
  const cpu = samples.flatMap(({ timestamp, cpuStat }): Point[] =>
    timestamp === undefined || cpuStat?.usageNanos === undefined ? [] : [[Date.parse(timestamp), cpuStat.usageNanos / 1e6]],
  );
  const cores = cpu.slice(1).flatMap(([atMs, usedMs], at): Point[] => {
    const [beforeMs, before] = cpu[at] ?? [atMs, usedMs];
    return atMs > beforeMs ? [[atMs, (usedMs - before) / (atMs - beforeMs)]] : [];
  });
  return (
    <>
      <Curve title="Memory" points={memory} format={bytes} limit={memoryLimitBytes} />
      <Curve title="Cores" points={cores} format={(value) => value.toFixed(1)} limit={undefined} />
    </>
  );
}

function Curve(props: {
  readonly title: string;
  readonly points: readonly Point[];
  readonly format: (value: number) => string;
  readonly limit: number | undefined;
}) {
  const { title, points, format, limit } = props;
  const [first, last] = [points[0], points.at(-1)];
  if (first === undefined || last === undefined || points.length < 2) return null;
  const most = Math.max(...points.map(([, value]) => value));
  const top = Math.max(most, limit !== undefined && limit < most * 3 ? limit : 0, 1e-9);
  const x = (atMs: number): number => ((atMs - first[0]) / Math.max(1, last[0] - first[0])) * 300;
  const y = (value: number): number => 42 - (value / top) * 40;
  const line = points.map(([atMs, value], at) => `${at === 0 ? 'M' : 'L'}${x(atMs)} ${y(value)}`).join('');
  const text = `${format(most)} at most${limit === undefined ? '' : `, limit ${format(limit)}`}`;
  return (
    <figure class="resource">
      <figcaption>
        {title}: {text}
      </figcaption>
      <svg viewBox="0 0 300 44" preserveAspectRatio="none" role="img" aria-label={`${title} over time: ${text}`}>
        <path d={`${line}L300 43L0 43Z`} />
        {limit !== undefined && limit <= top && <path class="limit" d={`M0 ${y(limit)}H300`} />}
      </svg>
    </figure>
  );
}
