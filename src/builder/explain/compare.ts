/**
 * Why one step missed, found by comparing it with the same step of an earlier build. Pure: both accounts are data. A change that a step
 * only inherits (the same variable changed for the step below it) is that step's cause, not this one's.
 */
import type { CacheChange, MissCause, MissReason } from '../events.ts';
import { type Matching, splitName } from './match.ts';
import type { AccountRecord, MissRecord, ReadRecord, StepRecord } from './record.ts';
import { standsOnAnother, summaryOf } from './words.ts';

/** Files that differ between two lists. */
export interface FileChanges {
  readonly changes: readonly CacheChange[];
  readonly more: number;
  /** Files in the newer list. */
  readonly total: number;
}
/** An input of a step whose files are other ones than before. */
export interface ChangedRead {
  readonly input: number;
  readonly now: ReadRecord;
  readonly before: ReadRecord;
}

type Account = Pick<AccountRecord, 'args' | 'keyFormat'> & { readonly steps: readonly StepRecord[] };

const MAX_CHANGES = 20;
const MAX_DEPTH = 500; // of steps that were found; a miss ends the way down
/** The first change of these kinds gives the reason. */
const REASONS: readonly (readonly [CacheChange['what'], MissReason])[] = [
  ['platform', 'platform-changed'],
  ['build-arg', 'build-arg-changed'],
  ['base-image', 'base-image-changed'],
  ['source', 'source-moved'],
  ['command', 'instruction-changed'],
  ['mount', 'mount-changed'],
  ['instruction', 'instruction-changed'],
  ['action', 'instruction-changed'],
  ['option', 'instruction-changed'],
  ['env', 'environment-changed'],
  ['workdir', 'environment-changed'],
  ['user', 'environment-changed'],
  ['file', 'input-changed'],
  ['input', 'input-changed'],
];

export class Comparison {
  readonly #now: Account;
  readonly #before: AccountRecord;
  readonly #matching: Matching;
  readonly #own = new Map<number, readonly CacheChange[]>();
  /** Arguments that stand in the text of the step itself, so that they are its own cause whoever else has them. */
  readonly #inText = new Map<number, ReadonlySet<string>>();

  constructor(now: Account, before: AccountRecord, matching: Matching) {
    this.#now = now;
    this.#before = before;
    this.#matching = matching;
  }

