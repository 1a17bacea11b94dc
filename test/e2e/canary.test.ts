/** Canary builds of a real daemon: they prove work, leave nothing, disturb no user's figures, and a broken worker shows. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { buildctl, TestDaemon, unableTo } from '../fixtures/daemon.ts';

const skip = unableTo('runc', 'busybox', 'buildctl');
const FAST = '[cooper.canary]\ninterval = "200ms"\ntimeout = "30s"\n';

async function until<T>(look: () => Promise<T | undefined>): Promise<T> {
  for (const giveUp = Date.now() + 40_000; Date.now() < giveUp; ) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error('what was waited for did not happen in 40 s');
}
const metrics = async (daemon: TestDaemon): Promise<string> => (await daemon.ops('/metrics')).body;
const canaries = (body: string, result: string): number =>
  Number(new RegExp(`^cooper_canary_builds_total\\{result="${result}"\\} (\\d+)`, 'm').exec(body)?.[1]);
interface Ready {
  readonly ready: boolean;
  readonly checks: readonly { readonly name: string; readonly ok: boolean; readonly detail?: string }[];
}
async function readiness(daemon: TestDaemon): Promise<Ready['checks'][number] & { readonly status: number }> {
  const { status, body } = await daemon.ops('/readyz');
  const check = (JSON.parse(body) as Ready).checks.find(({ name }) => name === 'canary build');
  assert.ok(check !== undefined);
  return { ...check, status };
}

test('canary builds run a process each time, leave no records, and enter no figure of users', { skip }, async () => {
  await using daemon = await TestDaemon.start({ toml: FAST });
  const body = await until(async () => {
    const now = await metrics(daemon);
    return canaries(now, 'success') >= 13 ? now : undefined; // one more than the twelfth, which tidies up
  });
  assert.deepEqual([canaries(body, 'failure'), canaries(body, 'error'), canaries(body, 'timeout')], [0, 0, 0], daemon.log());
  assert.match(body, /^cooper_canary_last_success_timestamp_seconds \d/m);
  assert.ok(Number(/^cooper_step_cpu_seconds_total (\S+)/m.exec(body)?.[1]) > 0, 'processes ran');
  for (const name of [
    'cooper_builds_total',
    'cooper_steps_total',
    'cooper_cache_lookups_total',
    'cooper_step_duration_seconds_count',
  ])
    assert.doesNotMatch(body, new RegExp(`^${name}\\{.*\\} [1-9]`, 'm'), name);
  assert.deepEqual(JSON.parse((await daemon.ops('/api/v1/builds')).body), { builds: [] });
  const { ok, detail, status } = await readiness(daemon);
  assert.ok(ok && status === 200);
  assert.match(detail ?? '', /^success at .* in \d+\.\d\d s$/);
  const { stdout } = await buildctl(daemon, ['du', '-v']);
  const left = stdout.split('\n').filter((line) => /Description:.*cooper-canary/.test(line)).length;
  assert.ok(left < 13, `${left} records of canaries, of 13 times 2 that were made`);
});

test('a runtime that fails makes the canary fail: told in /readyz, counted, ready all the same unless it is asked', {
  skip,
}, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'cooper-broken-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const runtime = join(dir, 'runc');
  writeFileSync(runtime, '#!/bin/sh\n[ "$1" = --version ] && exec runc --version\necho broken >&2\nexit 1\n');
  chmodSync(runtime, 0o755);
  for (const required of [false, true]) {
    await using daemon = await TestDaemon.start({
      toml: `${FAST}readiness = ${required}\n[worker.oci]\nbinary = "${runtime}"\n`,
    });
    await until(async () => (canaries(await metrics(daemon), 'error') > 0 ? true : undefined));
    const { ok, detail, status } = await readiness(daemon);
    assert.deepEqual([ok, status], required ? [false, 503] : [true, 200]);
    assert.match(detail ?? '', /^error, \d+ in a row, none has succeeded: .*runtime/);
  }
});

test('without canary builds nothing speaks of them', { skip }, async () => {
  await using daemon = await TestDaemon.start({ toml: '[cooper.canary]\nenabled = false\n' });
  assert.doesNotMatch((await daemon.ops('/readyz')).body, /canary/);
});
