/** Game files: YAML in, a Game out, every mistake named with file and line. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml';
import { BuildError } from '../../core/errors.ts';
import { durationMs } from '../durations.ts';
import { FAULTS } from '../faults/catalog.ts';
import { type Expectation, type Game, MUTATION_CHANGES, type Mutation, type QueryCondition, TARGETS } from './game.ts';

/** @throws BuildError `invalid-input` with one line per mistake, as `file:line: what`. */
export function readGame(file: string): Game {
  return parseGame(readFileSync(file, 'utf8'), file);
}

export function parseGame(text: string, file: string): Game {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const reader = new Reader(file, lines);
  for (const error of document.errors) reader.problem(error.pos[0], error.message.split('\n')[0] ?? '');
  const root = new Field(reader, document.contents, 0, 'file');
  const game = gameOf(root, file);
  reader.finish();
  return game;
}

class Reader {
  readonly #file: string;
  readonly #lines: LineCounter;
  readonly #problems: { readonly line: number; readonly what: string }[] = [];
  constructor(file: string, lines: LineCounter) {
    this.#file = file;
    this.#lines = lines;
  }
  problem(offset: number, what: string): void {
    this.#problems.push({ line: this.#lines.linePos(offset).line, what });
  }
  finish(): void {
    if (this.#problems.length === 0) return;
    const rows = this.#problems.toSorted((a, b) => a.line - b.line).map(({ line, what }) => `${this.#file}:${line}: ${what}`);
    throw new BuildError('invalid-input', rows.join('\n'));
  }
}

/** One value of the file with its place. Whatever is wrong is noted and a harmless value goes on, so that all mistakes are told at once. */
class Field {
  readonly #reader: Reader;
  readonly #node: Node | null;
  readonly #at: number;
  readonly #path: string;
  constructor(reader: Reader, node: Node | null, at: number, path: string) {
    this.#reader = reader;
    this.#node = node;
    this.#at = node?.range?.[0] ?? at;
    this.#path = path;
  }
  get missing(): boolean {
    return this.#node === null;
  }
  problem(what: string): void {
    this.#reader.problem(this.#at, what);
  }
  /** The map's entries; unknown keys are mistakes. */
  map<Key extends string>(known: readonly Key[], required: readonly Key[] = []): Readonly<Record<Key, Field>> {
    const entries = this.entries();
    for (const [key, field] of entries) {
      if (!known.includes(key as Key)) field.problem(`${this.#path} has no key "${key}"; it has ${known.join(', ')}`);
    }
    for (const key of required) if (!entries.has(key)) this.problem(`${this.#path} needs "${key}"`);
    const field = (key: Key): Field => entries.get(key) ?? new Field(this.#reader, null, this.#at, `${this.#path}.${key}`);
    return Object.fromEntries(known.map((key) => [key, field(key)])) as Record<Key, Field>;
  }
  entries(): ReadonlyMap<string, Field> {
    if (this.#node === null) return new Map();
    if (!isMap(this.#node)) {
      this.problem(`${this.#path} must be a map`);
      return new Map();
    }
    return new Map(
      this.#node.items.map(({ key, value }) => {
        const name = isScalar(key) ? String(key.value) : '?';
        const at = (key as Node | null)?.range?.[0] ?? this.#at;
        return [name, new Field(this.#reader, value as Node | null, at, `${this.#path}.${name}`)];
      }),
    );
  }
  list(): readonly Field[] {
    if (this.#node === null) return [];
    if (isSeq(this.#node))
      return this.#node.items.map((item, i) => new Field(this.#reader, item as Node, this.#at, `${this.#path}[${i}]`));
    this.problem(`${this.#path} must be a list`);
    return [];
  }
  scalar(): unknown {
    return isScalar(this.#node) ? this.#node.value : undefined;
  }
  text(fallback = ''): string {
    if (this.#node === null) return fallback;
    const value = this.scalar();
    if (typeof value === 'string' || typeof value === 'number') return String(value).trim();
    this.problem(`${this.#path} must be text`);
    return fallback;
  }
  texts(): readonly string[] {
    return this.list().map((field) => field.text());
  }
  number(fallback: number): number {
    if (this.#node === null) return fallback;
    const value = this.scalar();
    if (typeof value === 'number') return value;
    this.problem(`${this.#path} must be a number`);
    return fallback;
  }
  optionalNumber(): number | undefined {
    return this.missing ? undefined : this.number(0);
  }
  /** In milliseconds. */
  duration(fallback: string): number {
    try {
      return durationMs(this.text(fallback));
    } catch (error) {
      this.problem(`${this.#path}: ${(error as Error).message}`);
      return 0;
    }
  }
  choice<Value extends string>(values: readonly Value[], fallback: Value): Value {
    const text = this.text(fallback);
    const found = values.find((value) => value === text);
    if (found === undefined) this.problem(`${this.#path} must be one of ${values.join(', ')}`);
    return found ?? fallback;
  }
}

const KEYS = [
  'gameday',
  'title',
  'hypothesis',
  'time_scale',
  'load',
  'preconditions',
  'steady_state',
  'inject',
  'expect',
  'abort_if',
  'mutations',
] as const;

function gameOf(root: Field, file: string): Game {
  const top = root.map(KEYS, ['gameday', 'title', 'hypothesis', 'inject', 'expect']);
  const load = top.load.map(['builds_per_minute', 'kind', 'daemon_config', 'prune', 'small_disk']);
  const before = top.preconditions.map(['budget_remaining', 'tools']);
  const steady = top.steady_state.map(['builds', 'success', 'queries']);
  const inject = top.inject.map(['fault', 'target', 'set', 'for'], ['fault', 'target', 'for']);
  const abort = top.abort_if.map(['success_below', 'after_builds', 'alerts']);
  const name = top.gameday.text();
  if (!file.startsWith('<') && `${name}.yaml` !== basename(file))
    top.gameday.problem(`the game is called "${name}" but its file ${basename(file)}`);
  const fault = inject.fault.text();
  if (fault !== 'none' && !inject.fault.missing && !FAULTS.some((one) => one.name === fault))
    inject.fault.problem(`there is no fault "${fault}"; cooper chaos list shows them`);
  const expect = top.expect.list().flatMap((field) => expectationOf(field) ?? []);
  if (expect.length === 0) top.expect.problem('a game that expects nothing proves nothing');
  const successBelow = abort.success_below.optionalNumber();
  return {
    name,
    file,
    title: top.title.text(),
    hypothesis: top.hypothesis.text(),
    timeScale: top.time_scale.number(20),
    load: {
      buildsPerMinute: load.builds_per_minute.number(30),
      kind: load.kind.choice(['cache', 'push', 'memory', 'secret', 'plain'], 'plain'),
      prune: load.prune.scalar() === true,
      smallDisk: load.small_disk.scalar() === true,
      toml: load.daemon_config.text(),
    },
    preconditions: {
      budgetRemaining: Object.fromEntries([...before.budget_remaining.entries()].map(([slo, field]) => [slo, field.number(0)])),
      tools: before.tools.texts(),
    },
    steadyState: {
      builds: steady.builds.number(3),
      success: steady.success.number(1),
      queries: steady.queries.list().map((field) => conditionOf(field).condition),
    },
    inject: {
      fault,
      target: inject.target.choice(TARGETS, 'none'),
      set: Object.fromEntries(
        [...inject.set.entries()].map(([key, field]) => [
          key,
          typeof field.scalar() === 'number' ? field.number(0) : field.text(),
        ]),
      ),
      forMs: inject.for.duration('10m'),
    },
    expect,
    abortIf: {
      ...(successBelow !== undefined && { successBelow }),
      afterBuilds: abort.after_builds.number(5),
      alerts: abort.alerts.texts(),
    },
    mutations: [...top.mutations.entries()].map(([mutation, field]) => mutationOf(mutation, field)),
  };
}

function conditionOf(field: Field): { readonly condition: QueryCondition; readonly title: string; readonly withinMs: number } {
  const { query, above, below, title, within } = field.map(['query', 'above', 'below', 'title', 'within'], ['query']);
  const [over, under] = [above.optionalNumber(), below.optionalNumber()];
  if (over === undefined && under === undefined) field.problem('a query needs "above" or "below"');
  const condition = {
    query: query.text(),
    ...(over !== undefined && { above: over }),
    ...(under !== undefined && { below: under }),
  };
  return { condition, title: title.text(query.text()), withinMs: within.duration('5m') };
}

const EXPECTATION_KEYS: Readonly<Record<string, (field: Field) => Expectation>> = {
  alert: (field) => {
    const keys = ['alert', 'within', 'severity', 'routed_to', 'grouped', 'inhibits', 'resolves_within'] as const;
    const map = field.map(keys, ['alert', 'within']);
    const grouped = map.grouped.optionalNumber();
    return {
      kind: 'alert',
      alert: map.alert.text(),
      withinMs: map.within.duration('5m'),
      inhibits: map.inhibits.texts(),
      ...(!map.severity.missing && { severity: map.severity.text() }),
      ...(!map.routed_to.missing && { routedTo: map.routed_to.text() }),
      ...(grouped !== undefined && { grouped }),
      ...(!map.resolves_within.missing && { resolvesWithinMs: map.resolves_within.duration('5m') }),
    };
  },
  no_alert: (field) => ({ kind: 'no-alert', alert: field.map(['no_alert']).no_alert.text() }),
  builds_failed: (field) => {
    const { at_most, at_least, kinds } = field.map(['builds_failed']).builds_failed.map(['at_most', 'at_least', 'kinds']);
    const [most, least] = [at_most.optionalNumber(), at_least.optionalNumber()];
    if (most === undefined && least === undefined) field.problem('builds_failed needs "at_most" or "at_least"');
    return {
      kind: 'builds-failed',
      ...(most !== undefined && { atMost: most }),
      ...(least !== undefined && { atLeast: least }),
      ...(!kinds.missing && { kinds: kinds.texts() }),
    };
  },
  fallback: (field) => {
    const { builds, within } = field.map(['fallback']).fallback.map(['builds', 'within']);
    return { kind: 'fallback', builds: builds.number(1), withinMs: within.duration('5m') };
  },
  crosses: (field) => ({ kind: 'crosses', ...conditionOf(field.map(['crosses']).crosses) }),
  recovers: (field) => ({ kind: 'recovers', ...conditionOf(field.map(['recovers']).recovers) }),
  builds_again: (field) => ({
    kind: 'builds-again',
    withinMs: field.map(['builds_again']).builds_again.map(['within']).within.duration('5m'),
  }),
  heartbeat: (field) => {
    const { receiver, stops_within, resumes_within } = field
      .map(['heartbeat'])
      .heartbeat.map(['receiver', 'stops_within', 'resumes_within'], ['receiver']);
    return {
      kind: 'heartbeat',
      receiver: receiver.text(),
      stopsWithinMs: stops_within.duration('5m'),
      resumesWithinMs: resumes_within.duration('5m'),
    };
  },
  runbook_verify: (field) => {
    const { runbook_verify, within } = field.map(['runbook_verify', 'within']);
    return { kind: 'runbook-verify', alert: runbook_verify.text(), withinMs: within.duration('5m') };
  },
  value_absent: (field) => ({ kind: 'value-absent', places: field.map(['value_absent']).value_absent.texts() }),
  mttr: (field) => ({ kind: 'mttr', withinMs: field.map(['mttr']).mttr.duration('15m') }),
};

function expectationOf(field: Field): Expectation | undefined {
  const key = [...field.entries().keys()].find((one) => one in EXPECTATION_KEYS);
  if (key === undefined) {
    field.problem(`an expectation is one of ${Object.keys(EXPECTATION_KEYS).join(', ')}`);
    return undefined;
  }
  return EXPECTATION_KEYS[key]?.(field);
}

function mutationOf(name: string, field: Field): Mutation {
  const { change, value, must_fail } = field.map(['change', 'value', 'must_fail'], ['change', 'must_fail']);
  return { name, change: change.choice(MUTATION_CHANGES, 'never-heals'), value: value.text(), mustFail: must_fail.text() };
}
