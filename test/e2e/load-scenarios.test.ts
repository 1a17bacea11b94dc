/** One scenario by k6 and by our own driver against a real daemon: no build fails, and the two results have the same shape. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { run, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { busyboxRootfs, pushImage } from '../fixtures/images.ts';
import { startRegistry } from '../fixtures/registry.ts';

const TOKEN = 'a-token-of-forty-characters-0123456789abc';
const MAIN = join(import.meta.dirname, '..', '..', 'src', 'cmd', 'main.ts');

test('k6 and the Node driver run the same scenario with the same shape of result', {
  skip: unableTo('runc', 'k6', 'docker-registry'),
}, async () => {
  await using stack = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), 'cooper-load-test-'));
  stack.defer(() => rm(dir, { recursive: true, force: true }));
  const registry = stack.use(await startRegistry());
  await pushImage(registry.host, 'base', 'latest', [await busyboxRootfs()]);
  writeFileSync(join(dir, 'tokens'), `load ${TOKEN}\n`, { mode: 0o600 });
  const daemon = stack.use(await TestDaemon.start({ toml: `[cooper.ops]\ntoken-file = "${join(dir, 'tokens')}"\n` }));
  const results = [];
  for (const driver of ['k6', 'node']) {
    const out = join(dir, driver);
    const where = ['--addr', daemon.address, '--against', new URL(daemon.opsUrl).host, '--out', out];
    const how = ['--driver', driver, '--image', `${registry.host}/base:latest`, '--duration', '5', '--rate', '2'];
    const ended = await run(process.execPath, [MAIN, 'load', 'run', 'steady', ...where, ...how], {
      env: { COOPER_OPS_TOKEN: TOKEN },
    });
    assert.ok(ended.status === 0 || ended.status === 1, ended.stderr); // thresholds are the objectives', not this machine's
    const result = JSON.parse(readFileSync(join(out, 'result.json'), 'utf8'));
    assert.equal(result.failed, 0, ended.stderr + ended.stdout);
    assert.ok(result.builds >= 8, `${result.builds}`);
    assert.equal(result.metrics.build_seconds.count, result.builds);
    assert.ok(result.metrics.hit_ratio.count > 0 && result.metrics.queue_seconds.count > 0);
    assert.match(readFileSync(join(out, 'result.xml'), 'utf8'), /<testsuite name="load steady"/);
    results.push(shapeOf(result));
  }
  assert.deepEqual(results[0], results[1]);
});

function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return [shapeOf(value[0])];
  if (typeof value !== 'object' || value === null) return typeof value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, shapeOf(inner)]));
}
