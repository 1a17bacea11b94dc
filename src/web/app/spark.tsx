/** Small charts drawn as SVG paths: no library, no canvas, crisp on every screen. */
import type { SloSeries } from '../api/model.ts';
import { percent, plural } from './format.ts';

const W = 300;
const H = 64;

/** Bars of how fast the budget was spent in each part of the period (1 is the even pace), and the line of what was left. */
export function BurnChart({
  series,
  target,
  events,
}: {
  readonly series: SloSeries;
  readonly target: number;
  readonly events: string;
}) {
  const { good, total } = series;
  const whole = total.reduce((sum, count) => sum + count, 0);
  const allowed = whole * (1 - target);
  const step = W / total.length;
  let spent = 0;
  const left = total.map((count, at) => {
    spent += count - (good[at] ?? 0);
    return allowed === 0 ? 1 : Math.max(0, 1 - spent / allowed);
  });
  const burn = total.map((count, at) => (count === 0 ? 0 : (count - (good[at] ?? 0)) / count / (1 - target)));
  const bars = burn
    .map((rate, at) => {
      const height = Math.min(1, Math.sqrt(rate) / 4) * (H - 6); // 16 times the even pace fills the chart
      return rate === 0 ? '' : `M${at * step} ${H}v${-height}h${Math.max(step - 0.5, 0.8)}v${height}z`;
    })
    .join('');
  const seen = total.map((count, at) => (count === 0 ? '' : `M${at * step} ${H}v-2h${Math.max(step - 0.5, 0.8)}v2z`)).join('');
  const line = left.map((share, at) => `${at === 0 ? 'M' : 'L'}${(at + 0.5) * step} ${3 + (1 - share) * (H - 6)}`).join('');
  const bad = whole - good.reduce((sum, count) => sum + count, 0);
  return (
    <svg
      class="burn"
      viewBox={`0 0 ${W} ${H}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={`${bad} bad of ${plural(whole, events.replace(/s$/, ''))} over the period; ${percent(left.at(-1) ?? 1)} of the budget left`}
    >
      <path class="axis" d={`M0 ${H - 0.5}H${W}M0 ${H / 2}H${W}M0 3.500H${W}`} />
      <path class="seen" d={seen} />
      <path class="bad" d={bars} />
      <path class="left" d={line} />
    </svg>
  );
}

/** Lengths of past runs as columns, oldest first; the last one stands out. */
export function Columns({ values, label }: { readonly values: readonly number[]; readonly label: string }) {
  const most = Math.max(1, ...values);
  const width = 5;
  return (
    <svg class="columns" width={Math.max(1, values.length) * width} height="20" role="img" aria-label={label}>
      {values.map((value, at) => {
        const height = Math.max(1, (value / most) * 20);
        return (
          <rect
            key={at}
            class={at === values.length - 1 ? 'last' : ''}
            x={at * width}
            y={20 - height}
            width={width - 1}
            height={height}
          />
        );
      })}
    </svg>
  );
}

/** How many steps ran at each moment, over the same time axis as the waterfall. */
export function Parallelism({
  steps,
  endMs,
}: {
  readonly steps: readonly { readonly startMs: number; readonly endMs: number }[];
  readonly endMs: number;
}) {
  const parts = 240;
  const counts = new Float64Array(parts + 1);
  for (const { startMs, endMs: end } of steps) {
    const from = Math.min(parts - 1, Math.floor((startMs / endMs) * parts));
    const to = Math.min(parts - 1, Math.floor((end / endMs) * parts));
    if (end - startMs < 1) continue;
    counts[from] = (counts[from] ?? 0) + 1;
    counts[to + 1] = (counts[to + 1] ?? 0) - 1;
  }
  let running = 0;
  const levels = Array.from(counts.subarray(0, parts), (change) => {
    running += change;
    return running;
  });
  const most = Math.max(1, ...levels);
  const path = levels.map((level, at) => `L${at} ${32 - (level / most) * 30}H${at + 1}`).join('');
  return (
    <figure class="parallelism">
      <figcaption>
        Steps at once <b>{most} at most</b>
      </figcaption>
      <svg viewBox={`0 0 ${parts} 32`} preserveAspectRatio="none" role="img" aria-label={`At most ${most} steps ran at once`}>
        <path d={`M0 32${path}V32Z`} />
      </svg>
    </figure>
  );
}
