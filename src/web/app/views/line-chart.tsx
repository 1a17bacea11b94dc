/** A line over time with axes and a legend that follows the pointer; uPlot, in the colours of the page. */
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';

export interface LineChartProps {
  readonly title: string;
  /** Seconds since the Unix epoch, value. */
  readonly points: readonly (readonly [number, number])[];
  readonly format: (value: number) => string;
  /** The scale reaches at least this high; it always holds 0. */
  readonly top?: number;
  /** Drawn as a second, dashed line. */
  readonly limit?: number;
  readonly limitLabel?: string;
}

export function LineChart(props: LineChartProps) {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    const draw = (): uPlot => plot(element, props);
    let chart = draw();
    const redraw = (): void => {
      chart.destroy();
      chart = draw();
    };
    const sizes = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height: HEIGHT }));
    const themes = new MutationObserver(redraw); // canvas does not follow the style sheet by itself
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    sizes.observe(element);
    themes.observe(document.documentElement, { attributes: true, attributeFilter: ['data-theme'] });
    scheme.addEventListener('change', redraw);
    return () => {
      sizes.disconnect();
      themes.disconnect();
      scheme.removeEventListener('change', redraw);
      chart.destroy();
    };
  }, [props]);
  const last = props.points.at(-1);
  const summary = `${props.title}: ${last === undefined ? 'no values' : `${props.format(last[1])} at the end`}`;
  return <div class="chart" role="img" aria-label={summary} ref={box} />;
}

const HEIGHT = 180;

function plot(element: HTMLElement, { title, points, format, top, limit, limitLabel }: LineChartProps): uPlot {
  const style = getComputedStyle(element);
  const color = (name: string): string => style.getPropertyValue(name).trim();
  // light-dark() is resolved where it is used: on an element, not on the variable
  const probe = element.appendChild(document.createElement('i'));
  const resolved = (name: string): string => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color || color(name);
  };
  const [ink, line, grid, accent, warn] = ['--soft', '--line', '--line', '--accent', '--bad'].map(resolved);
  probe.remove();
  const axis: uPlot.Axis = {
    stroke: ink ?? '',
    grid: { stroke: grid ?? '', width: 1 },
    ticks: { stroke: line ?? '', width: 1 },
    font: '11px system-ui, sans-serif',
  };
  const series: uPlot.Series[] = [
    {},
    { label: title, stroke: accent ?? '', width: 1.5, value: (_, value) => (value === null ? '–' : format(value)) },
    ...(limit === undefined
      ? []
      : [{ label: limitLabel ?? 'limit', stroke: warn ?? '', width: 1, dash: [5, 4], value: () => format(limit) }]),
  ];
  const data: uPlot.AlignedData = [
    points.map(([at]) => at),
    points.map(([, value]) => value),
    ...(limit === undefined ? [] : [points.map(() => limit)]),
  ];
  const values = (_: uPlot, splits: number[]): string[] => splits.map(format);
  const options: uPlot.Options = {
    width: element.clientWidth,
    height: HEIGHT,
    series,
    axes: [axis, { ...axis, size: 72, values }],
    scales: { y: { range: (_, low, high) => [Math.min(0, low), Math.max(top ?? 0, limit ?? 0, high) * 1.04 || 1] } },
    cursor: { y: false },
  };
  return new uPlot(options, data, element);
}
