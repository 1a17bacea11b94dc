/** `cooper gameday list|show|run`: games on a stand of our own in compressed time, or live on a system that is there. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { BuildError } from '../core/errors.ts';
import { nearest } from '../core/nearest.ts';
import { sayMs } from '../operate/durations.ts';
import type { Game, Mutation } from '../operate/gameday/game.ts';
import { readGame } from '../operate/gameday/read-game.ts';
import { EXIT_CODES, type GameReport, toHtml, toJunit, toMarkdown } from '../operate/gameday/report.ts';
import { runGame } from '../operate/gameday/run-game.ts';
import { openStand } from '../operate/gameday/stand.ts';
import { tabletop } from '../operate/gameday/tabletop.ts';
import { type Arguments, formatFlags, isOn, parseArguments, splitOnce, textOf, textsOf } from './args.ts';
import { type GivenSystem, gameSystem, SHIPPED } from './gameday/system.ts';

const FLAGS = [
  {
    name: 'mutate',
    kind: 'text',
    value: 'NAME',
    doc: 'play on a system broken on purpose; the game must fail with the expectation it names',
  },
  { name: 'mutations', kind: 'switch', doc: 'also play on every system broken on purpose' },
  { name: 'all', kind: 'switch', doc: 'every game, one after the other' },
  { name: 'tabletop', kind: 'switch', doc: 'break nothing; print what would be done and ask what people would do' },
  { name: 'live', kind: 'switch', doc: 'people take part: their acknowledgement is waited for and timed' },
  { name: 'report-dir', kind: 'text', value: 'DIR', doc: 'where reports go, .state/gamedays' },
  { name: 'against', kind: 'switch', doc: 'play on the system the next flags name, in real time, instead of a stand of our own' },
  { name: 'addr', kind: 'text', value: 'ADDRESS', doc: 'its build API' },
  { name: 'ops-addr', kind: 'text', value: 'HOST:PORT', doc: 'its ops server' },
  { name: 'prometheus', kind: 'text', value: 'URL', doc: 'its Prometheus' },
  { name: 'alertmanager', kind: 'text', value: 'URL', doc: 'its Alertmanager' },
  {
    name: 'proxy-api',
    kind: 'text',
    value: 'URL',
    doc: 'API of the proxy in front of its cache (cooper chaos proxy, or toxiproxy)',
  },
  { name: 'proxy', kind: 'text', value: 'NAME', doc: "the cache's name there, cache" },
  { name: 'registry', kind: 'text', value: 'HOST:PORT', doc: 'where builds reach the cache through that proxy' },
  { name: 'pid', kind: 'texts', value: 'NAME=PID', doc: 'process of daemon, prometheus or alertmanager' },
  { name: 'state-folder', kind: 'text', value: 'DIR', doc: 'its state folder' },
  { name: 'runtime', kind: 'text', value: 'FILE', doc: 'its OCI runtime' },
  { name: 'help', short: 'h', kind: 'switch', doc: 'show this text' },
] as const;
const USAGE = 'Usage: cooper gameday list | show GAME | run GAME [flags]';

export async function run(argv: readonly string[]): Promise<number> {
  const args = parseArguments(argv, FLAGS);
  const [verb, name] = args.operands;
  if (isOn(args, 'help')) {
    console.log(`${USAGE}\n\n${formatFlags(FLAGS)}`);
    return 0;
  }
  if (verb === 'list') {
    for (const game of shippedGames()) console.log(`${game.name.padEnd(24)}${game.title}`);
    return 0;
  }
  if (verb === 'show' && name !== undefined) {
    console.log(readFileSync(findGame(name).file, 'utf8'));
    return 0;
  }
  if (verb !== 'run' || (name === undefined && !isOn(args, 'all'))) throw new BuildError('invalid-input', USAGE);
  const games = name === undefined ? shippedGames() : [findGame(name)];
  let worst = 0;
  for (const game of games) worst = Math.max(worst, await playAll(game, args));
  return worst;
}

const shippedGames = (): Game[] =>
  readdirSync(SHIPPED.games)
    .filter((file) => file.endsWith('.yaml'))
    .sort()
    .map((file) => readGame(join(SHIPPED.games, file)));

/** A shipped game by its name, or a file by its path. */
function findGame(name: string): Game {
  if (name.endsWith('.yaml')) return readGame(name);
  const names = readdirSync(SHIPPED.games).map((file) => basename(file, '.yaml'));
  if (names.includes(name)) return readGame(join(SHIPPED.games, `${name}.yaml`));
  const near = nearest(name, names);
  throw new BuildError('not-found', `there is no game "${name}"`, {
    hint: near === undefined ? `there are: ${names.join(', ')}` : `did you mean "${near}"?`,
  });
}

