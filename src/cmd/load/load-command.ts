/** `cooper load list|run|compare`: scenarios of loadtest/, by k6 where it is installed and a token is given, else by this program. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { compare, filesOf, isOk, type LoadResult, markdownOf } from '../../../loadtest/result.ts';
import { isScenario, SCENARIOS, type ScenarioName } from '../../../loadtest/scenarios.ts';
import { BuildError } from '../../core/errors.ts';
import { nearest } from '../../core/nearest.ts';
import { type Arguments, type FlagSpec, formatFlags, isOn, parseArguments, textOf } from '../args.ts';
import { ENDPOINT_FLAGS, openClient } from '../client/endpoint.ts';
import { defaultsFor } from '../defaults.ts';
import { drive } from './drive.ts';

const SCRIPT = join(import.meta.dirname, '..', '..', '..', 'loadtest', 'scenario.ts');
const FLAGS: readonly FlagSpec[] = [
  ...ENDPOINT_FLAGS,
  { name: 'against', kind: 'text', value: 'HOST:PORT', doc: 'ops server that k6 sends builds to (COOPER_OPS_ADDR)' },
  { name: 'duration', kind: 'text', value: 'SECONDS', doc: 'how long builds arrive (60)' },
  { name: 'rate', kind: 'text', value: 'N', doc: 'base rate, builds a second (1)' },
  { name: 'image', kind: 'text', value: 'NAME', doc: 'base image with a shell that the daemon can pull (busybox)' },
  { name: 'driver', kind: 'text', value: 'NAME', doc: 'k6 or node; k6 needs a token in COOPER_OPS_TOKEN' },
  { name: 'out', short: 'o', kind: 'text', value: 'DIR', doc: 'folder for result.json, .md and .xml (.)' },
  { name: 'help', short: 'h', kind: 'switch', doc: 'show this text' },
];
const USAGE = 'cooper load list | cooper load run NAME [flags] | cooper load compare A.json B.json';

/** Exit status 1 when a threshold was broken, or when B is worse than A. */
export async function run(argv: readonly string[]): Promise<number> {
  const args = parseArguments(argv, FLAGS);
  const [verb, ...operands] = args.operands;
  if (isOn(args, 'help')) {
    console.log(`Usage: ${USAGE}\n\n${formatFlags(FLAGS)}`);
    return 0;
  }
  if (verb === 'list' && operands.length === 0) {
    for (const [name, { about }] of Object.entries(SCENARIOS)) console.log(`${name.padEnd(12)}${about}`);
    return 0;
  }
  const [first, second] = operands;
  if (verb === 'run' && first !== undefined && operands.length === 1) return await runScenario(scenarioOf(first), args);
  if (verb === 'compare' && first !== undefined && second !== undefined && operands.length === 2)
    return compareFiles(first, second);
  throw new BuildError('invalid-input', `usage: ${USAGE}`);
}

function scenarioOf(name: string): ScenarioName {
  if (isScenario(name)) return name;
  const near = nearest(name, Object.keys(SCENARIOS));
  throw new BuildError('invalid-input', `there is no scenario ${name}`, {
    hint: near === undefined ? 'cooper load list shows them' : `did you mean ${near}?`,
  });
}

async function runScenario(scenario: ScenarioName, args: Arguments): Promise<number> {
  const token = process.env.COOPER_OPS_TOKEN ?? '';
  const hasK6 = token !== '' && spawnSync('k6', ['version'], { stdio: 'ignore' }).status === 0;
  const driver = textOf(args, 'driver') ?? (hasK6 ? 'k6' : 'node');
  const settings = {
    image: textOf(args, 'image') ?? 'busybox',
    durationS: positive(args, 'duration', 60),
    ratePerSecond: positive(args, 'rate', 1),
    out: resolve(textOf(args, 'out') ?? '.'),
  };
  mkdirSync(settings.out, { recursive: true });
  if (driver === 'k6') return await runK6(scenario, args, settings, token);
  if (driver !== 'node') throw new BuildError('invalid-input', `--driver ${driver}: neither k6 nor node`);
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort(new BuildError('cancelled', 'context canceled')));
  const result = await drive({
    scenario,
    connect: () => openClient(args),
    ...settings,
    onFailure: (error) => console.error(`a build failed: ${error.message}`),
    signal: stop.signal,
  });
  for (const [name, text] of Object.entries(filesOf(result))) writeFileSync(join(settings.out, name), text);
  console.log(markdownOf(result));
  return isOk(result) ? 0 : 1;
}

async function runK6(
  scenario: ScenarioName,
  args: Arguments,
  settings: { readonly image: string; readonly durationS: number; readonly ratePerSecond: number; readonly out: string },
  token: string,
): Promise<number> {
  const host =
    textOf(args, 'against') ??
    textOf(args, 'ops-addr') ??
    process.env.COOPER_OPS_ADDR ??
    defaultsFor(process.getuid?.() ?? -1, process.env).opsAddress;
  const child = spawn('k6', ['run', '--quiet', '--no-color', '--no-usage-report', SCRIPT], {
    stdio: 'inherit',
    env: {
      ...process.env,
      SCENARIO: scenario,
      OPS_URL: `http://${host}`,
      TOKEN: token,
      IMAGE: settings.image,
      DURATION_S: String(settings.durationS),
      RATE: String(settings.ratePerSecond),
      RESULT_DIR: settings.out,
    },
  });
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new BuildError('unavailable', `k6 ended with status ${code}`);
  return isOk(resultIn(join(settings.out, 'result.json'))) ? 0 : 1;
}

function compareFiles(first: string, second: string): number {
  const [a, b] = [resultIn(first), resultIn(second)];
  const { lines, worse } = compare(a, b);
  console.log(`${''.padEnd(28)}${'A'.padStart(10)}${'B'.padStart(10)}${'B/A'.padStart(8)}\n${lines.join('\n')}`);
  if (a.scenario !== b.scenario || a.driver !== b.driver)
    console.log(`note: A is ${a.scenario} by ${a.driver}, B is ${b.scenario} by ${b.driver}`);
  console.log(worse.length === 0 ? 'nothing got worse' : `worse: ${worse.join(', ')}`);
  return worse.length === 0 ? 0 : 1;
}

function resultIn(path: string): LoadResult {
  try {
    const result = JSON.parse(readFileSync(path, 'utf8')) as Partial<LoadResult>;
    if (result.metrics?.build_seconds === undefined) throw new Error('it holds no result');
    return result as LoadResult;
  } catch (cause) {
    throw new BuildError('invalid-input', `${path}: ${(cause as Error).message}`, {
      hint: 'give the result.json that "cooper load run" wrote',
    });
  }
}

function positive(args: Arguments, name: string, otherwise: number): number {
  const text = textOf(args, name);
  const value = text === undefined ? otherwise : Number(text);
  if (!(value > 0) || value > 1e6) throw new BuildError('invalid-input', `--${name} ${text}: not a number above 0`);
  return value;
}
