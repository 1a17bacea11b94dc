/**
 * The account of one running build: an event sink that notes every look-up, turns what the solver knows of a miss into its true cause by
 * comparing with the nearest earlier build, and passes everything on. On the way of a hit it costs a few map look-ups; definitions are
 * taken apart only where something missed, or when the build is over.
 */
import type { BuildEvent, EventSink, MissCause, StepInfo } from '../events.ts';
import type { Graph, Vertex } from '../llb/definition.ts';
import { Comparison, causeAlone, type FileChanges, isFound } from './compare.ts';
import { likeness, matchSteps, vertexIndex } from './match.ts';
import { type Keep, partsOf } from './parts.ts';
import {
  ACCOUNT_VERSION,
  type AccountRecord,
  KEY_FORMAT,
  type MissRecord,
  noteFacts,
  type ReadRecord,
  type StepRecord,
} from './record.ts';

const MAX_STEPS = 5_000;

export interface AccountParts {
  readonly ref: string;
  readonly line: string;
  readonly startedAtMs: number;
  readonly args: Readonly<Record<string, string>>;
  readonly keep: Keep;
  /** Finished builds of the same line, the newest first; may grow while the build runs. */
  readonly earlier: () => readonly AccountRecord[];
  readonly findEviction: (key: string) => { readonly policy: string; readonly atNs: bigint } | undefined;
  /** Keeps the list of files that were read; its name, or undefined. */
  readonly keepList: (read: ReadRecord, resultId: string) => Promise<string | undefined>;
  /** Files that differ; undefined when a list is gone. */
  readonly compareLists: (now: ReadRecord, before: ReadRecord) => Promise<FileChanges | undefined>;
  readonly onProblem: (error: unknown) => void;
}

type Lookup = Extract<BuildEvent, { readonly type: 'cache-lookup' }>;

export class BuildAccount implements EventSink {
  readonly #parts: AccountParts;
  readonly #next: EventSink;
  readonly #vertices = new Map<string, Vertex>();
  readonly #steps: LiveStep[] = [];
  readonly #byDigest = new Map<string, number>();
  readonly #lists: Promise<void>[] = [];
  #dropped = 0;
  #finished = false;
  #nearest:
    | { readonly of: readonly AccountRecord[]; readonly steps: number; readonly record: AccountRecord | undefined }
    | undefined;
  #compared: { readonly with: AccountRecord; readonly steps: number; readonly comparison: Comparison } | undefined;

  constructor(parts: AccountParts, next: EventSink) {
    this.#parts = parts;
    this.#next = next;
  }

  get ref(): string {
    return this.#parts.ref;
  }

  /** A graph the build is about to load. */
  loaded({ vertices }: Graph): void {
    for (const vertex of vertices) this.#vertices.set(vertex.digest, vertex);
  }

  emit(event: BuildEvent): void {
    let passed = event;
    try {
      passed = this.#note(event);
    } catch (error) {
      this.#parts.onProblem(error); // an explanation can be missing; an event cannot
    }
    this.#next.emit(passed);
  }

  /** The account as it is kept. Resolves once lists of files have been compared. */
  async finish(): Promise<AccountRecord> {
    this.#finished = true;
    await Promise.allSettled(this.#lists);
    const nearest = this.#nearestEarlier();
    const comparison = this.#comparison();
    for (const [at, step] of this.#steps.entries()) {
      const before = comparison?.equalBefore(at);
      if (before !== undefined) inherit(step, before);
      if (comparison !== undefined) this.#judgeAgain(at, step, comparison);
    }
    const { ref, line, startedAtMs, args } = this.#parts;
    return {
      version: ACCOUNT_VERSION,
      ref,
      line,
      startedAtMs,
      keyFormat: KEY_FORMAT,
      args,
      ...(nearest === undefined ? {} : { against: nearest.ref }),
      steps: this.#steps.map((step) => step.plain()),
      dropped: this.#dropped,
    };
  }

  /** A step that had not been needed yet when it was named as the cause, and in the end was found. */
  #judgeAgain(at: number, step: StepRecord, comparison: Comparison): void {
    const { cause, miss } = step;
    const named = cause?.because && this.#step(cause.because.step);
    if (cause === undefined || miss === undefined || named === undefined || !isFound(named)) return;
    const { changes, more } = cause;
    step.cause = { ...comparison.causeOf(at, miss), changes, more };
  }

