import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fc } from '../../test/fixtures/property.ts';
import { spanAt } from './calendar.ts';
import type { CalendarWindow } from './spec.ts';

const at = (text: string): number => Date.parse(text) / 1000;
const text = (seconds: number): string => new Date(seconds * 1000).toISOString().replace('.000Z', 'Z');
const window = (unit: CalendarWindow['unit'], timeZone: string, start = '2026-01-01', count = 1): CalendarWindow => ({
  unit,
  count,
  start,
  timeZone,
});

// Window, a moment in it, and where it begins and ends.
for (const [what, of, moment, from, to] of [
  ['a UTC month', window('month', 'UTC'), '2026-02-10T12:00:00Z', '2026-02-01T00:00:00Z', '2026-03-01T00:00:00Z'],
  [
    'a month that loses an hour',
    window('month', 'Europe/Berlin'),
    '2026-03-31T21:59:59Z',
    '2026-02-28T23:00:00Z',
    '2026-03-31T22:00:00Z',
  ],
  ['a day of 23 hours', window('day', 'Europe/Berlin'), '2026-03-29T10:00:00Z', '2026-03-28T23:00:00Z', '2026-03-29T22:00:00Z'],
  [
    'a day of 25 hours',
    window('day', 'America/New_York'),
    '2026-11-01T12:00:00Z',
    '2026-11-01T04:00:00Z',
    '2026-11-02T05:00:00Z',
  ],
  [
    'a week from Monday',
    window('week', 'Asia/Kolkata', '2026-01-05'),
    '2026-11-21T08:00:00Z',
    '2026-11-15T18:30:00Z',
    '2026-11-22T18:30:00Z',
  ],
  ['a quarter', window('quarter', 'UTC'), '2026-11-21T08:00:00Z', '2026-10-01T00:00:00Z', '2027-01-01T00:00:00Z'],
  ['a leap year', window('year', 'UTC'), '2028-02-29T00:00:00Z', '2028-01-01T00:00:00Z', '2029-01-01T00:00:00Z'],
  ['a moment before the start', window('month', 'UTC'), '2024-02-29T00:00:00Z', '2024-02-01T00:00:00Z', '2024-03-01T00:00:00Z'],
  [
    'a month from the 31st',
    window('month', 'UTC', '2026-01-31'),
    '2026-03-01T00:00:00Z',
    '2026-02-28T00:00:00Z',
    '2026-03-31T00:00:00Z',
  ],
  [
    'a midnight that does not exist',
    window('day', 'America/Sao_Paulo', '2018-01-01'),
    '2018-11-04T12:00:00Z',
    '2018-11-04T03:00:00Z',
    '2018-11-05T02:00:00Z',
  ],
  ['two weeks', window('week', 'UTC', '2026-01-05', 2), '2026-01-18T23:59:59Z', '2026-01-05T00:00:00Z', '2026-01-19T00:00:00Z'],
] as const) {
  test(`${what} begins and ends where the calendar says`, () => {
    const span = spanAt(of, at(moment));
    assert.deepEqual([text(span.fromS), text(span.toS)], [from, to]);
  });
}

test('every moment is in exactly one window, and windows follow one another without a gap', () => {
  const zones = ['UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Kolkata', 'Australia/Lord_Howe', 'Pacific/Apia'];
  fc.assert(
    fc.property(
      fc.constantFrom(...zones),
      fc.constantFrom('day' as const, 'week' as const, 'month' as const, 'quarter' as const, 'year' as const),
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: at('2015-01-01T00:00:00Z'), max: at('2040-01-01T00:00:00Z') }),
      (zone, unit, count, moment) => {
        const of = window(unit, zone, '2026-01-01', count);
        const span = spanAt(of, moment);
        assert.ok(span.fromS <= moment && moment < span.toS);
        assert.equal(spanAt(of, span.toS).fromS, span.toS);
        assert.equal(spanAt(of, span.fromS - 1).toS, span.fromS);
      },
    ),
    { numRuns: 60 },
  );
});