async function playAll(game: Game, args: Arguments): Promise<number> {
  if (isOn(args, 'tabletop')) {
    console.log(tabletop(game));
    return 0;
  }
  const named = textOf(args, 'mutate');
  const chosen = named === undefined ? undefined : game.mutations.find((mutation) => mutation.name === named);
  if (named !== undefined && chosen === undefined)
    throw new BuildError(
      'not-found',
      `${game.name} has no mutation "${named}"; it has ${game.mutations.map((one) => one.name).join(', ')}`,
    );
  if (chosen !== undefined) return await playMutant(game, chosen, args);
  let exit: number = EXIT_CODES[(await play(game, undefined, args)).outcome];
  if (isOn(args, 'mutations'))
    for (const mutation of game.mutations) exit = Math.max(exit, await playMutant(game, mutation, args));
  return exit;
}

/** Good is a failure with the expectation that was named, and no other way. */
async function playMutant(game: Game, mutation: Mutation, args: Arguments): Promise<number> {
  const report = await play(game, mutation, args);
  const caught = report.expectations.some(({ id, verdict }) => id === mutation.mustFail && verdict === 'fail');
  console.log(`${caught ? 'caught' : 'NOT CAUGHT'}: ${mutation.name} must fail "${mutation.mustFail}"`);
  return caught ? 0 : 1;
}

async function play(game: Game, mutation: Mutation | undefined, args: Arguments): Promise<GameReport> {
  const stop = new AbortController();
  const interrupt = (): void => stop.abort();
  process.on('SIGINT', interrupt).on('SIGTERM', interrupt);
  const live = isOn(args, 'live') || isOn(args, 'against');
  const given = isOn(args, 'against');
  const played: Game = given ? { ...game, timeScale: 1 } : game;
  console.log(
    `== ${game.name}${mutation === undefined ? '' : `, broken on purpose: ${mutation.name}`} (time scale ${played.timeScale})`,
  );
  const startedMs = Date.now();
  try {
    const alertsDir = SHIPPED.alerts;
    const daemonCommand = [process.execPath, join(import.meta.dirname, 'main.ts'), 'daemon'];
    await using stack = new AsyncDisposableStack();
    const on = given ? givenSystem(args) : stack.use(await openStand(played, { alertsDir, daemonCommand, mutation }));
    const system = stack.use(gameSystem(played, on, mutation));
    const report = await runGame(played, system, {
      mode: live ? 'live' : 'automatic',
      mutation,
      signal: stop.signal,
      say: (text) => console.log(text),
      ask: isOn(args, 'live') ? askOnTerminal : undefined,
    });
    const files = writeReport(report, textOf(args, 'report-dir') ?? join('.state', 'gamedays'));
    const { score } = report;
    console.log(
      `${report.outcome}: ${score.passed} of ${score.evaluated} evaluated expectations (${score.total} in all) in ${sayMs(Date.now() - startedMs)}; ${files}`,
    );
    for (const { id, verdict, evidence } of [...report.preconditions, ...report.expectations])
      if (verdict !== 'pass') console.log(`  ${verdict}: ${id}: ${evidence}`);
    return report;
  } finally {
    process.off('SIGINT', interrupt).off('SIGTERM', interrupt);
  }
}

async function askOnTerminal(question: string): Promise<void> {
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  await terminal.question(`${question} `);
  terminal.close();
}

function givenSystem(args: Arguments): GivenSystem {
  const needed = (name: string): string => {
    const value = textOf(args, name);
    if (value === undefined) throw new BuildError('invalid-input', `--against needs --${name}`);
    return value;
  };
  const pids = new Map(textsOf(args, 'pid').map((pair) => [splitOnce(pair, '=')[0], Number(splitOnce(pair, '=')[1])]));
  return {
    dir: join(tmpdir(), `cooper-gameday-${process.pid}`),
    daemon: needed('addr'),
    ops: needed('ops-addr'),
    prometheus: needed('prometheus').replace(/\/$/, ''),
    alertmanager: needed('alertmanager').replace(/\/$/, ''),
    proxyApi: textOf(args, 'proxy-api') ?? 'http://127.0.0.1:8474',
    proxy: textOf(args, 'proxy') ?? 'cache',
    registry: textOf(args, 'registry') ?? '127.0.0.1:5000',
    runtime: textOf(args, 'runtime') ?? '',
    stateFolder: textOf(args, 'state-folder') ?? '',
    pids: { daemon: pids.get('daemon'), prometheus: pids.get('prometheus'), alertmanager: pids.get('alertmanager') },
  };
}

/** `DIR/GAME[-MUTATION].{json,md,html,junit.xml}`; the run before is compared with and replaced. */
function writeReport(report: GameReport, dir: string): string {
  mkdirSync(dir, { recursive: true });
  const path = join(dir, `${report.game}${report.mutation === undefined ? '' : `-${report.mutation}`}`);
  let previous: GameReport | undefined;
  try {
    previous = JSON.parse(readFileSync(`${path}.json`, 'utf8')) as GameReport;
  } catch {
    // the first run
  }
  writeFileSync(`${path}.json`, `${JSON.stringify(report, null, 2)}\n`);
  writeFileSync(`${path}.md`, toMarkdown(report, previous));
  writeFileSync(`${path}.html`, toHtml(report));
  writeFileSync(`${path}.junit.xml`, toJunit(report));
  return `${path}.md`;
}