  #note(event: BuildEvent): BuildEvent {
    if (event.type === 'steps-announced') for (const info of event.steps.toReversed()) this.#announce(info);
    else if (event.type === 'cache-lookup') return this.#noteLookup(event);
    else if (event.type === 'step-finished') {
      const step = this.#step(event.step);
      if (step !== undefined && event.forKey === true) {
        if (event.pin !== undefined) step.pin = event.pin;
        if (event.outcome !== 'executed') step.end = event.outcome;
      } else if (step !== undefined) {
        step.end = event.outcome;
        if (step.startedAtNs !== undefined && event.outcome === 'executed') step.runNs = Number(event.atNs - step.startedAtNs);
      }
    } else if (event.type === 'step-started' && event.forKey !== true) {
      const step = this.#step(event.step);
      if (step !== undefined) step.startedAtNs = event.atNs;
    }
    return event;
  }

  /** Steps come root first; here inputs stand before what is made of them. */
  #announce(info: StepInfo): void {
    const vertex = this.#vertices.get(info.vertex ?? info.step);
    if (vertex === undefined || this.#byDigest.has(info.step)) return; // no step of a graph, or known
    if (this.#steps.length >= MAX_STEPS) {
      this.#dropped += 1;
      return;
    }
    this.#byDigest.set(info.step, this.#steps.length);
    const inputs = info.inputs.map((input) => this.#byDigest.get(input) ?? -1);
    this.#steps.push(new LiveStep(info, vertex, inputs, this.#parts.keep, (digest) => this.#knownParts(digest)));
  }

  #noteLookup(event: Lookup): BuildEvent {
    const step = this.#step(event.step);
    const at = this.#byDigest.get(event.step);
    if (step === undefined || at === undefined) return event;
    noteFacts(step, event.facts);
    for (const [input, read] of step.reads.entries())
      if (read) this.#keepList(step, input, read, event.facts?.inputs[input]?.result);
    if (!event.hit) return this.#explained(at, step, event);
    step.outcome = event.implied === true ? 'implied' : 'hit';
    step.location = event.location;
    const backend = event.cache ?? event.backend;
    if (backend !== undefined) step.backend = backend;
    const savedNs = event.savedNs ?? this.#runBefore(at);
    if (savedNs === undefined) return event;
    step.savedNs = Number(savedNs);
    step.runNs = Number(savedNs);
    return { ...event, savedNs };
  }

  #explained(at: number, step: StepRecord, event: Extract<Lookup, { readonly hit: false }>): BuildEvent {
    step.outcome = 'miss';
    step.miss = this.#missOf(event);
    const comparison = this.#comparison();
    step.cause = comparison?.causeOf(at, step.miss) ?? causeAlone(step.miss);
    if (comparison !== undefined) this.#compareFiles(at, step, comparison, event);
    return { ...event, reason: step.cause.reason, detail: step.cause.summary, cause: step.cause };
  }

  #missOf({ reason, detail, facts }: Extract<Lookup, { readonly hit: false }>): MissRecord {
    const base = { reason, ...(detail === undefined ? {} : { detail }) };
    if (reason !== 'evicted') return base;
    for (const key of facts?.keys ?? []) {
      const eviction = this.#parts.findEviction(key);
      if (eviction !== undefined) return { ...base, policy: eviction.policy, evictedAtMs: Number(eviction.atNs / 1_000_000n) };
    }
    return base;
  }

  /** In a thread, while the step runs; the cause with its files follows. */
  #compareFiles(at: number, step: StepRecord, comparison: Comparison, event: Lookup): void {
    const reads = comparison.changedReads(at);
    const { miss } = step;
    if (reads.length === 0 || miss === undefined) return;
    const work = async (): Promise<void> => {
      await Promise.allSettled([...this.#lists]); // the lists of this step are on their way
      const found: FileChanges[] = [];
      for (const { input, before } of reads) {
        const now = step.reads[input];
        const files = now == null ? undefined : await this.#parts.compareLists(now, before);
        if (files !== undefined) found.push(files);
      }
      const files: FileChanges = {
        changes: found.flatMap(({ changes }) => changes),
        more: found.reduce((sum, { more }) => sum + more, 0),
        total: found.reduce((sum, { total }) => sum + total, 0),
      };
      if (files.changes.length === 0) return;
      const cause = withFiles(comparison, at, miss, files, step.cause);
      step.cause = cause;
      if (!this.#finished)
        this.#next.emit({ type: 'cache-explained', build: event.build, step: event.step, atNs: event.atNs, cause });
    };
    this.#lists.push(work().catch(this.#parts.onProblem));
  }

  #keepList(step: StepRecord, input: number, read: ReadRecord, resultId: string | undefined): void {
    if (resultId === undefined || read.list !== undefined) return;
    const keep = this.#parts.keepList(read, resultId).then((list) => {
      if (list !== undefined) step.reads[input] = { ...read, list };
    });
    this.#lists.push(keep.catch(this.#parts.onProblem));
  }

  #step(digest: string): LiveStep | undefined {
    return this.#steps[this.#byDigest.get(digest) ?? -1];
  }

  /** Chosen anew only when there is more to choose from. */
  #nearestEarlier(): AccountRecord | undefined {
    const of = this.#parts.earlier();
    if (this.#nearest !== undefined && this.#nearest.of === of && this.#nearest.steps === this.#steps.length)
      return this.#nearest.record;
    let best: { readonly record: AccountRecord; readonly score: number } | undefined;
    for (const record of of) {
      const score = likeness(this.#steps, record);
      if (score > 0 && (best === undefined || score > best.score)) best = { record, score };
      if (score === 2) break; // the newest that has every step; a rebuild costs one pass
    }
    this.#nearest = { of, steps: this.#steps.length, record: best?.record };
    return best?.record;
  }

  /** One for as long as there is nothing else to compare: it remembers what it found of the steps below. */
  #comparison(): Comparison | undefined {
    const nearest = this.#nearestEarlier();
    if (nearest === undefined) return undefined;
    if (this.#compared === undefined || this.#compared.with !== nearest || this.#compared.steps !== this.#steps.length) {
      const now = { steps: this.#steps, args: this.#parts.args, keyFormat: KEY_FORMAT };
      const comparison = new Comparison(now, nearest, matchSteps(this.#steps, nearest));
      this.#compared = { with: nearest, steps: this.#steps.length, comparison };
    }
    return this.#compared.comparison;
  }

  #runBefore(at: number): bigint | undefined {
    const runNs = this.#comparison()?.equalBefore(at)?.runNs;
    return runNs === undefined ? undefined : BigInt(runNs);
  }
  #knownParts(vertex: string): StepRecord['parts'] | undefined {
    return this.#before(vertex)?.parts;
  }
  #before(vertex: string): StepRecord | undefined {
    const nearest = this.#nearestEarlier();
    return nearest?.steps[vertexIndex(nearest).get(vertex) ?? -1];
  }
}

