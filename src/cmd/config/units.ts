/** Sizes and durations as people write them in buildkitd.toml. */
import { BuildError } from '../../core/errors.ts';

const SIZE_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 1e3,
  kb: 1e3,
  kib: 1024,
  m: 1e6,
  mb: 1e6,
  mib: 1024 ** 2,
  g: 1e9,
  gb: 1e9,
  gib: 1024 ** 3,
  t: 1e12,
  tb: 1e12,
  tib: 1024 ** 4,
};
const DURATION_NS: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };

/** Bytes, or a share of the disk that holds the state folder. */
export type DiskSpace =
  | { readonly kind: 'bytes'; readonly bytes: number }
  | { readonly kind: 'percent'; readonly percent: number };

/** A number of bytes, `10GB`, `512MiB` or `80%`. @throws BuildError `invalid-input`. */
export function parseDiskSpace(value: unknown): DiskSpace {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return { kind: 'bytes', bytes: value };
  if (typeof value === 'string') {
    const percent = /^(\d+(?:\.\d+)?)\s*%$/.exec(value.trim());
    if (percent !== null && Number(percent[1]) <= 100) return { kind: 'percent', percent: Number(percent[1]) };
    const size = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(value.trim());
    const unit = SIZE_UNITS[(size?.[2] ?? 'none').toLowerCase()];
    if (size !== null && unit !== undefined) return { kind: 'bytes', bytes: Math.round(Number(size[1]) * unit) };
  }
  throw new BuildError('invalid-input', `${JSON.stringify(value)} is not a size; expected bytes, "10GB" or "80%"`);
}

/** Whole seconds, or Go's duration syntax (`48h`, `1h30m`), as nanoseconds. @throws BuildError `invalid-input`. */
export function parseDuration(value: unknown): bigint {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return BigInt(value) * 1_000_000_000n;
  if (typeof value === 'string') {
    if (/^\d+$/.test(value)) return BigInt(value) * 1_000_000_000n;
    const pieces = [...value.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)];
    if (pieces.length > 0 && pieces.map(([text]) => text).join('') === value) {
      return pieces.reduce(
        (sum, [, amount = '0', unit = 's']) => sum + BigInt(Math.round(Number(amount) * (DURATION_NS[unit] ?? 0))),
        0n,
      );
    }
  }
  throw new BuildError('invalid-input', `${JSON.stringify(value)} is not a duration; expected seconds or "48h"`);
}

/** Bytes in the largest binary-free unit that keeps it short, as BuildKit's clients print them: `1.234GB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(2)}${units[unit]}`;
}