  /** The cause of a miss; causes of the steps it stands on are known already, as those are looked up before it. */
  causeOf(at: number, miss: MissRecord, files?: FileChanges): MissCause {
    const step = this.#now.steps[at] as StepRecord;
    const told = toldCause(miss);
    if (told !== undefined) return this.#changedAnyway(at, miss, files) ?? { ...told, against: this.#before.ref };
    const before = this.#matched(at);
    if (before === undefined) return this.#cause('never-seen', [], 'no earlier build has this step');
    const own = this.#fresh(at);
    const changes = files === undefined ? own : [...own.filter(({ what }) => what !== 'input'), ...files.changes];
    const reason = REASONS.find(([what]) => changes.some((change) => change.what === what))?.[1];
    if (reason !== undefined) return this.#cause(reason, changes, undefined, { files });
    const [format, oldFormat] = [this.#now.keyFormat, this.#before.keyFormat];
    if (format !== oldFormat)
      return this.#cause('key-format-changed', [{ what: 'key-format', name: '', old: String(oldFormat), new: String(format) }]);
    const { missed, found } = this.#changedParent(at);
    if (missed !== undefined) {
      const because = missed.cause?.because ?? { step: missed.step as MissCauseStep, name: missed.name };
      return this.#cause('parent-changed', [], undefined, { because });
    }
    if (found !== undefined) return this.#cause('parent-changed', [], standsOnAnother(found.name));
    return this.#unchanged(step, before, miss);
  }

  /** A step that is another one would have missed with the remote cache, too, as far as anybody can know. */
  #changedAnyway(at: number, miss: MissRecord, files: FileChanges | undefined): MissCause | undefined {
    if (miss.reason !== 'backend-down' || this.#matched(at) === undefined) return undefined;
    const { missed, found } = this.#changedParent(at);
    const lower =
      missed === undefined ? found !== undefined : missed.cause !== undefined && missed.cause.reason !== 'backend-down';
    if (this.#fresh(at).length === 0 && !lower) return undefined;
    const cause = this.causeOf(at, { ...miss, reason: 'never-seen' }, files);
    return { ...cause, summary: `${cause.summary}; a remote cache did not answer either` };
  }

  /** The same step of the earlier build, when it is the same work: the same definition on the same files, as far as they were read. */
  equalBefore(at: number): StepRecord | undefined {
    const [step, before] = [this.#now.steps[at], this.#matched(at)];
    if (step === undefined || before === undefined) return undefined;
    if (step.vertex === before.vertex) return before;
    const sameFiles = step.reads.every(
      (read, input) => read == null || read.content === (before.reads[input]?.content ?? read.content),
    );
    return sameFiles && this.#changes(at).length === 0 ? before : undefined;
  }

  /** The inputs whose files differ; their lists can be compared. */
  changedReads(at: number): ChangedRead[] {
    const step = this.#now.steps[at];
    const before = this.#matched(at);
    return (step?.reads ?? []).flatMap((now, input) => {
      const old = before?.reads[input];
      if (now === null || now === undefined || old === null || old === undefined || now.content === old.content) return [];
      return JSON.stringify(now.reads) === JSON.stringify(old.reads) ? [{ input, now, before: old }] : [];
    });
  }

  /** Nothing differs and nothing was found. */
  #unchanged(step: StepRecord, before: StepRecord, miss: MissRecord): MissCause {
    if (miss.reason === 'unpinned-source') return this.#cause('unpinned-source', [], causeAlone(miss).summary);
    const [old, now] = [before.key, step.key];
    // The key of a source is what the source is, for a local directory the session, too: it tells nothing of how keys are made.
    if (step.op !== 'source' && old !== undefined && now !== undefined && old !== now)
      return this.#cause('key-format-changed', [{ what: 'key-format', name: '', old, new: now }]);
    if (before.end !== 'executed' && before.end !== 'cached')
      return this.#cause('never-seen', [], `the earlier build ${this.#before.ref} did not finish this step`);
    return this.#cause('never-seen', [], 'the same step was built before, but no result of it is kept');
  }

  #cause(
    reason: MissReason,
    changes: readonly CacheChange[],
    summary?: string,
    more: { readonly because?: MissCause['because']; readonly files?: FileChanges | undefined } = {},
  ): MissCause {
    const { because, files } = more;
    const kept = changes.slice(0, MAX_CHANGES);
    return {
      reason,
      summary: summary ?? summaryOf(reason, kept, { because: because?.name, files }),
      changes: kept,
      more: changes.length - kept.length + (files?.more ?? 0),
      ...(because === undefined ? {} : { because }),
      against: this.#before.ref,
    };
  }

  #matched(at: number): StepRecord | undefined {
    const other = this.#matching.get(at);
    return other === undefined ? undefined : this.#before.steps[other];
  }