/** A step while its build runs; its definition is taken apart when somebody asks. */
class LiveStep implements StepRecord {
  readonly step: string;
  readonly vertex: string;
  readonly name: string;
  readonly op: StepRecord['op'];
  readonly cacheable: boolean;
  readonly inputs: readonly number[];
  reads: (ReadRecord | null)[];
  outcome: StepRecord['outcome'] = 'none';
  startedAtNs: bigint | undefined;
  readonly #make: () => StepRecord['parts'];
  #parts: StepRecord['parts'] | undefined;
  declare key?: string;
  declare pin?: string;
  declare location?: NonNullable<StepRecord['location']>;
  declare backend?: string;
  declare miss?: MissRecord;
  declare cause?: MissCause;
  declare end?: string;
  declare runNs?: number;
  declare savedNs?: number;

  constructor(
    info: StepInfo,
    vertex: Vertex,
    inputs: readonly number[],
    keep: Keep,
    known: (digest: string) => StepRecord['parts'] | undefined,
  ) {
    this.step = info.step;
    this.vertex = vertex.digest;
    this.name = info.name;
    this.op = info.op;
    this.cacheable = info.cacheable;
    this.inputs = inputs;
    this.reads = inputs.map(() => null);
    this.#make = () => known(vertex.digest) ?? partsOf(vertex, keep);
  }

  get parts(): StepRecord['parts'] {
    this.#parts ??= this.#make();
    return this.#parts;
  }
  /** Without what only a running build needs. */
  plain(): StepRecord {
    const { startedAtNs: _startedAtNs, ...kept } = this as StepRecord & { readonly startedAtNs: bigint | undefined };
    return { ...kept, parts: this.parts };
  }
}

/** What this build did not have to find out again holds as before. */
function inherit(step: StepRecord, before: StepRecord): void {
  if (step.key === undefined && before.key !== undefined) step.key = before.key;
  if (step.pin === undefined && before.pin !== undefined) step.pin = before.pin;
  if (step.runNs === undefined && before.runNs !== undefined) step.runNs = before.runNs;
  if (step.outcome === 'miss') return;
  for (const [input, read] of before.reads.entries()) step.reads[input] ??= read;
}

/** A stage's files are shown beside the step that changed them; files of a source are the cause. */
function withFiles(
  comparison: Comparison,
  at: number,
  miss: MissRecord,
  files: FileChanges,
  cause: MissCause | undefined,
): MissCause {
  if (cause === undefined || cause.reason === 'input-changed') return comparison.causeOf(at, miss, files);
  const changes = [...cause.changes.filter(({ what }) => what !== 'input'), ...files.changes];
  return { ...cause, changes, more: cause.more + files.more };
}
