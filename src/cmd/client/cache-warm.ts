/** `cooper cache warm FILE`: builds a list of targets and throws the results away; what they leave is a warm cache. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { Gc } from '../../builder/proto/gen/cooper/gc/v1/gc_pb.ts';
import type { RpcClient } from '../../builder/rpc/client.ts';
import { authService } from '../../builder/session/attachables/auth.ts';
import { fileSyncService } from '../../builder/session/attachables/file-sync.ts';
import { BuildError } from '../../core/errors.ts';
import { formatFlags, isOn, parseArguments, textOf } from '../args.ts';
import type { Display } from '../progress/display.ts';
import { build } from './build.ts';
import { ENDPOINT_FLAGS, openClient } from './endpoint.ts';
import { formatTable } from './table.ts';
import { readWarmTargets, type WarmTarget } from './warm-targets.ts';

const FLAGS = [
  ...ENDPOINT_FLAGS,
  { name: 'timeout', kind: 'text', value: 'SECONDS', doc: 'give one target up after this long (3600)' },
  { name: 'json', kind: 'switch', doc: 'print JSON' },
  { name: 'help', short: 'h', kind: 'switch', doc: 'show this text' },
] as const;

interface Warmed {
  readonly target: string;
  readonly seconds: number;
  readonly steps: number;
  readonly cached: number;
  readonly error?: string;
}

/** Exit status: 0 when every target was built, 1 otherwise. */
export async function run(argv: readonly string[]): Promise<number> {
  const args = parseArguments(argv, FLAGS);
  if (isOn(args, 'help')) {
    console.log(`Usage: cooper cache warm FILE [flags]\n\n${formatFlags(FLAGS)}`);
    return 0;
  }
  const [file, ...more] = args.operands;
  if (file === undefined || more.length > 0) throw new BuildError('invalid-input', 'usage: cooper cache warm FILE');
  const timeoutS = Number(textOf(args, 'timeout') ?? 3600);
  if (!(timeoutS > 0)) throw new BuildError('invalid-input', '--timeout is a number of seconds above 0');
  const targets = readWarmTargets(file);
  await using client = await openClient(args);
  const results: Warmed[] = [];
  for (const target of targets) {
    const result = await warm(client, target, timeoutS * 1000);
    results.push(result);
    if (result.error !== undefined) console.error(`${result.target}: ${result.error}`);
  }
  const failed = results.filter(({ error }) => error !== undefined).length;
  const seconds = results.reduce((sum, one) => sum + one.seconds, 0);
  await client.unary(Gc.method.reportWarm, { built: results.length - failed, failed, seconds });
  console.log(
    isOn(args, 'json') ? JSON.stringify({ targets: results, failed, seconds }, null, 2) : formatResults(results, failed),
  );
  return failed === 0 ? 0 : 1;
}

async function warm(client: RpcClient, { name, dirs, options }: WarmTarget, timeoutMs: number): Promise<Warmed> {
  const counts = new StepCounts();
  const startedMs = performance.now();
  const done = (error?: string): Warmed => ({
    target: name,
    seconds: Math.round(performance.now() - startedMs) / 1000,
    steps: counts.steps,
    cached: counts.cached,
    ...(error === undefined ? {} : { error }),
  });
  try {
    await build(client, {
      options,
      exporters: [],
      entitlements: [],
      services: [
        ...(dirs === undefined ? [] : [fileSyncService(dirs)]),
        authService(process.env.DOCKER_CONFIG ?? join(homedir(), '.docker')),
      ],
      sharedKey: dirs?.get('context') ?? '',
      display: counts,
      signal: AbortSignal.timeout(timeoutMs),
    });
    return done();
  } catch (thrown) {
    return done(BuildError.from(thrown).message);
  }
}

/** Counts the steps of a build instead of showing them. */
class StepCounts implements Display {
  readonly #steps = new Map<string, boolean>();

  get steps(): number {
    return this.#steps.size;
  }
  get cached(): number {
    return [...this.#steps.values()].filter((cached) => cached).length;
  }
  update(message: Parameters<Display['update']>[0]): void {
    for (const { digest, cached, name } of message.vertexes)
      if (!name.startsWith('[internal]')) this.#steps.set(digest, cached || (this.#steps.get(digest) ?? false));
  }
  end(): void {}
}

function formatResults(results: readonly Warmed[], failed: number): string {
  const rows = results.map(({ target, seconds, steps, cached, error }) => [
    target,
    error === undefined ? 'warm' : 'failed',
    `${cached}/${steps}`,
    `${seconds.toFixed(1)}s`,
  ]);
  return `${formatTable(['TARGET', 'RESULT', 'CACHED', 'TIME'], rows)}\n${results.length - failed} of ${results.length} targets are warm.`;
}
