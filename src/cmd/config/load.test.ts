import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseArguments } from '../args.ts';
import { type Loaded, loadConfig, SETTING_FLAGS } from './load.ts';

const flags = [...SETTING_FLAGS, { name: 'config', kind: 'text', doc: '' } as const];

function load(toml: string, argv: readonly string[] = [], env: NodeJS.ProcessEnv = {}): Loaded {
  const dir = mkdtempSync(join(tmpdir(), 'cooper-config-'));
  try {
    const file = join(dir, 'c.toml');
    writeFileSync(file, toml);
    return loadConfig(parseArguments(['--config', file, ...argv], flags), env);
  } catch (error) {
    throw new Error((error as Error).message.replaceAll(`${dir}/`, ''));
  } finally {
    rmSync(dir, { recursive: true });
  }
}
const warningsOf = (toml: string): string[] => load(toml).warnings.map((text) => text.replace(/^.*\/c\.toml/, 'c.toml'));

test('flags override the environment, which overrides the file', () => {
  const toml = '[log]\nlevel = "error"\n';
  assert.equal(load(toml).values.get('log.level'), 'error');
  assert.equal(load(toml, [], { BUILDKITD_LOG_LEVEL: 'warn' }).values.get('log.level'), 'warn');
  assert.equal(load(toml, ['--log-level', 'debug'], { BUILDKITD_LOG_LEVEL: 'warn' }).values.get('log.level'), 'debug');
});

test('switches take the form that Go programs take', () => {
  assert.equal(load('', ['--oci-worker-gc=false']).values.get('worker.oci.gc'), false);
  assert.equal(load('', ['--oci-worker']).values.get('worker.oci.enabled'), true);
});

test('tables by name and arrays of tables keep their values apart', () => {
  const { values } = load(`
[registry."docker.io"]
  mirrors = ["m1:5000", "m2"]
[[registry."docker.io".keypair]]
  key = "k"
  cert = "c"
[registry."localhost:5000"]
  http = true
[[worker.oci.gcpolicy]]
  all = true
[[worker.oci.gcpolicy]]
  keepDuration = "48h"
  filters = ["type==source.local"]
`);
  const [hub, local] = values.entries('registry');
  assert.equal(hub?.name, 'docker.io');
  assert.deepEqual(hub?.values.get('mirrors'), ['m1:5000', 'm2']);
  assert.equal(hub?.lists.get('keypair')?.[0]?.get('cert'), 'c');
  assert.equal(local?.values.get('http'), true);
  const policies = values.entries('worker.oci.gcpolicy');
  assert.equal(policies[0]?.values.get('all'), true);
  assert.equal(policies[1]?.values.get('keepDuration'), 172_800_000_000_000n);
});

for (const [toml, warning] of [
  [
    '[worker.oci]\nmax-paralelism = 3\n',
    'c.toml:2: unknown key worker.oci.max-paralelism; did you mean worker.oci.max-parallelism?',
  ],
  ['[worker.oci]\n\n  cache-size = 1000\n', 'c.toml:3: worker.oci.cache-size is deprecated; use worker.oci.maxUsedSpace'],
  ['rootless.enabled = true\n', 'c.toml:1: rootless.enabled is known but not in force yet'],
  ['[frontend."dockerfile.v0"]\nenabled = true\n', 'c.toml:2: frontend."dockerfile.v0".enabled is known but not in force yet'],
  [
    '[[registry.config]]\nhost = "a"\n[[registry.config]]\n\nhost = "b"\n',
    'c.toml:5: registry.config[1].host is known but not in force yet',
  ],
] as const)
  test(`${JSON.stringify(toml)} warns`, () => assert.ok(warningsOf(toml).includes(warning), warningsOf(toml).join('\n')));

for (const [toml, message] of [
  ['[history]\nmaxEntries = "many"\n', 'c.toml:2: history.maxEntries is "many"; expected a whole number from 0 to any'],
  [
    '[worker.oci]\nreservedSpace = "10 apples"\n',
    'c.toml:2: worker.oci.reservedSpace is "10 apples"; expected bytes, "10GB" or "80%"',
  ],
  ['[log]\nformat = "xml"\n', 'c.toml:2: log.format is "xml"; expected one of json, text'],
  ['root = \n', 'c.toml:1:'],
] as const)
  test(`${JSON.stringify(toml)} stops the start with file and line`, () => {
    assert.throws(
      () => load(toml),
      (error) => error instanceof Error && error.message.startsWith(message),
    );
  });

test('an unknown flag names the nearest real one', () => {
  assert.throws(() => parseArguments(['--rooot', 'x'], flags), /unknown flag --rooot; did you mean --root\?/);
});
