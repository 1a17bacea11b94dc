import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fc } from '../../../test/fixtures/property.ts';
import { openMetadata } from '../metadata/metadata.ts';
import { openForecast, type Sample, secondsToFull } from './forecast.ts';

const HOUR_NS = 3_600_000_000_000n;
const GB = 1e9;
const hourly = (free: readonly number[]): Sample[] =>
  free.map((freeBytes, hour) => ({ atNs: BigInt(hour) * HOUR_NS, freeBytes }));

test('a steady loss of 1 GB an hour with 50 GB left fills the disk in 50 hours', () => {
  assert.equal(secondsToFull(hourly(Array.from({ length: 24 }, (_, n) => (73 - n) * GB))), 50 * 3600);
});

test('a disk that is level or empties, or of which little is known, has no forecast', () => {
  assert.equal(secondsToFull(hourly(Array(24).fill(50 * GB))), undefined);
  assert.equal(secondsToFull(hourly(Array.from({ length: 24 }, (_, n) => n * GB))), undefined);
  assert.equal(secondsToFull(hourly([5, 4, 3])), undefined);
});

test('one sample in five may be anything: the forecast stays within a fifth', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.nat(49), { minLength: 1, maxLength: 10 }),
      fc.array(fc.integer({ min: 0, max: 500 }), { minLength: 10, maxLength: 10 }),
      (outliers, values) => {
        const free = Array.from({ length: 50 }, (_, n) => (150 - n) * GB);
        for (const [at, n] of outliers.entries()) if (n < 49) free[n] = (values[at] ?? 0) * GB;
        const seconds = secondsToFull(hourly(free)) ?? 0;
        assert.ok(Math.abs(seconds / (101 * 3600) - 1) < 0.2, `${seconds / 3600} hours`);
      },
    ),
    { numRuns: 200 },
  );
});

test('samples survive a restart; those of a clock that was ahead do not', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'cooper-forecast-'));
  const metadata = await openMetadata(join(dir, 'cooper.sqlite'));
  const time = { nowNs: 1_000n * HOUR_NS };
  const clock = { nowNs: () => time.nowNs };
  const forecast = await openForecast(metadata, clock);
  for (let hour = 0; hour < 10; hour++) {
    time.nowNs += HOUR_NS;
    forecast.sample((100 - hour) * GB);
    forecast.sample(0); // too soon: not noted
  }
  assert.equal((await openForecast(metadata, clock)).secondsToFull(), 91 * 3600);
  time.nowNs -= 500n * HOUR_NS;
  assert.equal((await openForecast(metadata, clock)).secondsToFull(), undefined);
  assert.deepEqual(await metadata.read('select * from disk_samples', []), []);
  await metadata.close();
  await rm(dir, { recursive: true, force: true });
});
