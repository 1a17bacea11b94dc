/** The daemon itself: whether it runs and answers, what it reports of itself, and whether it runs with the configuration that is on disk. */
import { existsSync, statSync } from 'node:fs';
import {
  BUILDS,
  CONFIG_UNKNOWN_KEYS,
  EVENT_LOOP_DELAY,
  PROCESS_START,
  REGISTRY_REQUESTS,
  TELEMETRY_DROPPED,
  WORKER_OOM_KILLS,
} from '../../telemetry/catalog.ts';
import { LOG_RECORDS, QUARANTINED } from '../../telemetry/catalog-service.ts';
import type { Address, DoctorFacts } from './facts.ts';
import { error, type Finding, info, ok, warning } from './finding.ts';
import { sumOf } from './samples.ts';

const START = 'cooper daemon, or the unit or pod that runs it here; the first line it prints says why it does not start';
const RESTART = 'restart the daemon when it is quiet';
const trouble = { cause: 'daemon-trouble' } as const;

export function configurationFindings({ configuration }: DoctorFacts): Finding[] {
  const { file, error: problem, warnings } = configuration;
  const id = 'config.file';
  const cause = 'configuration-not-applied';
  if (problem !== undefined)
    return [
      error(id, 'The configuration would stop the daemon from starting.', problem, {
        cause,
        fix: 'correct the line it names; cooper config check',
      }),
    ];
  if (warnings.length > 0)
    return [
      warning(id, 'The configuration has keys without effect.', warnings.slice(0, 5).join('; '), {
        cause,
        fix: 'correct or remove them; cooper config check names all',
      }),
    ];
  return [ok(id, 'The configuration is clean.', file ?? 'no file, defaults only', { cause })];
}

export const addressText = (address: Address): string =>
  address.type === 'unix' ? `unix://${address.path}` : `tcp://${address.host}:${address.port}`;

/** Asks every way in. A daemon that is meant to be stopped is only looked for. */
export async function checkDaemon(facts: DoctorFacts): Promise<Finding[]> {
  const { daemonPid, expectRunning, settings, root } = facts;
  if (daemonPid === undefined) {
    const stale = (settings?.addresses ?? []).flatMap((address) =>
      address.type === 'unix' && existsSync(address.path) ? [address.path] : [],
    );
    const seen = `nobody holds ${root}/lock${stale.length === 0 ? '' : `; ${stale.join(', ')} is there: left by one that was killed, or another daemon's`}`;
    return [
      expectRunning
        ? error('daemon.running', 'No daemon runs on this state folder.', seen, {
            ...trouble,
            fix: `${START}; --stopped when it is meant to be`,
          })
        : ok('daemon.running', 'No daemon runs on this state folder, as expected.', seen, trouble),
    ];
  }
  const running = ok('daemon.running', 'A daemon runs on this state folder.', `process id ${daemonPid}`, trouble);
  const calls = (settings?.addresses ?? [])
    .filter(({ type }) => type === 'unix')
    .map((address) => buildApi(facts, addressText(address)));
  const [ops, ...api] = await Promise.all([opsFindings(facts), ...calls]);
  return [running, ...api, ...ops];
}

async function buildApi({ callBuildApi, daemonPid }: DoctorFacts, address: string): Promise<Finding> {
  const id = 'daemon.build-api';
  try {
    await callBuildApi(address);
    return ok(id, 'The build API answers.', address, trouble);
  } catch (thrown) {
    return error(id, 'The build API does not answer.', `${address}: ${(thrown as Error).message}`, {
      ...trouble,
      fix: `when /livez is silent too, process ${daemonPid} hangs: keep its log, end it, start it again; else look at rights of the socket (grpc.gid)`,
    });
  }
}

