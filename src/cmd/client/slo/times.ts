/** Times on the command line: RFC 3339, a day, or how long ago. */
import { BuildError } from '../../../core/errors.ts';
import { parseDuration } from '../../config/units.ts';

/** Seconds since the Unix epoch. @throws BuildError `invalid-input` naming the flag. */
export function timeOf(flag: string, text: string, nowMs = Date.now()): number {
  if (/^\d{4}-\d\d-\d\d/.test(text)) {
    const ms = Date.parse(text);
    if (!Number.isNaN(ms)) return Math.floor(ms / 1000);
  } else if (text === 'now') return Math.floor(nowMs / 1000);
  else {
    const days = /^(\d+(?:\.\d+)?)([dw])$/.exec(text);
    if (days !== null) return Math.floor(nowMs / 1000 - Number(days[1]) * (days[2] === 'w' ? 604_800 : 86_400));
    try {
      return Math.floor(nowMs / 1000 - Number(parseDuration(text) / 1_000_000_000n));
    } catch {
      // said below, with the flag
    }
  }
  throw new BuildError('invalid-input', `--${flag} ${text} is neither a time nor a duration`, {
    hint: 'write 2026-01-31T12:00:00Z, 2026-01-31, or 7d for that long ago',
  });
}

/** Length in seconds: `90m`, `2d`. @throws BuildError `invalid-input`. */
export const lengthOf = (flag: string, text: string): number => -timeOf(flag, text, 0);

export const rfc3339 = (seconds: number): string => new Date(seconds * 1000).toISOString().replace('.000Z', 'Z');
