/**
 * Two build daemons side by side, driven by the same unmodified buildctl: every sample is taken A, B, A, B, ... in one run, so that what
 * else the machine does hits both. Prints medians, spreads and the ratio A/B.
 *
 *   node bench/run.ts --a unix:///run/cooper/cooperd.sock --b unix:///run/buildkit/buildkitd.sock [--only noop,chain] [--n 5] [--dir DIR]
 *
 * Needs buildctl, busybox (static), docker-registry and mmdebstrap on PATH. Turn garbage collection off in both daemons.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { makeInputs } from './inputs.ts';
import { type Sample, SCENARIOS } from './scenarios.ts';

const { values } = parseArgs({
  options: {
    a: { type: 'string' },
    b: { type: 'string' },
    only: { type: 'string', default: SCENARIOS.map(({ name }) => name).join(',') },
    n: { type: 'string', default: '5' },
    dir: { type: 'string', default: '.state/bench' },
  },
});
const { a, b } = values;
if (a === undefined || b === undefined)
  throw new Error('usage: node bench/run.ts --a ADDRESS --b ADDRESS [--only NAMES] [--n ROUNDS] [--dir DIR]');
const rounds = Number(values.n);
mkdirSync(values.dir, { recursive: true });

/** Runs buildctl against one daemon. Seconds of wall time; throws with the client's output when it fails. */
async function buildctl(address: string, args: readonly string[]): Promise<number> {
  const start = performance.now();
  const child = spawn('buildctl', ['--addr', address, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-8_000);
    });
  }
  const [status] = (await once(child, 'close')) as [number | null];
  if (status !== 0) throw new Error(`buildctl ${args.join(' ')}: exit ${status}\n${output}`);
  return (performance.now() - start) / 1000;
}

const median = (numbers: readonly number[]): number =>
  [...numbers].sort((x, y) => x - y)[Math.floor(numbers.length / 2)] ?? Number.NaN;
const seconds = (value: number): string => (value < 1 ? `${(value * 1000).toFixed(0)} ms` : `${value.toFixed(2)} s`);
const spread = (numbers: readonly number[]): string =>
  `${seconds(median(numbers))} (${seconds(Math.min(...numbers))}-${seconds(Math.max(...numbers))})`;

await using inputs = await makeInputs(values.dir);
console.log('| scenario | A: median (min-max) | B: median (min-max) | A/B |\n|---|---|---|---|');
for (const scenario of SCENARIOS.filter(({ name }) => values.only.split(',').includes(name))) {
  const samples = new Map<string, { readonly a: number[]; readonly b: number[] }>();
  for (let round = 0; round < rounds; round++) {
    for (const [side, address] of [
      ['a', a],
      ['b', b],
    ] as const) {
      const record = (name: string, taken: Sample): void => {
        const both = samples.get(name) ?? { a: [], b: [] };
        samples.set(name, both);
        both[side].push(taken);
      };
      await scenario.run({
        inputs,
        side,
        round,
        record,
        build: (args) => buildctl(address, ['build', '--progress', 'plain', '--frontend', 'dockerfile.v0', ...args]),
        prune: () => buildctl(address, ['prune', '--all']),
      });
    }
  }
  for (const [name, both] of samples)
    console.log(`| ${name} | ${spread(both.a)} | ${spread(both.b)} | ${(median(both.a) / median(both.b)).toFixed(2)} |`);
}
