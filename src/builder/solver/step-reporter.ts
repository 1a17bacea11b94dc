/**
 * Tells every build that shares a vertex what happens to it. A build that joins late is told what it missed: start, finish, progress
 * lines, and the output so far of a step that still runs (within a bound). Order per vertex: the lookup, `step-started`, whatever the
 * step reports, `step-finished`; a source has such an interval for its key before the one for its content.
 */
import type { Clock } from '../../core/clock.ts';
import type { BuildError } from '../../core/errors.ts';
import type {
  BuildEvent,
  BuildId,
  CacheLocation,
  EventSink,
  LookupFacts,
  MissReason,
  StepInfo,
  StepPhase,
  StepUsage,
} from '../events.ts';
import type { StatusLine, StepProgress } from './ports.ts';
import { LogBuffer } from './step-log.ts';

export interface Subscriber {
  readonly build: BuildId;
  readonly sink: EventSink;
}

type BodyOf<E> = E extends { readonly step: unknown } ? Omit<E, 'build' | 'step'> : never;
/** An event of one step, not yet addressed to a build. */
type StepBody = BodyOf<BuildEvent>;
type Interval = 'untouched' | 'open' | 'closed';

const MAX_REPLAYED_LOG_BYTES = 256 * 1024;
const MAX_REPLAYED_EVENTS = 2_000;
/** What late-comers are not told again: output, and what was counted when it happened. */
const ONLY_LIVE: ReadonlySet<string> = new Set(['step-log', 'sensitive-use', 'secret-leaked']);
const LEAK_ADVICE =
  'Whoever has the image has the secret. Use it where it is mounted, do not copy it, and let tools forget it in the same step.';
const STATUS_EVERY_NS = 100_000_000n;

export class StepReporter {
  readonly info: StepInfo;
  readonly #inputs: readonly StepReporter[];
  readonly #clock: Clock;
  readonly #subscribers = new Map<Subscriber, Interval>();
  /** Vertices of other builds that are served by this one's run; created on first use, as few vertices have any. */
  #followers: Set<StepReporter> | undefined;
  #missed: StepBody[] = [];
  #missedLogBytes = 0;
  #progress: StepProgress | undefined;
  #log: LogBuffer | undefined;
  #usage: StepUsage | undefined;
  /** The step was found or ran, so whatever it needs was there; false while it merely failed to be looked up. */
  #served = false;
  /** What is known of the look-up, for a step that is told cached without one; set by who looks up. */
  facts: (() => LookupFacts) | undefined;

  constructor(info: StepInfo, inputs: readonly StepReporter[], clock: Clock) {
    this.info = info;
    this.#inputs = inputs;
    this.#clock = clock;
  }

