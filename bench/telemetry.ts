/**
 * What telemetry costs a build: a daemon with everything on (metrics scraped every 15 s, spans to a collector, audit log, log at info)
 * beside one with everything off, the same unmodified buildctl in turns. Wall time depends on what else the machine does, so the time
 * the daemon's main thread and helpers were on a processor is printed too: that is what telemetry can add.
 *
 *   node bench/telemetry.ts [--rounds 20] [--steps 60]
 *
 * Needs root, buildctl, runc, busybox (static) and docker-registry on PATH.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { contextOf } from '../test/fixtures/context.ts';
import { buildDir, TestDaemon } from '../test/fixtures/daemon.ts';
import { busyboxRootfs, pushImage } from '../test/fixtures/images.ts';
import { startCollector } from '../test/fixtures/otlp.ts';
import { startRegistry } from '../test/fixtures/registry.ts';

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '20' }, steps: { type: 'string', default: '60' } },
});
const OFF = '[log]\nlevel = "error"\n[cooper.telemetry]\nenabled = false\n[cooper.audit]\nenabled = false\n';
const GC_OFF = '[worker.oci]\ngc = false\n';
const WARM_UP = 2; // rounds in which the base is pulled and code is loaded and compiled
const NO_OPS = 10; // cached builds per round
const TICK_MS = 10; // USER_HZ is 100 on every Linux that Node.js runs on

/** Processor time of the daemon so far, its threads included and its steps not. Milliseconds. */
function cpuMsOf({ pid }: TestDaemon): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

interface Sample {
  readonly wallMs: number;
  readonly cpuMs: number;
}
async function measured(daemon: TestDaemon, dir: string, args: readonly string[] = []): Promise<Sample> {
  const cpuBefore = cpuMsOf(daemon);
  const startMs = performance.now();
  const { status, stderr } = await buildDir(daemon, dir, args);
  const wallMs = performance.now() - startMs;
  if (status !== 0) throw new Error(stderr);
  return { wallMs, cpuMs: cpuMsOf(daemon) - cpuBefore };
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, value) => total + value, 0);
const median = (numbers: readonly number[]): number => [...numbers].sort((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;
const of = (samples: readonly Sample[], what: keyof Sample): number[] => samples.map((sample) => sample[what]);

await using registry = await startRegistry();
await pushImage(registry.host, 'base', 'latest', [await busyboxRootfs()]);
await using collector = await startCollector();
await using on = await TestDaemon.start({ toml: GC_OFF, env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url } });
await using off = await TestDaemon.start({ toml: GC_OFF + OFF });
const scraper = setInterval(() => void on.ops('/metrics', { accept: 'application/openmetrics-text' }), 15_000);

const runs = Array.from({ length: Number(values.steps) }, (_, n) => `RUN echo $NONCE ${n} > /f`).join('\n');
await using chain = await contextOf({ Dockerfile: `FROM ${registry.host}/base:latest\nARG NONCE\n${runs}\n` });
const names = ['no-op (everything cached)', `${values.steps} steps, cold`] as const;
const samples = new Map(names.map((name) => [name, { on: [] as Sample[], off: [] as Sample[] }]));
for (let round = 1 - WARM_UP; round <= Number(values.rounds); round++) {
  const sides = [['on', on] as const, ['off', off] as const];
  for (const [side, daemon] of Math.abs(round) % 2 === 0 ? sides : sides.toReversed()) {
    const args = ['--opt', `build-arg:NONCE=${round}`];
    const cold = await measured(daemon, chain.dir, args);
    if (round > 0) samples.get(names[1])?.[side].push(cold);
    for (let repeat = 0; repeat < NO_OPS; repeat++) {
      const cached = await measured(daemon, chain.dir, args);
      if (round > 0) samples.get(names[0])?.[side].push(cached);
    }
  }
}
clearInterval(scraper);
console.log(
  '| build | wall, on / off (medians) | ratio | processor time of the daemon, on / off (means) | ratio |\n|---|---|---|---|---|',
);
for (const [name, both] of samples) {
  const wall = [median(of(both.on, 'wallMs')), median(of(both.off, 'wallMs'))] as const;
  const cpu = [sum(of(both.on, 'cpuMs')) / both.on.length, sum(of(both.off, 'cpuMs')) / both.off.length] as const;
  const ratio = ([a, b]: readonly [number, number]): string => (a / b).toFixed(3);
  const pair = ([a, b]: readonly [number, number]): string => `${a.toFixed(1)} / ${b.toFixed(1)} ms`;
  console.log(`| ${name} | ${pair(wall)} | ${ratio(wall)} | ${pair(cpu)} | ${ratio(cpu)} |`);
}
