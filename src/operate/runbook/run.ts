/** Runs the blocks of a runbook against a stand, top to bottom, and says of each what came of it. Nothing is passed over in silence. */
import { spawn } from 'node:child_process';
import { delay } from '../../core/abort.ts';
import { BuildError } from '../../core/errors.ts';
import { ask, boolForm, type QuerySample } from './promql.ts';
import { type Block, type BlockKind, commandsOf, type Runbook } from './runbook.ts';
import { fillIn, PLACEHOLDERS, type Stand } from './stand.ts';

/**
 * `passed`: it ran, and held where it is an assertion. `failed`: it could not run, or did not hold. `no-data`: a query of Verify found no
 * series. `unfilled`: a word in it has no value here. `skipped`: not run because nobody asked for it; the reason says how to.
 */
export type Outcome = 'passed' | 'failed' | 'no-data' | 'unfilled' | 'skipped';
export interface Step {
  readonly section: string;
  readonly kind: BlockKind;
  readonly line: number;
  /** As it was run. */
  readonly command: string;
  readonly outcome: Outcome;
  readonly reason: string;
  readonly exit?: number;
  readonly output: string;
  readonly seconds: number;
}
export interface RunbookReport {
  readonly name: string;
  readonly bodySha256: string;
  readonly startedAt: string;
  readonly seconds: number;
  readonly stand: { readonly address: string; readonly prometheus?: string };
  readonly mitigated: boolean;
  /** Nothing failed, nothing was left unfilled or without data. */
  readonly passed: boolean;
  /** Passed, with every query asked. */
  readonly complete: boolean;
  readonly steps: readonly Step[];
}
export interface RunOptions {
  /** Run `sh mitigate` and `sh rollback` too: they change the stand. */
  readonly mitigate: boolean;
  /** How long a query of Verify may take to hold. */
  readonly waitMs: number;
  readonly timeoutMs: number;
}

const MAX_OUTPUT = 64 * 1024;
const POLL_MS = 500;
type Result = Pick<Step, 'outcome' | 'reason' | 'output'> & { readonly exit?: number };

export async function runRunbook(runbook: Runbook, stand: Stand, options: RunOptions): Promise<RunbookReport> {
  const startedAt = new Date();
  const steps: Step[] = [];
  for (const block of runbook.blocks) {
    const commands = block.kind === 'promql' ? [{ line: block.line, text: block.text.trim() }] : commandsOf(block);
    for (const { line, text } of commands) steps.push(await stepOf(block, line, text, stand, options));
  }
  const passed = steps.every(({ outcome }) => outcome === 'passed' || outcome === 'skipped');
  const unasked = steps.some(({ outcome, kind }) => outcome === 'skipped' && kind === 'promql');
  return {
    name: runbook.name,
    bodySha256: runbook.bodySha256,
    startedAt: startedAt.toISOString(),
    seconds: (Date.now() - startedAt.getTime()) / 1000,
    stand: { address: stand.address, ...(stand.prometheus === undefined ? {} : { prometheus: stand.prometheus }) },
    mitigated: options.mitigate,
    passed,
    complete: passed && !unasked,
    steps,
  };
}

async function stepOf(block: Block, line: number, command: string, stand: Stand, options: RunOptions): Promise<Step> {
  const { text, unfilled } = fillIn(command, stand);
  const begunMs = performance.now();
  const result = unfilled.length > 0 ? notFilled(unfilled) : await resultOf(block, text, stand, options);
  return {
    section: block.section,
    kind: block.kind,
    line,
    command: text,
    ...result,
    seconds: (performance.now() - begunMs) / 1000,
  };
}

const notFilled = (words: readonly string[]): Result => ({
  outcome: 'unfilled',
  reason: words.map((word) => `${word} has no value here: ${PLACEHOLDERS[word]}`).join('; '),
  output: '',
});

async function resultOf(block: Block, text: string, stand: Stand, options: RunOptions): Promise<Result> {
  switch (block.kind) {
    case 'promql':
      if (stand.prometheus === undefined) return { outcome: 'skipped', reason: 'no --prometheus was given', output: '' };
      return block.section === 'Verify'
        ? await assertion(stand.prometheus, text, options)
        : await query(stand.prometheus, text, options);
    case 'mitigate':
    case 'rollback':
      if (!options.mitigate) return { outcome: 'skipped', reason: 'it changes something: run with --mitigate', output: '' };
      return mustSucceed(await shell(text, stand, options));
    case 'verify':
      return mustSucceed(await shell(text, stand, options));
    case 'check':
      return looked(text, await shell(text, stand, options));
  }
}

