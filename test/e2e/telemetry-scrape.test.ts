/** A real Prometheus that asks fifty times a second: builds take their time and no more, and every one is counted. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { contextOf, type TestContext } from '../fixtures/context.ts';
import { buildDir, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { busyboxRootfs, pushImage } from '../fixtures/images.ts';
import { startRegistry, type TestRegistry } from '../fixtures/registry.ts';
import { startPrometheus } from '../prometheus.ts';

const skip = unableTo('buildctl', 'runc', 'docker-registry', 'busybox', 'prometheus');
const BUILDS = 6;
const NOTICEABLE_MS = 1_000;
let registry: TestRegistry;
let base: string;

before(async () => {
  if (skip !== false) return;
  registry = await startRegistry();
  await pushImage(registry.host, 'base', 'latest', [await busyboxRootfs()]);
  base = `${registry.host}/base:latest`;
});
after(() => registry?.[Symbol.asyncDispose]());

/** Each build runs one new step; none may fail. */
async function buildTimes(daemon: TestDaemon, context: TestContext, mark: string): Promise<number[]> {
  const times: number[] = [];
  for (let index = 0; index < BUILDS; index++) {
    context.write('Dockerfile', `FROM ${base}\nRUN echo ${mark} ${index}\n`);
    const startMs = performance.now();
    const { status, stderr } = await buildDir(daemon, context.dir);
    times.push(Math.round(performance.now() - startMs));
    assert.equal(status, 0, stderr);
  }
  return times;
}

test('fifty scrapes a second cost no build its time, and Prometheus sees every build', { skip, timeout: 120_000 }, async () => {
  await using daemon = await TestDaemon.start();
  await using context = await contextOf({});
  const calm = await buildTimes(daemon, context, 'calm');
  const target = new URL(daemon.opsUrl).host;
  await using prometheus = await startPrometheus({ targets: [target], scrapeIntervalMs: 20 });
  await prometheus.until('sum(up)', ([sample]) => sample?.value === 1, 20_000);
  const scraped = await buildTimes(daemon, context, 'scraped');
  const slower = Math.min(...scraped) - Math.min(...calm);
  assert.ok(slower < NOTICEABLE_MS, `builds take ${scraped} ms, unscraped ${calm} ms`);
  await prometheus.until('sum(cooper_builds_total{result="success"})', ([sample]) => sample?.value === BUILDS * 2, 20_000);
  const [scrapes] = await prometheus.query('sum(count_over_time(up[1m]))');
  assert.ok((scrapes?.value ?? 0) > 50, `${scrapes?.value} scrapes`);
});