async function opsFindings(facts: DoctorFacts): Promise<Finding[]> {
  const id = 'daemon.ops';
  if (facts.settings?.ops === undefined)
    return [
      info(id, 'The ops server is switched off; the doctor sees less.', 'cooper.ops.address is empty', {
        fix: 'set cooper.ops.address',
      }),
    ];
  const { host, port } = facts.settings.ops;
  let metrics: string;
  try {
    const answer = await facts.ask('/metrics');
    if (answer.status !== 200) throw new Error(`/metrics answered ${answer.status}`);
    metrics = answer.body;
  } catch (thrown) {
    return [
      error(id, 'The ops server does not answer.', `${host}:${port}: ${(thrown as Error).message}`, {
        ...trouble,
        fix: `process ${facts.daemonPid} hangs, or listens elsewhere (--ops-addr): look at its log; ${RESTART}`,
      }),
    ];
  }
  return [
    ok(id, 'The ops server answers.', `${host}:${port}`, trouble),
    await readiness(facts),
    ...applied(facts, metrics),
    ...counted(metrics),
    ...(await breakers(facts)),
  ];
}

async function readiness({ ask }: DoctorFacts): Promise<Finding> {
  const id = 'daemon.ready';
  const { status, body } = await ask('/readyz');
  const seen = body.trim().replaceAll('\n', '; ').slice(0, 400);
  if (status !== 200)
    return error(id, 'The daemon says it is not ready.', seen, {
      ...trouble,
      fix: `the failing check names the cause; a daemon that drains wants a restart`,
    });
  if (/canary build[^;]*\b(error|failure|timeout)\b/.test(seen))
    return error(id, 'The daemon’s own test build failed.', seen, { ...trouble, fix: 'runbook CooperCanaryFailing' });
  return ok(id, 'The daemon says it is ready.', seen, trouble);
}

/** Files that are newer than the process were not read by it. */
function applied({ configuration, settings }: DoctorFacts, metrics: string): Finding[] {
  const startedMs = sumOf(metrics, PROCESS_START.name) * 1000;
  const files = [configuration.file, ...Object.values(settings?.tls ?? {})].filter((file) => file !== undefined);
  const newer = files.flatMap((file) => {
    const stat = statSync(file, { throwIfNoEntry: false });
    return stat !== undefined && stat.mtimeMs > startedMs + 1_000
      ? [`${file} changed ${new Date(stat.mtimeMs).toISOString()}`]
      : [];
  });
  const id = 'config.applied';
  const cause = 'configuration-not-applied';
  const since = `the daemon started ${new Date(startedMs).toISOString()}`;
  if (newer.length > 0)
    return [
      warning(id, 'Files changed after the daemon read them.', `${newer.join('; ')}; ${since}`, {
        cause,
        fix: `${RESTART}, so that it reads them`,
      }),
    ];
  const unknown = sumOf(metrics, CONFIG_UNKNOWN_KEYS.name);
  if (unknown > 0)
    return [
      info(id, 'The daemon runs with a configuration that has unknown keys.', `${unknown} keys`, {
        cause,
        fix: 'cooper config check',
      }),
    ];
  return [ok(id, 'The daemon runs with the configuration that is on disk.', since, { cause })];
}

