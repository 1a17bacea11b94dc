import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseTime, takeTrigger } from './trigger-time.ts';

const NOW_NS = BigInt(Date.parse('2026-03-01T12:00:00Z')) * 1_000_000n;
const secondsAgo = (ns: bigint | undefined): number | undefined =>
  ns === undefined ? undefined : Number((NOW_NS - ns) / 1_000_000_000n);

test('the time may be RFC 3339, or seconds or milliseconds since the epoch', () => {
  const seconds = NOW_NS / 1_000_000_000n;
  for (const text of ['2026-03-01T12:00:00Z', '2026-03-01T13:00:00+01:00', `${seconds}`, `${seconds}.000`, `${seconds}000`])
    assert.equal(parseTime(text), NOW_NS, text);
  for (const text of ['yesterday', '', '2026-03-01', '12', '-5']) assert.throws(() => parseTime(text), /trigger time/, text);
});

test('the header goes before options, and every option is taken out', () => {
  const options = new Map([
    ['cooper.triggered-at', '2026-03-01T11:59:00Z'],
    ['build-arg:COOPER_TRIGGERED_AT', '2026-03-01T11:58:00Z'],
    ['build-arg:OTHER', 'stays'],
  ]);
  assert.equal(secondsAgo(takeTrigger(new Map(options), '2026-03-01T11:57:00Z', NOW_NS).triggeredAtNs), 180);
  assert.equal(secondsAgo(takeTrigger(options, undefined, NOW_NS).triggeredAtNs), 60);
  assert.deepEqual([...options], [['build-arg:OTHER', 'stays']]);
});

test('a time that cannot be is ignored with the reason, and never fails the build', () => {
  const said = (text: string) => takeTrigger(new Map([['cooper.triggered-at', text]]), undefined, NOW_NS);
  assert.match(said('soon').ignored ?? '', /neither RFC 3339/);
  assert.match(said('2026-03-01T13:00:00Z').ignored ?? '', /in the future/);
  assert.match(said('2026-01-01T00:00:00Z').ignored ?? '', /7 days ago/);
  assert.equal(secondsAgo(said('2026-03-01T12:01:00Z').triggeredAtNs), 0, 'a clock that is a little ahead');
  assert.deepEqual(takeTrigger(new Map(), undefined, NOW_NS), {});
});
