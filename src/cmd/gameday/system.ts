/** The system a game is played on: a stand of our own, or one whose addresses were given. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError } from '../../core/errors.ts';
import type { FaultOrder } from '../../operate/faults/catalog.ts';
import type { Game, Mutation } from '../../operate/gameday/game.ts';
import type { Surroundings } from '../../operate/gameday/judge.ts';
import { type Load, startLoad } from '../../operate/gameday/load.ts';
import { postAlerts, queryPrometheus } from '../../operate/gameday/observe.ts';
import type { GameSystem } from '../../operate/gameday/run-game.ts';
import type { Stand } from '../../operate/gameday/stand.ts';
import type { SloReport } from '../../slo/report.ts';
import { getOpsJson } from '../client/endpoint.ts';
import { buildRunner } from './run-build.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..');
export const SHIPPED = { games: join(ROOT, 'gamedays'), alerts: join(ROOT, 'alerts'), runbooks: join(ROOT, 'runbooks') } as const;

/** Addresses of a system that is there already. */
export interface GivenSystem {
  readonly dir: string;
  readonly daemon: string;
  readonly ops: string;
  readonly prometheus: string;
  readonly alertmanager: string;
  /** API of the proxy in front of the cache, the name of the cache's proxy there, and where builds reach the cache through it. */
  readonly proxyApi: string;
  readonly proxy: string;
  readonly registry: string;
  readonly runtime: string;
  readonly stateFolder: string;
  readonly pids: Readonly<Record<'daemon' | 'prometheus' | 'alertmanager', number | undefined>>;
}

export const isStand = (system: Stand | GivenSystem): system is Stand => 'webhooks' in system;

/** No deadline is shorter: builds, probes and breakers run in real time. */
const LEAST_MS = 20_000;

export function gameSystem(game: Game, on: Stand | GivenSystem, mutation: Mutation | undefined): GameSystem & AsyncDisposable {
  const secret = `canary-${randomBytes(12).toString('hex')}`;
  const contexts = join(on.dir, 'contexts');
  mkdirSync(contexts, { recursive: true });
  const runBuild = buildRunner(on.daemon, contexts);
  let hasInjected = false;
  const changesLoad = game.inject.fault === 'none';
  const load: Load = startLoad(
    (order) => runBuild(changesLoad && !hasInjected ? { ...order, kind: 'plain', leakToLog: false } : order),
    game.load,
    {
      registry: on.registry,
      strictCache: mutation?.change === 'strict-cache',
      secret,
      leakToLog: mutation?.change === 'secret-in-log',
    },
  );
  return {
    prometheus: on.prometheus,
    alertmanager: on.alertmanager,
    budgets: () => budgetsOf(on.ops),
    notifications: isStand(on) ? on.webhooks.notifications : [],
    order: changesLoad ? undefined : orderFor(game, on),
    load,
    injected: () => {
      hasInjected = true;
    },
    surroundings: surroundingsOf(game, on, secret, load),
    [Symbol.asyncDispose]: () => load[Symbol.asyncDispose](),
  };
}

async function budgetsOf(ops: string): Promise<Readonly<Record<string, number>>> {
  const { objectives } = await getOpsJson<SloReport>(ops, '/slo');
  return Object.fromEntries(objectives.map(({ name, budgetLeft }) => [name, budgetLeft]));
}

function orderFor(game: Game, on: Stand | GivenSystem): FaultOrder {
  const { fault, target, set } = game.inject;
  const own = isStand(on);
  const pid = (name: 'daemon' | 'prometheus' | 'alertmanager'): number => {
    const found = own ? (name === 'daemon' ? on.pids.daemon() : on.pids[name]) : on.pids[name];
    if (found === undefined)
      throw new BuildError('invalid-input', `the game breaks ${name}; name its process with --pid ${name}=PID`);
    return found;
  };
  const where: Readonly<Record<Game['inject']['target'], () => FaultOrder['parameters']>> = {
    cache: () => ({ api: on.proxyApi, proxy: own ? 'cache' : on.proxy }),
    daemon: () => ({ pid: pid('daemon') }),
    prometheus: () => ({ pid: pid('prometheus') }),
    alertmanager: () => ({ pid: pid('alertmanager') }),
    'state-folder': () => ({ dir: own ? on.root : on.stateFolder }),
    runtime: () => ({ path: on.runtime }),
    steps: () => ({}),
    none: () => ({}),
  };
  return { fault, parameters: { ...where[target](), ...set } };
}

function surroundingsOf(game: Game, on: Stand | GivenSystem, secret: string, load: Load): Surroundings {
  const own = isStand(on);
  return {
    realMs: (ms) => Math.max(LEAST_MS, ms / game.timeScale),
    query: (expr) => queryPrometheus(on.prometheus, expr),
    ruleLabels: (alert) => {
      const rules = own ? on.rules.groups.flatMap(({ rules: all }) => all).filter((rule) => rule.alert === alert) : [];
      return (rules.find(({ labels }) => labels?.severity === 'warning') ?? rules[0])?.labels;
    },
    postProbe: own ? (labels) => postAlerts(on.alertmanager, [labels], 30_000) : undefined,
    verifyQueries: (alert) => verifyQueries(join(SHIPPED.runbooks, `${alert}.md`)),
    scan: (place) => scan(place, on, secret, load),
    ownsWebhooks: own,
  };
}

/** PromQL blocks of the section Verify. */
function verifyQueries(file: string): string[] {
  if (!existsSync(file)) return [];
  const section = /^## Verify\n([\s\S]*?)(?=^## |$(?![\s\S]))/m.exec(readFileSync(file, 'utf8'))?.[1] ?? '';
  return [...section.matchAll(/```promql[^\n]*\n([\s\S]*?)```/g)].map(([, query = '']) => query.trim());
}

async function scan(place: string, on: Stand | GivenSystem, secret: string, load: Load): Promise<string | undefined> {
  const forms = [secret, Buffer.from(secret).toString('base64'), [...secret].join('.')];
  const hasIt = (text: string): boolean => forms.some((form) => text.includes(form));
  if (place === 'metrics')
    return hasIt(await (await fetch(`http://${on.ops}/metrics`)).text()) ? '/metrics holds the value' : undefined;
  if (place === 'history' || place === 'traces') {
    const { builds } = await getOpsJson<{ readonly builds: readonly { readonly ref: string }[] }>(on.ops, '/api/v1/builds');
    if (builds.length === 0 || load.builds.length === 0) throw new Error('there is no build to search');
    for (const { ref } of builds) {
      const path = place === 'traces' ? `/api/v1/builds/${ref}/trace` : `/api/v1/builds/${ref}`;
      const text = await (await fetch(`http://${on.ops}${path}`)).text();
      if (hasIt(text)) return `${path} holds the value`;
    }
    return undefined;
  }
  if (!isStand(on)) throw new Error('the files of another machine are not searched');
  if (place === 'logs') return hasIt(readFileSync(join(on.dir, 'daemon.log'), 'utf8')) ? 'daemon.log holds the value' : undefined;
  if (place === 'state-folder') {
    const found = grep(on.root, forms);
    return found === '' ? undefined : `the value is in ${found}`;
  }
  throw new Error(`there is no place "${place}"`);
}

function grep(dir: string, forms: readonly string[]): string {
  try {
    return execFileSync('grep', ['-rlaF', '--devices=skip', ...forms.flatMap((form) => ['-e', form]), dir], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch (error) {
    if ((error as { status?: number }).status === 1) return '';
    throw error;
  }
}