const mustSucceed = ({ exit, output }: Ran): Result =>
  exit === 0
    ? { outcome: 'passed', reason: 'exit 0', exit, output }
    : { outcome: 'failed', reason: `exit ${exit}, expected 0`, exit, output };

/** What only looks may well report trouble; it fails when it could not look: not found, not permitted to run, misused, out of time. */
function looked(text: string, { exit, output }: Ran): Result {
  const reason = { 124: 'it did not end in time', 126: 'it cannot be run', 127: 'there is no such command' }[exit];
  if (reason !== undefined) return { outcome: 'failed', reason, exit, output };
  if (/^cooper\s/.test(text) && [2, 70].includes(exit))
    return { outcome: 'failed', reason: `cooper was misused or broke: exit ${exit}`, exit, output };
  return { outcome: 'passed', reason: `exit ${exit}`, exit, output };
}

async function query(prometheus: string, text: string, { timeoutMs }: RunOptions): Promise<Result> {
  try {
    const samples = await ask(prometheus, text, timeoutMs);
    return { outcome: 'passed', reason: `${samples.length} series`, output: shown(samples) };
  } catch (thrown) {
    return { outcome: 'failed', reason: BuildError.from(thrown).message, output: '' };
  }
}

/** Holds for every series, within the time it may take. */
async function assertion(prometheus: string, text: string, { timeoutMs, waitMs }: RunOptions): Promise<Result> {
  const bool = boolForm(text);
  const until = Date.now() + waitMs;
  for (;;) {
    let samples: readonly QuerySample[];
    try {
      samples = await ask(prometheus, bool ?? text, timeoutMs);
    } catch (thrown) {
      return { outcome: 'failed', reason: BuildError.from(thrown).message, output: '' };
    }
    const holds = samples.length > 0 && (bool === undefined || samples.every(({ value }) => value === 1));
    if (holds) return { outcome: 'passed', reason: `holds for ${samples.length} series`, output: shown(samples) };
    if (Date.now() >= until) {
      const wrong = samples.filter(({ value }) => value !== 1);
      return samples.length === 0
        ? { outcome: 'no-data', reason: 'no series: neither true nor false', output: '' }
        : { outcome: 'failed', reason: `does not hold for ${wrong.length} of ${samples.length} series`, output: shown(wrong) };
    }
    await delay(Math.min(POLL_MS, Math.max(1, until - Date.now())));
  }
}

const shown = (samples: readonly QuerySample[]): string =>
  samples
    .slice(0, 50)
    .map(
      ({ labels, value }) =>
        `{${Object.entries(labels)
          .map(([name, text]) => `${name}="${text}"`)
          .join(', ')}} ${value}`,
    )
    .join('\n');

interface Ran {
  readonly exit: number;
  readonly output: string;
}

/** One command in a process group of its own, which ends with it or with its time. */
function shell(text: string, stand: Stand, { timeoutMs }: RunOptions): Promise<Ran> {
  return new Promise((resolve) => {
    const child = spawn('sh', ['-c', text], {
      cwd: stand.cwd,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        PATH: `${stand.binDir}:${process.env.PATH ?? ''}:/usr/sbin:/sbin`,
        COOPER_HOST: stand.address,
        BUILDKIT_HOST: stand.address,
        COOPER_OPS_ADDR: stand.opsAddress,
        COOPER_ROOT: stand.root,
      },
    });
    let output = '';
    let late = false;
    const take = (chunk: Buffer): void => {
      output = (output + chunk.toString()).slice(-MAX_OUTPUT);
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    const timer = setTimeout(() => {
      late = true;
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    }, timeoutMs);
    child.on('error', (thrown) => {
      clearTimeout(timer);
      resolve({ exit: 127, output: thrown.message });
    });
    child.on('close', (status) => {
      clearTimeout(timer);
      resolve({ exit: late ? 124 : (status ?? 137), output });
    });
  });
}
