/** Windows of time as text (`5m`, `1h`, `28d`): the ladder burn rates are looked at over, and their length in seconds. */

/** A whole number and a unit, as Prometheus writes a range. */
export type WindowName = `${number}${'s' | 'm' | 'h' | 'd' | 'w'}`;

const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };
const known = new Map<string, number>();

/** Length in seconds. Throws on anything but a positive whole number with a unit (isWindow tells before). */
export function secondsOf(window: WindowName): number {
  const cached = known.get(window);
  if (cached !== undefined) return cached;
  const parsed = parse(window);
  if (parsed === undefined) throw new Error(`"${window}" is not a window; expected a whole number and one of s, m, h, d, w`);
  known.set(window, parsed);
  return parsed;
}

export const isWindow = (text: string): text is WindowName => parse(text) !== undefined;

function parse(text: string): number | undefined {
  const [, digits = '', unit = ''] = /^([1-9]\d{0,8})([smhdw])$/.exec(text) ?? [];
  const factor = UNIT_SECONDS[unit];
  return factor === undefined ? undefined : Number(digits) * factor;
}

/** The largest unit that says it exactly: 172800 is `2d`. */
export function windowOfSeconds(seconds: number): WindowName {
  for (const unit of ['d', 'h', 'm'] as const) {
    const size = UNIT_SECONDS[unit] ?? 1;
    if (seconds % size === 0) return `${seconds / size}${unit}`;
  }
  return `${seconds}s`;
}

/** Windows every objective is looked at over, as far as they fit into its period. */
export const LADDER: readonly WindowName[] = ['5m', '30m', '1h', '2h', '6h', '1d', '3d', '7d', '28d', '30d', '90d'];

export const ascending = (windows: Iterable<WindowName>): WindowName[] =>
  [...new Map([...windows].map((window) => [secondsOf(window), window])).entries()]
    .sort(([a], [b]) => a - b)
    .map(([, name]) => name);