/** What it has counted since it started. */
function counted(metrics: string): Finding[] {
  const sum = (name: string, labels: Readonly<Record<string, string>> = {}): number => sumOf(metrics, name, labels);
  const findings: Finding[] = [];
  const kills = sum(WORKER_OOM_KILLS.name);
  findings.push(
    kills === 0
      ? ok('steps.out-of-memory', 'No step was killed for lack of memory.', 'none since the start', { cause: 'memory-or-cpu' })
      : warning(
          'steps.out-of-memory',
          'Steps were killed for lack of memory.',
          `${kills} since the start, ${sum(WORKER_OOM_KILLS.name, { scope: 'daemon' })} of them beyond their own limit`,
          {
            cause: 'memory-or-cpu',
            fix: 'runbook CooperWorkerOomKills: fewer steps at once, fewer jobs inside them, or more memory',
          },
        ),
  );
  const delayS = sum(EVENT_LOOP_DELAY.name, { stat: 'p99' });
  findings.push(
    delayS > 0.25
      ? warning('daemon.event-loop', 'The daemon answers late.', `p99 delay ${(delayS * 1000).toFixed(0)} ms, budget 50 ms`, {
          ...trouble,
          fix: 'runbook CooperEventLoopBlocked',
        })
      : ok('daemon.event-loop', 'The daemon answers in time.', `p99 delay ${(delayS * 1000).toFixed(0)} ms`, trouble),
  );
  const errors = sum(LOG_RECORDS.name, { level: 'error' });
  findings.push(
    errors > 0
      ? warning('daemon.log', 'The daemon logged errors.', `${errors} records of level error since the start`, {
          ...trouble,
          fix: 'read them: journalctl -u cooper -p err, or the output of the process',
        })
      : ok('daemon.log', 'The daemon logged no error.', 'none since the start', trouble),
  );
  findings.push(...failedBuilds(metrics), registries(metrics));
  const quarantined = sum(QUARANTINED.name);
  if (quarantined > 0)
    findings.push(
      warning(
        'cache.corrupt-reads',
        'The daemon read data that did not match its digest.',
        `${quarantined} things since the start`,
        { cause: 'cache-corruption', fix: 'runbook CooperCacheCorruption; cooper cache check' },
      ),
    );
  const audit = sum(TELEMETRY_DROPPED.name, { signal: 'audit' });
  if (audit > 0)
    findings.push(
      warning('audit.dropped', 'Audit records were lost.', `${audit} since the start`, {
        fix: 'runbook CooperAuditDropping: room and rights of the audit folder',
      }),
    );
  return findings;
}

function failedBuilds(metrics: string): Finding[] {
  const faults = sumOf(metrics, BUILDS.name, { result: 'error' }) + sumOf(metrics, BUILDS.name, { result: 'timeout' });
  const total = sumOf(metrics, BUILDS.name);
  const seen = `${faults} of ${total} builds since the start`;
  return [
    faults > 0
      ? warning('builds.failed', 'Builds failed that were not the user’s fault.', seen, {
          ...trouble,
          fix: 'cooper builds, then cooper trace REF of one: the failing span names the class',
        })
      : ok('builds.failed', 'No build failed through the daemon’s fault.', seen, trouble),
  ];
}

function registries(metrics: string): Finding {
  const id = 'registry.requests';
  const failed = ['429', '5xx', 'network'].map(
    (code) => [code, sumOf(metrics, REGISTRY_REQUESTS.name, { code_class: code })] as const,
  );
  const bad = failed.reduce((sum, [, count]) => sum + count, 0);
  const total = sumOf(metrics, REGISTRY_REQUESTS.name);
  const seen = `${bad} of ${total} requests since the start (${failed.map(([code, count]) => `${code}: ${count}`).join(', ')})`;
  return bad > 2 && bad / total > 0.1
    ? warning(id, 'Registries refuse or do not answer.', seen, { cause: 'network', fix: 'runbook CooperRegistryErrors' })
    : ok(id, 'Registries answered the daemon.', seen, { cause: 'network' });
}

async function breakers({ ask }: DoctorFacts): Promise<Finding[]> {
  const { status, body } = await ask('/api/v1/status');
  if (status !== 200) return [];
  const { breakers: all = [] } = JSON.parse(body) as {
    breakers?: { name: string; state: string; since?: string; detail?: string }[];
  };
  const open = all.filter(({ state }) => state !== 'closed');
  if (open.length === 0)
    return [ok('cache.breakers', 'No remote cache is given up.', `${all.length} in use`, { cause: 'network' })];
  return open.map(({ name, state, since = 'now', detail = '' }) =>
    warning(
      'cache.breakers',
      'A remote cache does not answer; builds go on without it.',
      `${name} is ${state} since ${since} ${detail}`.trim(),
      {
        cause: 'network',
        fix: 'runbook CooperRemoteCacheOutage: bring it back, or renew its credentials',
      },
    ),
  );
}
