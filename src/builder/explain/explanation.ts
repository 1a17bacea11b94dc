/** An account as an answer: what was and was not served from cache, the first causes, and how many steps follow from each. */
import type { CacheChange, CacheLocation, MissReason } from '../events.ts';
import type { AccountRecord, StepRecord } from './record.ts';

export interface ExplainedStep {
  readonly step: string;
  readonly name: string;
  /** `none`: not looked up, because the build ended before. */
  readonly outcome: StepRecord['outcome'];
  readonly location?: CacheLocation;
  readonly backend?: string;
  readonly reason?: MissReason;
  readonly summary?: string;
  readonly changes?: readonly CacheChange[];
  /** Changes that are not listed. */
  readonly more?: number;
  readonly because?: { readonly step: string; readonly name: string };
  readonly savedSeconds?: number;
  readonly runSeconds?: number;
}
export interface FirstCause {
  readonly reason: MissReason;
  readonly summary: string;
  readonly changes: readonly CacheChange[];
  readonly more: number;
  /** The steps it was first felt at. */
  readonly steps: readonly { readonly step: string; readonly name: string }[];
  /** Steps that missed because of those. */
  readonly follows: readonly { readonly step: string; readonly name: string }[];
}
export interface CacheTotals {
  /** Steps that can be cached and came to a verdict; the others below add up to it. */
  readonly cacheable: number;
  readonly hitsLocal: number;
  readonly hitsRemote: number;
  /** Not needed, because something made of them was found. */
  readonly implied: number;
  readonly misses: number;
  /** Share of look-ups that hit; absent when nothing was looked up. */
  readonly lookupHitRatio?: number;
  /** Share of cacheable steps that did not run. */
  readonly hitRatio?: number;
  /** Execution time of the steps that did not run. */
  readonly savedSeconds: number;
}
export interface Explanation {
  readonly ref: string;
  readonly startedAt: string;
  /** The earlier build it was compared with. */
  readonly against?: string;
  readonly totals: CacheTotals;
  /** The first cause first. */
  readonly causes: readonly FirstCause[];
  /** Cacheable steps in build order. */
  readonly steps: readonly ExplainedStep[];
}

const seconds = (ns: number): number => Math.round(ns / 1e6) / 1e3;

export function explanationOf(account: AccountRecord): Explanation {
  const steps = account.steps.filter(({ cacheable, miss }) => cacheable || miss?.reason === 'no-cache-asked');
  return {
    ref: account.ref,
    startedAt: new Date(account.startedAtMs).toISOString(),
    ...(account.against === undefined ? {} : { against: account.against }),
    totals: totalsOf(account),
    causes: causesOf(steps, account),
    steps: steps.map(explained),
  };
}

export function totalsOf({ steps }: AccountRecord): CacheTotals {
  const counted = steps.filter(({ cacheable, outcome }) => cacheable && outcome !== 'none');
  const count = (wanted: (step: StepRecord) => boolean): number => counted.filter(wanted).length;
  const hitsRemote = count(({ outcome, location }) => outcome === 'hit' && location === 'remote');
  const hitsLocal = count(({ outcome, location }) => outcome === 'hit' && location !== 'remote');
  const misses = count(({ outcome }) => outcome === 'miss');
  const implied = count(({ outcome }) => outcome === 'implied');
  const lookups = hitsLocal + hitsRemote + misses;
  return {
    cacheable: counted.length,
    hitsLocal,
    hitsRemote,
    implied,
    misses,
    ...(lookups === 0 ? {} : { lookupHitRatio: (hitsLocal + hitsRemote) / lookups }),
    ...(counted.length === 0 ? {} : { hitRatio: (counted.length - misses) / counted.length }),
    savedSeconds: seconds(counted.reduce((sum, { savedNs }) => sum + (savedNs ?? 0), 0)),
  };
}

function explained({ step, name, outcome, location, backend, cause, savedNs, runNs }: StepRecord): ExplainedStep {
  return {
    step,
    name,
    outcome,
    ...(location === undefined || outcome !== 'hit' ? {} : { location }),
    ...(backend === undefined ? {} : { backend }),
    ...(cause === undefined ? {} : { reason: cause.reason, summary: cause.summary, changes: cause.changes, more: cause.more }),
    ...(cause?.because === undefined ? {} : { because: cause.because }),
    ...(savedNs === undefined ? {} : { savedSeconds: seconds(savedNs) }),
    ...(runNs === undefined ? {} : { runSeconds: seconds(runNs) }),
  };
}

/** Causes that are no property of a step. */
const TOLD: ReadonlySet<MissReason> = new Set(['no-cache-asked', 'backend-down', 'evicted']);

/** Steps with the same cause are one; what only follows is counted at the step it follows from. */
function causesOf(steps: readonly StepRecord[], account: AccountRecord): FirstCause[] {
  const groups = new Map<
    string,
    { readonly cause: NonNullable<StepRecord['cause']>; steps: StepRecord[]; follows: StepRecord[] }
  >();
  const groupOf = new Map<string, string>();
  for (const step of steps) {
    const { cause } = step;
    if (cause === undefined || cause.because !== undefined) continue;
    const shown = cause.changes.filter(({ what }) => what !== 'instruction' && what !== 'input');
    const same = shown.length > 0 ? shown : TOLD.has(cause.reason) ? cause.summary : step.step;
    const key = JSON.stringify([cause.reason, same]);
    const group = groups.get(key) ?? { cause, steps: [], follows: [] };
    groups.set(key, group);
    groupOf.set(step.step, key);
    group.steps.push(step);
  }
  for (const step of steps) {
    const { cause } = step;
    if (cause?.because === undefined) continue;
    const known = groups.get(groupOf.get(cause.because.step) ?? '');
    if (known !== undefined) known.follows.push(step);
    else {
      // The ancestor is no cacheable step: it is the cause all the same.
      const because = account.steps.find((other) => other.step === cause.because?.step);
      const own = because?.cause ?? { ...cause, because: undefined };
      const { because: _because, ...first } = own;
      groups.set(cause.because.step, {
        cause: first,
        steps: because === undefined ? [step] : [because],
        follows: because === undefined ? [] : [step],
      });
      groupOf.set(cause.because.step, cause.because.step);
    }
  }
  const named = ({ step, name }: StepRecord) => ({ step, name });
  return [...groups.values()].map(({ cause, steps: first, follows }) => ({
    reason: cause.reason,
    summary: cause.summary,
    changes: cause.changes,
    more: cause.more,
    steps: first.map(named),
    follows: follows.map(named),
  }));
}