  /** Own changes that no step below has. */
  #fresh(at: number): readonly CacheChange[] {
    const own = this.#changes(at);
    if (own.length === 0) return own;
    const inherited = new Set<string>();
    const seen = new Set<number>();
    const open = [...(this.#now.steps[at]?.inputs ?? [])];
    for (let input = open.pop(); input !== undefined; input = open.pop()) {
      if (seen.has(input)) continue;
      seen.add(input);
      const step = this.#now.steps[input];
      if (step?.op !== 'source' && step?.outcome === 'miss')
        for (const change of this.#changes(input)) inherited.add(keyOf(change));
      open.push(...(step?.inputs ?? []));
    }
    const inText = this.#inText.get(at);
    return own.filter((change) => !inherited.has(keyOf(change)) || (change.what === 'build-arg' && inText?.has(change.name)));
  }

  #changes(at: number): readonly CacheChange[] {
    const known = this.#own.get(at);
    if (known !== undefined) return known;
    const [step, before] = [this.#now.steps[at], this.#matched(at)];
    const made = step === undefined || before === undefined ? [] : this.#find(at, step, before);
    this.#own.set(at, made);
    return made;
  }

  #find(at: number, step: StepRecord, before: StepRecord): readonly CacheChange[] {
    const changes: CacheChange[] = [];
    const [text, oldText] = [splitName(step.name).text, splitName(before.name).text];
    const parts = changedParts(step, before);
    if (text !== oldText && step.op !== 'source') changes.push({ what: 'instruction', name: '', old: oldText, new: text });
    // A file op says in its actions what the instruction says; the number of an action is nobody's name.
    for (const change of parts) if (change.what !== 'action' || changes.length === 0) changes.push(change);
    for (const input of new Set(step.inputs)) changes.push(...this.#sourceChanges(input));
    for (const { input } of this.changedReads(at)) {
      const source = this.#now.steps[step.inputs[input] ?? -1];
      if (source !== undefined && this.#isRead(source)) changes.push({ what: 'input', name: source.name });
    }
    return this.#attributed(
      at,
      changes.filter(({ what, name, old }) => what !== 'instruction' || old !== undefined || name !== ''),
    );
  }

  /** What is read of a client's directory, a download or an inline document is its own cause; of a stage, the stage's step is. */
  #isRead(source: StepRecord): boolean {
    return source.op === 'source' || source.name.startsWith('[internal]');
  }

  /** An image, a repository or a file on a web server that is another one than before. */
  #sourceChanges(at: number): CacheChange[] {
    const source = this.#now.steps[at];
    const before = this.#matched(at);
    if (source?.op !== 'source' || before === undefined) return [];
    const parts = changedParts(source, before);
    const name = source.parts.image ?? source.parts.source ?? source.name;
    const pinned = source.pin !== undefined && before.pin !== undefined && source.pin !== before.pin;
    if (pinned && !parts.some(({ what }) => what === 'base-image' || what === 'source'))
      parts.push({
        what: source.parts.image === undefined ? 'source' : 'base-image',
        name,
        old: before.pin as string,
        new: source.pin as string,
      });
    return parts.map((change) => (change.what === 'base-image' ? { ...change, name } : change));
  }

  /** Names the build argument behind a change: a variable of that name, or a text in which its value took the place of the old one. */
  #attributed(at: number, changes: readonly CacheChange[]): readonly CacheChange[] {
    const [now, before] = [this.#now.args, this.#before.args];
    const named = new Map<string, CacheChange>();
    const inText = new Set<string>();
    this.#inText.set(at, inText);
    const others = changes.filter((change) => {
      for (const name of new Set([...Object.keys(now), ...Object.keys(before)])) {
        if (now[name] === before[name]) continue;
        const isIt = change.what === 'env' ? change.name === name : explains(change, before[name], now[name]);
        if (!isIt) continue;
        if (change.what !== 'env') inText.add(name);
        const [old, fresh] = [before[name], now[name]];
        named.set(name, {
          what: 'build-arg',
          name,
          ...(old === undefined ? {} : { old }),
          ...(fresh === undefined ? {} : { new: fresh }),
        });
        return change.what !== 'env';
      }
      return true;
    });
    return [...named.values(), ...others];
  }

