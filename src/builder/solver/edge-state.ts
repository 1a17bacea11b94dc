/**
 * One output of a vertex on its way to a result, driven by what others want of it:
 *
 *   keys by definition  ─► keys by content  ─► result
 *   (evaluates nothing)    (evaluates only     (a hit is loaded; otherwise every input
 *                           what is read)       is evaluated and the op runs)
 *
 * A key found at any point is looked up, and a hit ends the way there. Inputs are asked for no more than the level in use needs, so a
 * build whose last step is cached touches nothing below it. `advance` may be called at any time and never waits.
 */

import type { Clock } from '../../core/clock.ts';
import type { CacheDigest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { LookupFacts, MissReason } from '../events.ts';
import { findKeys, type InputNames, inAll, keyFor, linkAll, linkOf, type OpOutput, rootKey } from './keys.ts';
import {
  type CacheIndex,
  type CacheMap,
  type LoadedRemote,
  REMOTE,
  type RemoteCache,
  type RemoteResult,
  type Result,
  type ResultStore,
  type StoredResult,
} from './ports.ts';
import type { EdgeHandle, VertexState } from './vertex-state.ts';
import type { Machine, WorkQueue } from './work-queue.ts';

export const LEVEL = { NONE: 0, DEFINITION: 1, CONTENT: 2, RESULT: 3 } as const;
export type Level = (typeof LEVEL)[keyof typeof LEVEL];

/** Somebody who wants something of an edge. */
export interface Demand {
  /** The edge knows more than before. */
  wake(): void;
}
export interface EdgeServices {
  readonly queue: WorkQueue;
  readonly index: CacheIndex;
  readonly results: ResultStore;
  readonly clock: Clock;
  readonly onProblem: (error: BuildError) => void;
  readonly edgeOf: (state: VertexState, output: number) => EdgeState;
  /** Runs that are on their way, by the key their result will have: an equal step of another graph waits for it. */
  readonly producing: Map<string, EdgeState>;
  /** A vertex that lost a follower may be held by nobody now. */
  readonly releaseIfUnheld: (state: VertexState) => void;
}
export type Outcome =
  | { readonly type: 'done'; readonly result: Result }
  | { readonly type: 'failed'; readonly error: BuildError };

type Hit =
  | { readonly key: string; readonly stored: StoredResult }
  | { readonly cache: RemoteCache; readonly remote: RemoteResult };

const isRemote = (key: string): boolean => key.startsWith(REMOTE);

export class EdgeState implements EdgeHandle, Machine {
  readonly vertex: VertexState;
  readonly output: number;
  readonly #services: EdgeServices;
  readonly #demands = new Map<Demand, Level>();
  readonly #levels = [0, 0, 0, 0];
  /** Names others may look this output up by. */
  readonly keys: string[] = [];
  /** The name of a run that was asked to ignore the cache: stored, but nothing is looked up through it. */
  #unlistedKey: string | undefined;
  #inputs: Input[] | undefined;
  #lostHit = false;
  #lostRemote: string | undefined;
  #loading = false;
  #leader: Following | undefined;
  #producingKey: string | undefined;
  #outcome: Outcome | undefined;
  /** No key will be found any more without evaluating an input. */
  definitionDone = false;
  /** No key will be found any more without the result itself. */
  contentDone = false;

  constructor(vertex: VertexState, output: number, services: EdgeServices) {
    this.vertex = vertex;
    this.output = output;
    this.#services = services;
    vertex.edges.set(output, this);
    vertex.reporter.facts ??= () => this.#facts();
  }

  get outcome(): Outcome | undefined {
    return this.#outcome;
  }
  get wanted(): boolean {
    return this.#outcome === undefined && this.#demands.size > 0;
  }
  get allKeys(): readonly string[] {
    return this.#unlistedKey === undefined ? this.keys : [...this.keys, this.#unlistedKey];
  }
  get #want(): Level {
    for (const level of [LEVEL.RESULT, LEVEL.CONTENT, LEVEL.DEFINITION]) if ((this.#levels[level] ?? 0) > 0) return level;
    return LEVEL.NONE;
  }

  /** Sets what `demand` wants; NONE withdraws it. The edge is looked at again later, never inside this call. */
  setDemand(demand: Demand, level: Level): void {
    const before = this.#demands.get(demand) ?? LEVEL.NONE;
    if (before === level) return;
    this.#levels[before] = (this.#levels[before] ?? 0) - 1;
    this.#levels[level] = (this.#levels[level] ?? 0) + 1;
    if (level === LEVEL.NONE) this.#demands.delete(demand);
    else this.#demands.set(demand, level);
    if (this.#outcome === undefined) this.wake();
  }

  wake(): void {
    this.#services.queue.push(this);
  }

  /** A remote cache came late. The names it knows are learnt also for what was made meanwhile, because others stand on that. */
  relearn(): void {
    const { ignoreCache, released, maps } = this.vertex;
    if (this.#inputs !== undefined && !ignoreCache && !released && maps.length > 0) this.#learnKeys();
    this.wake();
  }

  reset(): void {
    if (this.#outcome?.type !== 'failed') return;
    this.#outcome = undefined;
    this.definitionDone = false;
    this.contentDone = false;
    this.wake(); // somebody may not have looked at the failure yet; he waits for the new way instead
  }

  crash(error: unknown): void {
    this.#settle({ type: 'failed', error: BuildError.from(error) });
  }

  advance(): void {
    if (this.#outcome !== undefined) return;
    if (this.#want === LEVEL.NONE || this.vertex.released) {
      this.#rest();
      this.vertex.stopIfUnwanted();
      return;
    }
    const error = this.vertex.error ?? this.#failedInput();
    if (error !== undefined) return this.#settle({ type: 'failed', error });
    const made = this.vertex.outputs.get(this.output);
    if (made !== undefined) return this.#settle({ type: 'done', result: made });
    if (this.#loading || this.vertex.isFetching(this.output) || this.vertex.running || this.#follows()) return;
    this.#seek();
  }

  #seek(): void {
    if (this.vertex.ignoreCache) {
      this.#announce(true, true); // whoever wants only keys learns that there are none
      if (this.#want === LEVEL.RESULT) this.#evaluate();
      return;
    }
    for (const input of this.#ownInputs()) input.ask(LEVEL.DEFINITION);
    if (this.vertex.maps.length === 0) return this.vertex.requestMap();
    this.#learnKeys();
    const hit = this.#findHit();
    if (hit === undefined && !this.vertex.mapsDone) return this.vertex.requestMap();
    const definitionDone = this.#ownInputs().every(({ target }) => target.definitionDone);
    const exhausted = definitionDone && hit === undefined && this.#want >= LEVEL.CONTENT && this.#seekByContent();
    this.#announce(definitionDone, definitionDone && (hit !== undefined || exhausted));
    if (this.#want !== LEVEL.RESULT) return;
    if (hit !== undefined) this.#load(hit);
    else if (exhausted) this.#evaluate();
  }

  /** Looks up every name learnt since the last time; new keys are noted, and everything that led to them is linked. */
  #learnKeys(): void {
    const before = this.keys.length;
    const inputs = this.#ownInputs();
    if (inputs.length === 0) {
      for (const { digest, ephemeral } of this.vertex.maps) this.#addKey(rootKey(digest, this.output, ephemeral ?? false));
    } else {
      let changed = false;
      const caches = this.vertex.remoteCaches();
      for (const input of inputs) changed = input.probe(this.#services.index, caches, this.#op()) || changed;
      if (!changed) return;
      for (const key of inAll(inputs.map(({ candidates }) => candidates))) {
        this.#addKey(key);
        if (!isRemote(key)) linkAll(this.#services.index, this.#op(), this.#names(), key);
      }
      this.#nameRemoteKey();
    }
    if (this.keys.length > before) this.#notify();
  }

  /** What only a remote cache knows gets a key of ours too: steps that stand on it, and its result once fetched, are stored by it. */
  #nameRemoteKey(): void {
    if (this.keys.length === 0 || !this.keys.every(isRemote)) return;
    const names = this.#names();
    if (names.some(({ keys, contentKey }) => keys.length === 0 && contentKey === undefined)) return;
    const { index } = this.#services;
    const key = keyFor(index, this.#op(), names);
    linkAll(index, this.#op(), names, key);
    this.#addKey(key);
  }

  #addKey(key: string): void {
    if (!this.keys.includes(key)) this.keys.push(key);
  }

  /**
   * The newest result under any key, one of ours before one that would have to be fetched; looked up anew each time, because another
   * build may have stored it just now.
   */
  #findHit(): Hit | undefined {
    let best: Extract<Hit, { stored: StoredResult }> | undefined;
    for (const key of this.keys) {
      const [stored] = this.#services.index.results(key);
      if (stored !== undefined && (best === undefined || stored.createdAtNs > best.stored.createdAtNs)) best = { key, stored };
    }
    return best ?? this.findRemote();
  }

  /** The newest result in the remote caches of the builds that share the vertex. */
  findRemote(): Extract<Hit, { remote: RemoteResult }> | undefined {
    let best: Extract<Hit, { remote: RemoteResult }> | undefined;
    for (const cache of this.vertex.remoteCaches())
      for (const key of this.keys) {
        const [remote] = cache.results(key);
        if (remote !== undefined && (best === undefined || remote.createdAtNs > best.remote.createdAtNs))
          best = { cache, remote };
      }
    return best;
  }

  /**
   * Asks inputs for more names, those first that matched nothing yet: what they turn out to hold may settle the matter without
   * evaluating the others. True when there is nothing left to learn, or one input can match nothing any more.
   */
  #seekByContent(): boolean {
    const inputs = this.#ownInputs();
    const unmatched = inputs.filter(({ candidates }) => candidates.size === 0);
    // What the other inputs are already doing goes on: an edge that matches nothing is all but sure to be run.
    if (unmatched.some((input) => input.target.contentDone && !this.#needsContentKey(input))) return true;
    let open = false;
    for (const input of unmatched.length > 0 ? unmatched : inputs) {
      if (!input.target.contentDone) input.ask(LEVEL.CONTENT);
      else if (this.#needsContentKey(input)) this.#seekContentKey(input);
      else continue;
      open = true;
    }
    return !open;
  }

  #needsContentKey(input: Input): boolean {
    return this.#map()?.inputs[input.at]?.contentKey !== undefined && this.vertex.contentKeys[input.at] === undefined;
  }
  #seekContentKey(input: Input): void {
    input.ask(LEVEL.RESULT);
    if (input.target.outcome?.type === 'done') this.vertex.requestContentKey(input.at, input.target.outcome.result);
  }

  /** Nothing stored will do: has every input made, takes a last look with all that is known then, and runs the op. */
  #evaluate(): void {
    const inputs = this.#ownInputs();
    for (const input of inputs) input.ask(LEVEL.RESULT);
    if (!this.vertex.mapsDone) return this.vertex.requestMap();
    const results: Result[] = [];
    let open = false;
    for (const input of inputs) {
      if (input.target.outcome?.type !== 'done') open = true;
      else if (this.#needsContentKey(input)) {
        this.#seekContentKey(input);
        open = true;
      } else results.push(input.target.outcome.result);
    }
    if (open) return;
    if (!this.vertex.ignoreCache) {
      this.#learnKeys();
      const hit = this.#findHit();
      if (hit !== undefined) return this.#load(hit);
    }
    this.#runOrFollow(results);
  }

  #runOrFollow(inputs: readonly Result[]): void {
    const { index, producing } = this.#services;
    const names = this.#names();
    const key = names.length === 0 ? this.#rootKeys()[0] : keyFor(index, this.#op(), names);
    const leader = key === undefined || this.vertex.ignoreCache ? undefined : producing.get(key);
    if (leader !== undefined && leader.vertex !== this.vertex && leader.wanted) {
      this.#leader = new Following(this, leader, this.#services.releaseIfUnheld);
      return;
    }
    const [reason, detail] = this.#missReason();
    this.vertex.reporter.missed(reason, detail, this.#facts());
    if (key !== undefined) {
      producing.set(key, this);
      this.#producingKey = key;
    }
    this.vertex.run(inputs, (outputs) => this.#store(outputs, names));
  }

  /** Remembers what a run made, under every name. Called once per run, for all outputs. */
  #store(outputs: readonly Result[], names: readonly InputNames[]): void {
    const { index, clock } = this.#services;
    const createdAtNs = clock.nowNs();
    const { lastRunNs: runNs } = this.vertex;
    const digest = this.#op().digest;
    for (const [output, { id }] of outputs.entries()) {
      const of = { digest, output };
      const keys = names.length === 0 ? this.#rootKeys(output) : [keyFor(index, of, names)];
      for (const key of keys) {
        linkAll(index, of, names, key);
        index.addResult(key, { id, createdAtNs, ...(runNs === undefined ? {} : { runNs }) });
      }
    }
  }

  #load(hit: Hit): void {
    for (const input of this.#ownInputs()) input.ask(LEVEL.NONE);
    if ('remote' in hit) return this.#fetch(hit.cache, hit.remote);
    this.#loading = true;
    void this.#loadHit(hit).finally(() => {
      this.#loading = false;
      this.wake();
    });
  }

  /** A remote cache can make a build slower, never fail it: what cannot be fetched is a miss after all. */
  #fetch(cache: RemoteCache, remote: RemoteResult): void {
    this.vertex.fetchRemote(this.output, async (context) => {
      try {
        const loaded = await remote.load(context);
        return () => {
          this.#storeFetched(remote, loaded);
          if (!this.vertex.released && !this.vertex.outputs.has(this.output))
            this.vertex.reporter.hit('remote', this.#facts(), undefined, cache);
          this.vertex.takeLoaded(this.output, loaded.result);
        };
      } catch (thrown) {
        if (context.signal.aborted) throw thrown;
        const error = BuildError.from(thrown);
        return () => {
          this.#services.onProblem(error);
          this.#lostRemote = `${cache.label}: ${error.message}`;
          this.vertex.reporter.warn(`cached result could not be fetched from ${cache.label}; the step runs`, error.message);
        };
      }
    });
  }

  #storeFetched(remote: RemoteResult, { result, prefixes }: LoadedRemote): void {
    const { index } = this.#services;
    for (const key of this.keys) {
      if (!isRemote(key)) index.addResult(key, { id: result.id, createdAtNs: remote.createdAtNs });
    }
    const visited = new Set<EdgeState>([this]);
    for (const { target } of this.#ownInputs()) target.adoptPrefix(remote.layers, prefixes, visited);
  }

  /** Something above was fetched; results of this edge and below that are the lower part of it have come along. */
  adoptPrefix(layers: readonly string[], stored: readonly string[], visited: Set<EdgeState>): void {
    if (visited.has(this)) return;
    visited.add(this);
    const remote = this.findRemote()?.remote;
    const part = remote?.layers ?? [];
    const id = part.length > 0 && part.every((layer, at) => layer === layers[at]) ? stored[part.length - 1] : undefined;
    if (remote !== undefined && id !== undefined) {
      for (const key of this.keys) {
        if (isRemote(key) || this.#services.index.results(key).length > 0) continue;
        this.#services.index.addResult(key, { id, createdAtNs: remote.createdAtNs });
      }
    }
    for (const { target } of this.#ownInputs()) target.adoptPrefix(layers, stored, visited);
  }

  async #loadHit({ key, stored }: Extract<Hit, { stored: StoredResult }>): Promise<void> {
    const { index, results, onProblem } = this.#services;
    let result: Result | undefined;
    try {
      result = stored.id === undefined ? scratch : await results.load(stored.id);
    } catch (error) {
      onProblem(BuildError.from(error)); // a cache can make a build slower, never fail it
    }
    if (result !== undefined) {
      if (!this.vertex.released && !this.vertex.outputs.has(this.output))
        this.vertex.reporter.hit('local', this.#facts(), stored.runNs);
      this.vertex.takeLoaded(this.output, result);
    } else {
      this.#lostHit = true;
      if (stored.id !== undefined) for (const name of [key, ...this.keys]) index.forgetResult(name, stored.id);
    }
  }

  #missReason(): readonly [MissReason, string | undefined] {
    const { index } = this.#services;
    const map = this.#map();
    if (this.vertex.ignoreCache) return ['no-cache-asked', undefined];
    if (this.#lostRemote !== undefined) return ['backend-down', this.#lostRemote];
    const down = this.vertex.remoteCaches().filter(({ failure }) => failure !== undefined);
    const unpinned = this.vertex.inputs.length === 0 && map?.ephemeral === true;
    if (down.length > 0 && !unpinned)
      return ['backend-down', down.map(({ label, failure }) => `${label}: ${failure}`).join('; ')];
    if (this.#lostHit || this.keys.some((key) => index.hadResult(key))) return ['evicted', undefined];
    if (unpinned) return ['unpinned-source', undefined];
    if (this.keys.length > 0 || map === undefined || !index.seen(map.digest)) return ['never-seen', undefined];
    const changed = this.#ownInputs().filter(({ candidates }) => candidates.size === 0);
    return ['input-changed', changed.map(({ target }) => target.vertex.vertex.name).join(', ')];
  }

  #facts(): LookupFacts {
    const map = this.#map();
    const inputs = (this.#inputs ?? []).map(({ at, target }) => {
      const content = this.vertex.contentKeys[at];
      if (content === undefined) return NOT_READ;
      const result = target.outcome?.type === 'done' ? target.outcome.result.id : undefined;
      return { content, result, reads: map?.inputs[at]?.reads };
    });
    return {
      ...(map === undefined ? {} : { op: map.digest }),
      ...(map?.pin === undefined ? {} : { pin: map.pin }),
      keys: this.keys,
      inputs,
    };
  }

  #names(): InputNames[] {
    return this.#ownInputs().map(({ at, target }) => {
      const input = this.#map()?.inputs[at];
      return {
        keys: target.allKeys.filter((key) => !isRemote(key)),
        selector: input?.selector,
        contentKey: this.vertex.contentKeys[at],
      };
    });
  }
  #rootKeys(output = this.output): string[] {
    return this.vertex.maps.map(({ digest, ephemeral }) => rootKey(digest, output, ephemeral ?? false));
  }
  #map(): CacheMap | undefined {
    return this.vertex.maps[0];
  }
  #op(): OpOutput {
    return { digest: this.#map()?.digest ?? ('' as CacheDigest), output: this.output };
  }

  #ownInputs(): Input[] {
    this.#inputs ??= this.vertex.inputs.map(({ state, output }, at) => new Input(this, at, this.#services.edgeOf(state, output)));
    return this.#inputs;
  }
  #failedInput(): BuildError | undefined {
    for (const { level, target } of this.#inputs ?? []) {
      if (level > LEVEL.NONE && target.outcome?.type === 'failed') return target.outcome.error;
    }
    return undefined;
  }

  /** True while another vertex runs the same step for this one. */
  #follows(): boolean {
    const outcome = this.#leader?.edge.outcome;
    if (this.#leader === undefined) return false;
    if (outcome === undefined) return true;
    if (outcome.type === 'done') this.vertex.takeLoaded(this.output, outcome.result.clone());
    else this.vertex.takeFailure(outcome.error);
    this.#stopFollowing();
    this.wake();
    return true;
  }
  #stopFollowing(): void {
    this.#leader?.end();
    this.#leader = undefined;
  }

  #announce(definitionDone: boolean, contentDone: boolean): void {
    if (definitionDone === this.definitionDone && contentDone === this.contentDone) return;
    this.definitionDone = definitionDone || this.definitionDone;
    this.contentDone = contentDone || this.contentDone;
    this.#notify();
  }

  #settle(outcome: Outcome): void {
    if (outcome.type === 'done') this.#nameResult();
    this.#outcome = outcome;
    this.definitionDone = true;
    this.contentDone = true;
    this.#rest();
    this.#notify();
  }

  /** A result that was run for, or made beside another output, has a key too: what stands on it is found through it. */
  #nameResult(): void {
    if (this.#map() === undefined) return;
    if (this.vertex.inputs.length === 0) {
      if (this.vertex.ignoreCache) this.#unlistedKey = this.#rootKeys()[0];
      else for (const key of this.#rootKeys()) if (!this.keys.includes(key)) this.keys.push(key);
      return;
    }
    if (this.keys.length > 0) return;
    const names = this.#names();
    const [key] = findKeys(this.#services.index, this.#op(), names);
    if (key !== undefined) linkAll(this.#services.index, this.#op(), names, key); // another vertex may have run it, under other names
    if (this.vertex.ignoreCache) this.#unlistedKey = key;
    else if (key !== undefined) this.keys.push(key);
  }

  /** Wants nothing of its inputs any more. */
  #rest(): void {
    for (const input of this.#inputs ?? []) input.ask(LEVEL.NONE);
    this.#stopFollowing();
    if (this.#producingKey !== undefined && !this.vertex.running) {
      const { producing } = this.#services;
      if (producing.get(this.#producingKey) === this) producing.delete(this.#producingKey);
      this.#producingKey = undefined;
    }
  }

  #notify(): void {
    for (const demand of this.#demands.keys()) demand.wake();
  }
}

/** What an edge wants of one of its inputs, and which of its own keys that input may lead to. */
class Input implements Demand {
  readonly at: number;
  readonly target: EdgeState;
  readonly candidates = new Set<string>();
  readonly #owner: EdgeState;
  #level: Level = LEVEL.NONE;
  #probedKeys = 0;
  #probedContent = false;
  #probedCaches = 0;

  constructor(owner: EdgeState, at: number, target: EdgeState) {
    this.#owner = owner;
    this.at = at;
    this.target = target;
  }

  get level(): Level {
    return this.#level;
  }

  /** Raises what is wanted, or with NONE withdraws it. */
  ask(level: Level): void {
    if (level !== LEVEL.NONE && level <= this.#level) return;
    this.#level = level;
    this.target.setDemand(this, level);
  }

  wake(): void {
    this.#owner.wake();
  }

  /** Looks up names learnt since the last time. True when there were any. */
  probe(index: CacheIndex, caches: readonly RemoteCache[], of: OpOutput): boolean {
    const map = this.#owner.vertex.maps[0]?.inputs[this.at];
    let changed = false;
    if (caches.length > this.#probedCaches) this.#probeAgain(caches.length); // one was late, or another build joined
    const link = linkOf(of, this.at, map?.selector);
    for (; this.#probedKeys < this.target.keys.length; this.#probedKeys += 1) {
      const from = this.target.keys[this.#probedKeys] ?? '';
      for (const known of [index, ...caches]) for (const key of known.linked(from, link)) this.candidates.add(key);
      changed = true;
    }
    const contentKey = this.#owner.vertex.contentKeys[this.at];
    if (contentKey !== undefined && !this.#probedContent) {
      this.#probedContent = true;
      changed = true;
      for (const known of [index, ...caches])
        for (const key of known.linked(contentKey, linkOf(of, this.at, undefined))) this.candidates.add(key);
    }
    return changed;
  }

  #probeAgain(caches: number): void {
    this.#probedCaches = caches;
    this.#probedKeys = 0;
    this.#probedContent = false;
  }
}

/** Waits for another vertex's run of the same step, and keeps that run alive meanwhile. */
class Following implements Demand {
  readonly edge: EdgeState;
  readonly #owner: EdgeState;
  readonly #releaseIfUnheld: (state: VertexState) => void;

  constructor(owner: EdgeState, leader: EdgeState, releaseIfUnheld: (state: VertexState) => void) {
    this.#owner = owner;
    this.#releaseIfUnheld = releaseIfUnheld;
    this.edge = leader;
    leader.vertex.followers.add(owner.vertex);
    owner.vertex.reporter.follow(leader.vertex.reporter);
    leader.setDemand(this, LEVEL.RESULT);
  }

  wake(): void {
    this.#owner.wake();
  }

  end(): void {
    const { vertex } = this.#owner;
    vertex.reporter.unfollow(this.edge.vertex.reporter);
    this.edge.vertex.followers.delete(vertex);
    this.edge.setDemand(this, LEVEL.NONE);
    this.#releaseIfUnheld(this.edge.vertex);
  }
}

const NOT_READ = {};
/** An empty root filesystem needs no storage. */
const scratch: Result = { id: undefined, clone: () => scratch, [Symbol.asyncDispose]: async () => {} };
