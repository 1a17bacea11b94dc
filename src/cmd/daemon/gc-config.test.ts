import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseArguments } from '../args.ts';
import { loadConfig, SETTING_FLAGS } from '../config/load.ts';
import { type GcConfig, gcConfig } from './gc-config.ts';

const DISK = 1e12;
const HOUR_NS = 3_600_000_000_000n;

function configOf(toml: string, argv: readonly string[] = []): { readonly gc: GcConfig; readonly warnings: readonly string[] } {
  const dir = mkdtempSync(join(tmpdir(), 'cooper-gc-config-'));
  try {
    const file = join(dir, 'c.toml');
    writeFileSync(file, toml);
    const flags = [...SETTING_FLAGS, { name: 'config', kind: 'text', doc: '' } as const];
    const { values, warnings } = loadConfig(parseArguments(['--config', file, ...argv], flags), {});
    return { gc: gcConfig(values, DISK), warnings };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

for (const [toml, reserved, maxUsed, minFree] of [
  ['', 10e9, 100e9, 187e9],
  ['[gc.default]\nkeep_storage = 53687091200\n', 53687091200, 100e9, 187e9],
  ['[worker.oci]\ncache-size = 10000000000\n', 10e9, 10e9, 187e9],
  ['[worker.oci]\ngckeepstorage = "20GB"\n[gc.default]\nkeep_storage = 1\n', 20e9, 100e9, 187e9],
  ['[worker.oci]\nreservedSpace = "30GB"\ngckeepstorage = "20GB"\n', 30e9, 100e9, 187e9],
  ['[worker.oci]\nmaxUsedSpace = "50%"\ncache-size = 1\nminFreeSpace = "10%"\n', 10e9, 500e9, 100e9],
] as const)
  test(`bounds of ${JSON.stringify(toml)}`, () => {
    const last = configOf(toml).gc.policies.at(-1);
    assert.deepEqual([last?.reservedBytes, last?.maxUsedBytes, last?.minFreeBytes], [reserved, maxUsed, minFree]);
  });

test('gc.default.ttl removes what is older whatever the limits say, down to the reserve', () => {
  const { policies } = configOf('[gc.default]\nttl = 604800\nkeep_storage = "1GB"\n').gc;
  assert.equal(policies.length, 4);
  assert.deepEqual(policies[1], {
    filters: [],
    all: false,
    keepDurationNs: 168n * HOUR_NS,
    reservedBytes: 1e9,
    maxUsedBytes: 0,
    minFreeBytes: 0,
  });
});

test('gc.default.all is one run without any reserve', () => {
  const { once } = configOf('[gc.default]\nall = true\nkeep_storage = "50GB"\n').gc;
  assert.deepEqual([once?.all, once?.reservedBytes, once?.keepDurationNs], [true, 0, 0n]);
  assert.equal(configOf('').gc.once, undefined);
});

test('gcpolicy tables win over every other bound; period, all and the guard still count', () => {
  const { gc } = configOf(
    `[worker.oci]\nreservedSpace = "30GB"\n[[worker.oci.gcpolicy]]\nkeepBytes = 512000000\nkeepDuration = 172800\nfilters = ["type==source.local"]
[[worker.oci.gcpolicy]]\nall = true\nmaxUsedSpace = "1GB"\n[gc.default]\nkeep_storage = 5\nttl = 60\nperiod = 86400\n[cooper.gc.guard]\nmin-free-space = "2%"\nmin-free-inodes = 8\n`,
  );
  assert.deepEqual(gc.policies, [
    {
      filters: ['type==source.local'],
      all: false,
      keepDurationNs: 48n * HOUR_NS,
      reservedBytes: 512e6,
      maxUsedBytes: 0,
      minFreeBytes: 0,
    },
    { filters: [], all: true, keepDurationNs: 0n, reservedBytes: 0, maxUsedBytes: 1e9, minFreeBytes: 0 },
  ]);
  assert.deepEqual([gc.periodMs, gc.guard], [86_400_000, { minFreeBytes: 20e9, minFreeInodesPercent: 8 }]);
});

test('with collection off nothing collects, not even the guard', () => {
  const { gc } = configOf('[gc.default]\nall = true\nperiod = 60\n', ['--oci-worker-gc=false']);
  assert.deepEqual(gc, {
    enabled: false,
    policies: [],
    once: undefined,
    periodMs: 0,
    guard: { minFreeBytes: 0, minFreeInodesPercent: 0 },
  });
});

test('none of the keys of gc.default is named as not in force', () => {
  const { warnings } = configOf(
    '[gc.default]\nkeep_storage = 1\nperiod = 1\nttl = 1\nall = true\n[worker.oci]\ncache-size = 1\n',
  );
  assert.deepEqual(
    warnings.filter((text) => text.includes('not in force')),
    [],
  );
});