  /**
   * A step that missed, is new, or was found although it is not what it was. The vertex tells nothing: its digest is another one in each
   * session as soon as a local directory is below it.
   */
  #differs(at: number, depth = MAX_DEPTH, seen = new Set<number>()): boolean {
    const step = this.#now.steps[at];
    if (step === undefined || depth === 0 || seen.has(at)) return false;
    seen.add(at);
    if (step.op !== 'source' && (step.outcome === 'miss' || this.#matched(at) === undefined)) return true;
    if (step.vertex === this.#matched(at)?.vertex) return false;
    return this.#changes(at).length > 0 || step.inputs.some((input) => this.#differs(input, depth - 1, seen));
  }

  /**
   * The first input by definition that is another step than before, and with it the step that missed: the input itself, or one below it
   * when it was found all the same, for what was found is nobody's cause. `found` alone: everything below was in the cache.
   */
  #changedParent(at: number): { readonly missed?: StepRecord; readonly found?: StepRecord } {
    const step = this.#now.steps[at];
    const before = this.#matched(at);
    let found: StepRecord | undefined;
    for (const [input, index] of (step?.inputs ?? []).entries()) {
      const parent = this.#now.steps[index];
      if (parent === undefined || parent.op === 'source') continue; // what became of a source is the step's own change
      const [read, oldRead] = [step?.reads[input], before?.reads[input]];
      if ((read && oldRead && read.content === oldRead.content) || !this.#differs(index)) continue;
      const missed = this.#missedIn(index);
      if (missed !== undefined) return { missed };
      found ??= parent;
    }
    return found === undefined ? {} : { found };
  }

  #missedIn(at: number, depth = MAX_DEPTH, seen = new Set<number>()): StepRecord | undefined {
    const step = this.#now.steps[at];
    if (step === undefined || step.op === 'source' || depth === 0 || seen.has(at)) return undefined;
    seen.add(at);
    if (step.outcome === 'miss') return step;
    for (const input of step.inputs) {
      const missed = this.#missedIn(input, depth - 1, seen);
      if (missed !== undefined) return missed;
    }
    return isFound(step) ? undefined : step;
  }
}

/** Served from the cache, or not needed because something made of it was. */
export const isFound = ({ outcome }: StepRecord): boolean => outcome === 'hit' || outcome === 'implied';

type MissCauseStep = NonNullable<MissCause['because']>['step'];

/** What needs no comparison. */
export function toldCause(miss: MissRecord): Omit<MissCause, 'against'> | undefined {
  const { reason, detail, policy, evictedAtMs } = miss;
  const cause = (summary: string) => ({ reason, summary, changes: [], more: 0 });
  if (reason === 'no-cache-asked') return cause('the client asked to ignore the cache for this step');
  if (reason === 'backend-down') return cause(detail ?? 'a remote cache did not answer');
  if (reason !== 'evicted') return undefined;
  if (policy === undefined || evictedAtMs === undefined)
    return cause('its result was in the cache and could not be loaded any more');
  return cause(`its result was evicted by ${policy} at ${new Date(evictedAtMs).toISOString().slice(0, 19)}Z`);
}

/** Without an earlier build to compare with. */
export function causeAlone(miss: MissRecord): MissCause {
  const told = toldCause(miss);
  if (told !== undefined) return told;
  const { reason, detail } = miss;
  const summary =
    reason === 'input-changed'
      ? `the same step was built on other inputs before${detail ? `: ${detail}` : ''}`
      : reason === 'unpinned-source'
        ? 'a local directory is looked at anew in each build'
        : 'no earlier build of this target is remembered';
  return { reason, summary, changes: [], more: 0 };
}

const WHAT: Readonly<Record<string, CacheChange['what']>> = {
  command: 'command',
  env: 'env',
  workdir: 'workdir',
  user: 'user',
  mount: 'mount',
  platform: 'platform',
  option: 'option',
  action: 'action',
  image: 'base-image',
  'image-digest': 'base-image',
  source: 'source',
};

function changedParts(step: StepRecord, before: StepRecord): CacheChange[] {
  const changes: CacheChange[] = [];
  const imageMoved = step.parts.image !== before.parts.image;
  for (const key of new Set([...Object.keys(step.parts), ...Object.keys(before.parts)])) {
    const [old, now] = [before.parts[key], step.parts[key]];
    if (old === now || (key === 'image-digest' && imageMoved)) continue;
    const colon = key.indexOf(':');
    const what = WHAT[colon === -1 ? key : key.slice(0, colon)] ?? 'option';
    const name = colon === -1 || what === 'action' ? '' : key.slice(colon + 1);
    changes.push({ what, name, ...(old === undefined ? {} : { old }), ...(now === undefined ? {} : { new: now }) });
  }
  return changes;
}

/** The new text is the old one with the one value in place of the other. */
function explains({ old, new: now }: CacheChange, oldValue: string | undefined, newValue: string | undefined): boolean {
  if (old === undefined || now === undefined || !oldValue || !newValue || !old.includes(oldValue)) return false;
  return old.replaceAll(oldValue, newValue) === now;
}

const keyOf = ({ what, name, old, new: now }: CacheChange): string => JSON.stringify([what, name, old, now]);
