import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatWaterfall, type WaterfallSpan } from './waterfall.ts';

const span = (
  spanId: string,
  parentSpanId: string | undefined,
  startMs: number,
  endMs: number,
  extra: Partial<WaterfallSpan> = {},
): WaterfallSpan => ({
  name: `span ${spanId}`,
  traceId: 'f'.repeat(32),
  spanId,
  ...(parentSpanId === undefined ? {} : { parentSpanId }),
  startTimeUnixNano: String(startMs * 1_000_000),
  endTimeUnixNano: String(endMs * 1_000_000),
  status: 'ok',
  attributes: {},
  ...extra,
});

test('children stand below their parent in order of start, with a bar where they ran', () => {
  const lines = formatWaterfall(
    [
      span('c', 'a', 50, 100),
      span('a', undefined, 0, 100),
      span('b', 'a', 0, 50, { attributes: { 'cooper.step.cached': true } }),
    ],
    { width: 80, phases: false },
  ).split('\n');
  assert.deepEqual(
    lines.map((line) => line.trim().split(/\s{2,}/)[0]),
    [`trace ${'f'.repeat(32)}`, 'span a', 'span b (cached)', 'span c'],
  );
  const bar = (line: string | undefined): string => line?.split('│')[1] ?? '';
  assert.equal(bar(lines[2]).trimStart().length, bar(lines[3]).trimStart().length, 'both halves are equally long');
  assert.ok(bar(lines[3]).startsWith(' '), 'the second half starts later');
});

test('phases are left out unless asked for, and a failed span is marked', () => {
  const spans = [
    span('a', undefined, 0, 10),
    span('b', 'a', 0, 10, { status: 'error' }),
    span('c', 'b', 0, 5, { attributes: { 'cooper.phase': 'run' } }),
  ];
  assert.ok(!formatWaterfall(spans, { width: 80, phases: false }).includes('span c'));
  assert.match(formatWaterfall(spans, { width: 80, phases: true }), /span c/);
  assert.match(formatWaterfall(spans, { width: 80, phases: false }), /span b ✗/);
});

test('a span whose parent is in another process is a root', () => {
  assert.match(formatWaterfall([span('b', 'elsewhere', 0, 1)], { width: 80, phases: false }), /^span b/m);
});
