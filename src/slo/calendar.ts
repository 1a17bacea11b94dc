/**
 * Calendar windows: where the current one began and ends, in an IANA time zone. Local midnights are found through Intl, so a day of
 * a clock change has 23 or 25 hours, and a midnight that does not exist moves to the first moment after the gap.
 */
import type { CalendarWindow } from './spec.ts';

/** Nominal lengths, for the factors of burn-rate pairs. */
export const UNIT_DAYS: Readonly<Record<CalendarWindow['unit'], number>> = { day: 1, week: 7, month: 30, quarter: 90, year: 365 };

export interface Span {
  /** Seconds since the Unix epoch. */
  readonly fromS: number;
  /** Exclusive. */
  readonly toS: number;
}

/** What is wrong with a calendar window, or undefined. */
export function calendarProblem({
  count,
  start,
  timeZone,
}: CalendarWindow): { readonly field: string; readonly message: string; readonly fix: string } | undefined {
  if (!(Number.isInteger(count) && count >= 1))
    return { field: 'count', message: `${count} is not a number of units`, fix: 'use 1' };
  if (parseStart(start) === undefined) return { field: 'start', message: `"${start}" is not a date`, fix: 'write YYYY-MM-DD' };
  try {
    new Intl.DateTimeFormat('en-US', { timeZone });
    return undefined;
  } catch {
    return { field: 'timeZone', message: `"${timeZone}" is not a time zone`, fix: 'use an IANA name such as Europe/Berlin' };
  }
}

interface LocalTime {
  readonly year: number;
  /** 1 to 12; may lie outside while counting. */
  readonly month: number;
  readonly day: number;
  readonly hour: number;
  readonly minute: number;
}

function parseStart(text: string): LocalTime | undefined {
  const match = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::\d\d)?)?$/.exec(text);
  if (match === null) return undefined;
  const [year, month, day, hour, minute] = match.slice(1).map((digits) => Number(digits ?? 0)) as [
    number,
    number,
    number,
    number,
    number,
  ];
  const date = new Date(Date.UTC(year, month - 1, day, hour, minute));
  const same = date.getUTCMonth() === month - 1 && date.getUTCDate() === day && date.getUTCHours() === hour && minute < 60;
  return same ? { year, month, day, hour, minute } : undefined;
}

/** The window that holds `nowS`. Throws on a window that calendarProblem refuses. */
export function spanAt(window: CalendarWindow, nowS: number): Span {
  const problem = calendarProblem(window);
  const start = parseStart(window.start);
  if (problem !== undefined || start === undefined) throw new Error(`calendar window: ${problem?.message}`);
  const zone = zoneOf(window.timeZone);
  const boundary = (index: number): number => instantOf(shifted(start, window, index), zone);
  // A first guess by average length, then steps of one: the guess is off by one at most.
  let index = Math.floor((nowS - boundary(0)) / (averageDays(window) * 86_400));
  while (boundary(index) > nowS) index--;
  while (boundary(index + 1) <= nowS) index++;
  return { fromS: boundary(index), toS: boundary(index + 1) };
}

const AVERAGE_DAYS: Readonly<Record<CalendarWindow['unit'], number>> = {
  day: 1,
  week: 7,
  month: 30.436875,
  quarter: 91.310625,
  year: 365.2425,
};
const averageDays = ({ unit, count }: CalendarWindow): number => AVERAGE_DAYS[unit] * count;

/** A start on the 31st is the last day of a shorter month, and the 31st again after it. */
function shifted(start: LocalTime, { unit, count }: CalendarWindow, index: number): LocalTime {
  const units = count * index;
  if (unit === 'day' || unit === 'week') return { ...start, day: start.day + units * UNIT_DAYS[unit] };
  const months = start.month - 1 + units * (unit === 'month' ? 1 : unit === 'quarter' ? 3 : 12);
  const year = start.year + Math.floor(months / 12);
  const month = (((months % 12) + 12) % 12) + 1;
  const lastDay = new Date(Date.UTC(year, month, 0)).getUTCDate();
  return { ...start, year, month, day: Math.min(start.day, lastDay) };
}

type OffsetAt = (seconds: number) => number;

/** Seconds since the epoch of a local time. One that falls into a gap is the first moment after it; one that exists twice, the first. */
function instantOf({ year, month, day, hour, minute }: LocalTime, offsetAt: OffsetAt): number {
  const wall = Date.UTC(year, month - 1, day, hour, minute) / 1000;
  const candidates = [offsetAt(wall - 86_400), offsetAt(wall + 86_400)].map((offset) => wall - offset);
  const exact = candidates.filter((instant) => instant + offsetAt(instant) === wall);
  return exact.length > 0 ? Math.min(...exact) : endOfGap(candidates, offsetAt);
}

/** The moment the offset changes between the two readings of a local time that does not exist. */
function endOfGap(candidates: readonly number[], offsetAt: OffsetAt): number {
  let [low, high] = [Math.min(...candidates), Math.max(...candidates)];
  const before = offsetAt(low);
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (offsetAt(middle) === before) low = middle;
    else high = middle;
  }
  return high;
}

const zones = new Map<string, OffsetAt>();

/** Seconds a zone is ahead of UTC at an instant. */
function zoneOf(timeZone: string): OffsetAt {
  const cached = zones.get(timeZone);
  if (cached !== undefined) return cached;
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    hourCycle: 'h23',
    ...{ year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric', second: 'numeric' },
  });
  const offsetAt: OffsetAt = (seconds) => {
    const parts = new Map(format.formatToParts(seconds * 1000).map(({ type, value }) => [type, Number(value)]));
    const part = (type: Intl.DateTimeFormatPartTypes): number => parts.get(type) ?? 0;
    const wall = Date.UTC(part('year'), part('month') - 1, part('day'), part('hour'), part('minute'), part('second')) / 1000;
    return wall - seconds;
  };
  zones.set(timeZone, offsetAt);
  return offsetAt;
}
