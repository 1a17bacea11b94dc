/** What RUN steps use, as an operator sees it: while they run, in the record afterwards, and without control groups. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { contextOf } from '../fixtures/context.ts';
import { buildDir, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { busyboxRootfs, pushImage } from '../fixtures/images.ts';
import { startRegistry, type TestRegistry } from '../fixtures/registry.ts';

const skip = unableTo('buildctl', 'runc', 'docker-registry', 'busybox');
let registry: TestRegistry;
before(async () => {
  if (skip !== false) return;
  registry = await startRegistry();
  await pushImage(registry.host, 'base', 'latest', [await busyboxRootfs()]);
});
after(() => registry?.[Symbol.asyncDispose]());

interface Detail {
  readonly ref: string;
  readonly resources?: readonly {
    readonly name: string;
    readonly running: boolean;
    readonly usage: { readonly memoryStat?: { readonly peak?: number }; readonly cpuStat?: { readonly usageNanos?: number } };
    readonly samples: readonly { readonly memoryStat?: { readonly current?: number } }[];
  }[];
}
interface Listed {
  readonly builds: readonly {
    readonly ref: string;
    readonly state: string;
    readonly running?: { readonly steps: number; readonly memoryBytes: number };
  }[];
}

async function until<T>(look: () => Promise<T | undefined>): Promise<T> {
  for (const giveUp = Date.now() + 30_000; Date.now() < giveUp; ) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error('what was waited for did not happen in 30 s');
}
const json = async <T>(daemon: TestDaemon, path: string): Promise<T> => JSON.parse((await daemon.ops(path)).body) as T;

test('a running step shows its memory and CPU in the API and in metrics, and its record keeps them', { skip }, async () => {
  await using daemon = await TestDaemon.start();
  await using context = await contextOf({
    Dockerfile: `FROM ${registry.host}/base:latest\nRUN --mount=type=bind,target=/ctx x=$(yes | head -c 20000000); sleep 1.5; i=0; while [ $i -lt 20 ]; do i=$((i+1)); sleep 0.2; done\n`,
  });
  const building = buildDir(daemon, context.dir);
  const live = await until(async () => {
    const { builds } = await json<Listed>(daemon, '/api/v1/builds');
    return builds.find(({ state, running }) => state === 'running' && (running?.memoryBytes ?? 0) > 15_000_000);
  });
  assert.equal(live.running?.steps, 1);
  const during = (await daemon.ops('/metrics')).body;
  assert.match(during, /^cooper_running_steps_memory_bytes [1-9]\d{7}/m);
  assert.match(during, /^cooper_running_steps_processes [1-9]/m);
  assert.ok(Number(/^cooper_step_cpu_seconds_total (\S+)/m.exec(during)?.[1]) > 0, 'CPU counts while the step runs');
  const detail = await json<Detail>(daemon, `/api/v1/builds/${live.ref}`);
  assert.equal(detail.resources?.[0]?.running, true);
  const { status, stderr } = await building;
  assert.equal(status, 0, stderr);
  const [step] = (await json<Detail>(daemon, `/api/v1/builds/${live.ref}`)).resources ?? [];
  assert.ok(step !== undefined && !step.running && step.name.includes('RUN'));
  assert.ok((step.usage.memoryStat?.peak ?? 0) > 15_000_000 && (step.usage.cpuStat?.usageNanos ?? 0) > 0);
  assert.ok(step.samples.length >= 2, `${step.samples.length} samples`);
  const afterwards = (await daemon.ops('/metrics')).body;
  assert.match(afterwards, /^cooper_running_steps_memory_bytes 0$/m);
  assert.match(daemon.log(), /"resources of steps"/);
});

test('a step that ends with 137 by itself was not out of memory', { skip }, async () => {
  await using daemon = await TestDaemon.start();
  await using context = await contextOf({ Dockerfile: `FROM ${registry.host}/base:latest\nRUN exit 137\n` });
  const { status, stderr } = await buildDir(daemon, context.dir);
  assert.notEqual(status, 0);
  assert.match(stderr, /exit code: 137/);
  assert.match((await daemon.ops('/metrics')).body, /^cooper_worker_oom_kills_total\{scope="step"\} 0$/m);
});
