/** Numbers as people read them. Every figure keeps its unit; nothing is rounded into a better one (99.999 % never reads 100 %). */

export function duration(ms: number | undefined): string {
  if (ms === undefined) return '–';
  if (ms < 1) return ms === 0 ? '0 ms' : '<1 ms';
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(2)} s`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms >= 172_800_000) return `${Math.round(ms / 86_400_000)} d`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ${Math.floor((ms % 60_000) / 1000)} s`;
  return `${Math.floor(ms / 3_600_000)} h ${Math.floor((ms % 3_600_000) / 60_000)} min`;
}

export function bytes(count: number | undefined): string {
  if (count === undefined) return '–';
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let at = 0;
  let value = count;
  while (Math.abs(value) >= 1000 && at < units.length - 1) {
    value /= 1000;
    at += 1;
  }
  return `${at === 0 ? value : value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${units[at]}`;
}

export function percent(ratio: number | null | undefined, digits = 1): string {
  if (ratio === null || ratio === undefined) return '–';
  const scale = 10 ** digits;
  const scaled = Math.round(ratio * 100 * scale);
  const kept = ratio < 1 && scaled >= 100 * scale ? 100 * scale - 1 : scaled;
  return `${kept / scale} %`;
}

export const times = (rate: number | null | undefined): string =>
  rate === null || rate === undefined ? '–' : `${rate >= 10 ? Math.round(rate) : Math.round(rate * 10) / 10}×`;

/** `12 s ago`, `3 h ago`. */
export function ago(time: string | undefined, nowMs = Date.now()): string {
  if (time === undefined) return 'never';
  const seconds = Math.max(0, Math.round((nowMs - Date.parse(time)) / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

export const clock = (time: string): string => time.slice(0, 19).replace('T', ' ');
export const plural = (count: number, word: string): string => `${count} ${word}${count === 1 ? '' : 's'}`;
export const shortRef = (ref: string): string => (ref.length > 12 ? ref.slice(0, 12) : ref);

/** Words of the record made readable: `input-changed` reads `input changed`. */
export const words = (text: string): string => text.replaceAll('-', ' ');
