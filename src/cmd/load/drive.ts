/**
 * A load scenario driven by this process, with whole client sessions: builds start when the scenario says, and their time counts from
 * that moment, also when this process was late, so that a slow daemon cannot hide behind its own load.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { judged, type LoadResult, type MetricName, statsOf } from '../../../loadtest/result.ts';
import { arrivalsOf, SCENARIOS, type Scenario, type ScenarioName, workloadOf } from '../../../loadtest/scenarios.ts';
import { contextOf } from '../../../loadtest/workloads.ts';
import type { RpcClient } from '../../builder/rpc/client.ts';
import { delay } from '../../core/abort.ts';
import { BuildError } from '../../core/errors.ts';
import { build } from '../client/build.ts';
import { contextBuild } from '../client/build-command.ts';

export interface DriveOptions {
  readonly scenario: ScenarioName;
  /** A connection for one build, as separate clients have. */
  readonly connect: () => Promise<RpcClient>;
  readonly image: string;
  readonly durationS: number;
  readonly ratePerSecond: number;
  readonly onFailure: (error: BuildError) => void;
  readonly signal: AbortSignal;
}
/** Above this many at once no further client is started; the arrival counts as dropped. */
const MAX_AT_ONCE = 500;

/** Resolves when every build that was started has ended. */
export async function drive(options: DriveOptions): Promise<LoadResult> {
  const scenario = SCENARIOS[options.scenario];
  const dir = await mkdtemp(join(tmpdir(), 'cooper-load-'));
  const samples: Record<MetricName, number[]> = {
    build_seconds: [],
    queue_seconds: [],
    first_artifact_seconds: [],
    hit_ratio: [],
  };
  const running = new Set<Promise<void>>();
  let [builds, failed, dropped] = [0, 0, 0];
  const startedMs = performance.now();
  try {
    for (const [n, atS] of arrivalsOf(scenario, options.durationS, options.ratePerSecond).entries()) {
      await delay(Math.max(0, startedMs + atS * 1000 - performance.now()), options.signal);
      if (options.signal.aborted) break;
      if (running.size >= MAX_AT_ONCE) {
        dropped += 1;
        continue;
      }
      const one = buildOnce(scenario, n, join(dir, String(n)), startedMs + atS * 1000, samples, options)
        .catch((thrown) => {
          failed += 1;
          options.onFailure(BuildError.from(thrown));
        })
        .finally(() => {
          builds += 1;
          running.delete(one);
        });
      running.add(one);
    }
    await Promise.all(running);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
  const [build_seconds, queue_seconds, first_artifact_seconds, hit_ratio] = [
    statsOf(samples.build_seconds),
    statsOf(samples.queue_seconds),
    statsOf(samples.first_artifact_seconds),
    statsOf(samples.hit_ratio),
  ];
  return judged({
    scenario: options.scenario,
    driver: 'node',
    durationSeconds: (performance.now() - startedMs) / 1000,
    ...{ builds, failed, dropped },
    metrics: { build_seconds, queue_seconds, first_artifact_seconds, hit_ratio },
  });
}

async function buildOnce(
  scenario: Scenario,
  n: number,
  dir: string,
  dueMs: number,
  samples: Record<MetricName, number[]>,
  { connect, image, signal }: DriveOptions,
): Promise<void> {
  const kind = workloadOf(scenario, n);
  const tenant = n % scenario.tenants;
  for (const { path, text } of contextOf(kind, image, tenant, `${Date.now()}-${n}`)) {
    await mkdir(dirname(join(dir, path)), { recursive: true });
    await writeFile(join(dir, path), text);
  }
  const sinceS = (): number => (performance.now() - dueMs) / 1000;
  const steps = new Map<string, boolean>();
  let firstS: number | undefined;
  try {
    await using client = await connect();
    const request = contextBuild(dir);
    const options = new Map([
      ...request.options,
      ['label:tenant', String(tenant)],
      ...(kind === 'cold' ? [['no-cache', '']] : []),
    ] as [string, string][]);
    await build(client, {
      ...request,
      options,
      exporters: [{ type: 'image', attributes: new Map() }],
      entitlements: [],
      display: {
        update: ({ vertexes }) => {
          if (vertexes.length > 0) firstS ??= sinceS();
          for (const { digest, cached } of vertexes) steps.set(digest, cached);
        },
        end: () => {},
      },
      signal,
    });
    samples.first_artifact_seconds.push(sinceS());
  } finally {
    samples.build_seconds.push(sinceS());
    if (firstS !== undefined) samples.queue_seconds.push(firstS);
    if (steps.size > 0) samples.hit_ratio.push([...steps.values()].filter(Boolean).length / steps.size);
    await rm(dir, { recursive: true, force: true });
  }
}