  /** What ops write their progress to. */
  get progress(): StepProgress {
    this.#progress ??= {
      log: (stream, data) => this.#logBuffer().write(stream, data),
      status: (id, options) => this.#statusLine(id, options?.name ?? '', options?.total ?? 0),
      phase: (phase, startedAtNs) => this.phase(phase, startedAtNs),
      usage: (usage) => {
        this.#usage = usage;
      },
      used: (kind, id, granted) => this.#tell({ type: 'sensitive-use', atNs: this.#clock.nowNs(), kind, id, granted }),
      leaked: (id, path, refused) => {
        this.#tell({ type: 'secret-leaked', atNs: this.#clock.nowNs(), id, path, refused });
        if (!refused) this.warn(`the value of secret ${id} is in the result, at ${path}`, LEAK_ADVICE);
      },
      resources: (sample) => this.#tell({ type: 'step-resources', atNs: sample.atNs, sample }),
    };
    return this.#progress;
  }

  phase(phase: StepPhase, startedAtNs: bigint): void {
    this.#tell({ type: 'step-phase', atNs: this.#clock.nowNs(), phase, startedAtNs });
  }

  subscribe(subscriber: Subscriber): void {
    if (this.#subscribers.has(subscriber)) return;
    this.#subscribers.set(subscriber, 'untouched');
    for (const body of this.#missed) this.#tellOne(subscriber, body);
  }

  /** The build is over: what it saw begin is ended for it as cancelled, whether or not others go on with it. */
  unsubscribe(subscriber: Subscriber): void {
    if (this.#subscribers.get(subscriber) === 'open') {
      this.#log?.flush();
      this.#tellOne(subscriber, this.#cancelledBody());
    }
    this.#subscribers.delete(subscriber);
  }

  /** From now on this vertex goes through what `leader` goes through. */
  follow(leader: StepReporter): void {
    leader.#followers ??= new Set();
    leader.#followers.add(this);
    for (const body of leader.#missed) this.#tell(body);
  }
  /** Stops following; what is open ends as cancelled, and this vertex may start again by itself. */
  unfollow(leader: StepReporter): void {
    if (leader.#followers?.delete(this) === true) this.#closeIfOpen();
  }

  /** `savedNs`: how long the run took whose result it is. `cache`: the remote one it came from. */
  hit(
    location: CacheLocation,
    facts: LookupFacts,
    savedNs: bigint | undefined,
    cache?: { readonly backend: string; readonly label: string },
  ): void {
    this.#served = true;
    const atNs = this.#clock.nowNs();
    const from = cache === undefined ? {} : { backend: cache.backend, cache: cache.label };
    const saved = savedNs === undefined ? {} : { savedNs };
    this.#tell({ type: 'cache-lookup', atNs, hit: true, location, facts, ...saved, ...from });
    this.#tell({ type: 'step-started', atNs });
    this.#tell({ type: 'step-finished', atNs, outcome: 'cached' });
  }

  missed(reason: MissReason, detail: string | undefined, facts: LookupFacts): void {
    const atNs = this.#clock.nowNs();
    this.#tell({ type: 'cache-lookup', atNs, hit: false, reason, facts, ...(detail === undefined ? {} : { detail }) });
  }

  /** Told to clients as a warning of the step. */
  warn(short: string, detail: string): void {
    this.#tell({ type: 'step-warning', atNs: this.#clock.nowNs(), level: 1, short, detail: [detail], url: '' });
  }

  started(kind: 'key' | 'run'): void {
    if (kind === 'run') this.#served = true;
    this.#tell({ type: 'step-started', atNs: this.#clock.nowNs(), ...(kind === 'key' ? { forKey: true } : {}) });
  }

  /** `pin`: what a source was found to be. */
  finished(kind: 'key' | 'run', error?: BuildError, pin?: string): void {
    this.#log?.flush();
    const usage = kind === 'run' && this.#usage !== undefined ? { usage: this.#usage } : {};
    const failure = error === undefined ? {} : { error: textOf(error) };
    this.#tell({
      type: 'step-finished',
      atNs: this.#clock.nowNs(),
      outcome: error?.kind ?? 'executed',
      ...(kind === 'key' ? { forKey: true } : {}),
      ...(pin === undefined ? {} : { pin }),
      ...failure,
      ...usage,
    });
    this.#usage = undefined;
  }

  /** Failed before it ran: its key could not be found out. */
  failed(error: BuildError): void {
    this.started('key');
    this.finished('key', error);
  }

  /** The vertex begins anew, as if nothing had happened: a failed one that a new build wants again. */
  reset(): void {
    this.#missed = [];
    this.#missedLogBytes = 0;
    this.#served = false;
  }

  #logBuffer(): LogBuffer {
    this.#log ??= new LogBuffer((stream, data) => this.#tell({ type: 'step-log', atNs: this.#clock.nowNs(), stream, data }));
    return this.#log;
  }

  #statusLine(id: string, name: string, knownTotal: number): StatusLine {
    const startedAtNs = this.#clock.nowNs();
    let total = knownTotal;
    let current = 0;
    let toldAtNs = startedAtNs;
    const tell = (atNs: bigint, completed: boolean): void => {
      toldAtNs = atNs;
      const end = completed ? { completedAtNs: atNs } : {};
      this.#tell({ type: 'step-status', atNs, id, name, current: BigInt(current), total: BigInt(total), startedAtNs, ...end });
    };
    tell(startedAtNs, false);
    return {
      update: (value, newTotal) => {
        current = value;
        total = newTotal ?? total;
        const nowNs = this.#clock.nowNs();
        if (nowNs - toldAtNs >= STATUS_EVERY_NS) tell(nowNs, false);
      },
      done: () => tell(this.#clock.nowNs(), true),
    };
  }

  #tell(body: StepBody): void {
    this.#remember(body);
    for (const subscriber of this.#subscribers.keys()) this.#tellOne(subscriber, body);
    if (this.#followers !== undefined) for (const follower of this.#followers) follower.#tell(body);
  }

  #remember(body: StepBody): void {
    if (body.type === 'step-log') this.#missedLogBytes += body.data.byteLength;
    if (body.type === 'step-status')
      this.#missed = this.#missed.filter((old) => old.type !== 'step-status' || old.id !== body.id);
    if (body.type === 'step-resources') this.#missed = this.#missed.filter(({ type }) => type !== 'step-resources');
    this.#missed.push(body);
    if (body.type === 'step-finished') {
      this.#missed = this.#missed.filter(({ type }) => !ONLY_LIVE.has(type)); // late-comers are shown how it ended
      this.#missedLogBytes = 0;
    }
    while (this.#missedLogBytes > MAX_REPLAYED_LOG_BYTES || this.#missed.length > MAX_REPLAYED_EVENTS) this.#forgetOldest();
  }

  #forgetOldest(): void {
    const at = this.#missed.findIndex(({ type }) => type === 'step-log');
    const [gone] = this.#missed.splice(Math.max(at, 0), 1);
    if (gone?.type === 'step-log') this.#missedLogBytes -= gone.data.byteLength;
  }

  #tellOne(subscriber: Subscriber, body: StepBody): void {
    if (body.type === 'step-started') {
      if (this.#served) this.#markInputsCached(subscriber, body.atNs);
      this.#subscribers.set(subscriber, 'open');
    } else if (body.type === 'step-finished') this.#subscribers.set(subscriber, 'closed');
    subscriber.sink.emit({ ...body, build: subscriber.build, step: this.info.step } as BuildEvent);
  }

  /** Inputs nobody had to touch, because something made of them was found, are cached too (buildkit-wire.md section 6.1). */
  #markInputsCached(subscriber: Subscriber, atNs: bigint): void {
    const open: { readonly reporter: StepReporter; next: number }[] = [{ reporter: this, next: 0 }];
    const untouched: StepReporter[] = [];
    for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
      const input = top.reporter.#inputs[top.next];
      top.next += 1;
      if (input === undefined) {
        open.pop();
        if (top.reporter !== this) untouched.push(top.reporter);
      } else if (input.#subscribers.get(subscriber) === 'untouched') {
        input.#subscribers.set(subscriber, 'closed');
        open.push({ reporter: input, next: 0 });
      }
    }
    // Clients show finished steps by their time: an input is before what was made of it.
    for (const [index, reporter] of untouched.entries())
      reporter.#tellCached(subscriber, atNs - BigInt(untouched.length - index));
  }

  #tellCached({ build, sink }: Subscriber, atNs: bigint): void {
    const to = { build, step: this.info.step, atNs } as const;
    const facts = this.facts === undefined ? {} : { facts: this.facts() };
    sink.emit({ ...to, type: 'cache-lookup', hit: true, location: 'local', implied: true, ...facts });
    sink.emit({ ...to, type: 'step-started' });
    sink.emit({ ...to, type: 'step-finished', outcome: 'cached' });
  }

  #closeIfOpen(): void {
    if ([...this.#subscribers.values()].includes('open')) this.#tell(this.#cancelledBody());
  }
  #cancelledBody(): StepBody {
    return { type: 'step-finished', atNs: this.#clock.nowNs(), outcome: 'cancelled', error: 'context canceled' };
  }
}

/** Clients tell an aborted step from a failed one by the end of the text. */
function textOf(error: BuildError): string {
  if (error.kind !== 'cancelled' || error.message.endsWith('context canceled')) return error.message;
  return `${error.message}: context canceled`;
}
