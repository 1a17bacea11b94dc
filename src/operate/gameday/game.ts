/** A game day as data: what is broken, what must come of it, and what a system that is broken on purpose must fail. docs/gamedays.md has every key. */

/** Lengths of time are those of production; the runner divides them by `timeScale`. */
export interface Game {
  readonly name: string;
  readonly title: string;
  readonly hypothesis: string;
  readonly file: string;
  readonly timeScale: number;
  readonly load: LoadSpec;
  readonly preconditions: Preconditions;
  readonly steadyState: SteadyState;
  readonly inject: Injection;
  readonly expect: readonly Expectation[];
  readonly abortIf: AbortConditions;
  readonly mutations: readonly Mutation[];
}
export interface LoadSpec {
  /** In real time, however fast the windows run. */
  readonly buildsPerMinute: number;
  /** What builds do: read and write the remote cache, push an image, use much memory, hold a secret and copy it. */
  readonly kind: 'cache' | 'push' | 'memory' | 'secret' | 'plain';
  /** Everything is removed from the local cache before each build, so that the remote one is read. */
  readonly prune: boolean;
  /** The state folder is on a disk of 400 MB of its own. */
  readonly smallDisk: boolean;
  /** Lines of the daemon's configuration on a stand of our own. */
  readonly toml: string;
}
export interface Preconditions {
  readonly budgetRemaining: Readonly<Record<string, number>>;
  /** Programs that must be there, beside those of the stand. */
  readonly tools: readonly string[];
}
export interface SteadyState {
  /** Builds that must have ended, and the share of them that must have succeeded. */
  readonly builds: number;
  readonly success: number;
  readonly queries: readonly QueryCondition[];
}
export interface QueryCondition {
  readonly query: string;
  readonly above?: number;
  readonly below?: number;
}
export const TARGETS = ['cache', 'daemon', 'alertmanager', 'prometheus', 'state-folder', 'runtime', 'steps', 'none'] as const;
export type TargetName = (typeof TARGETS)[number];
export interface Injection {
  readonly fault: string;
  readonly target: TargetName;
  readonly set: Readonly<Record<string, string | number>>;
  /** It is healed as soon as everything that is expected during it is decided, and at the latest then. */
  readonly forMs: number;
}
export type Expectation =
  | {
      readonly kind: 'alert';
      readonly alert: string;
      readonly withinMs: number;
      readonly severity?: string;
      readonly routedTo?: string;
      readonly grouped?: number;
      readonly inhibits: readonly string[];
      readonly resolvesWithinMs?: number;
    }
  | { readonly kind: 'no-alert'; readonly alert: string }
  | { readonly kind: 'builds-failed'; readonly atMost?: number; readonly atLeast?: number; readonly kinds?: readonly string[] }
  | { readonly kind: 'fallback'; readonly builds: number; readonly withinMs: number }
  | { readonly kind: 'crosses'; readonly condition: QueryCondition; readonly title: string; readonly withinMs: number }
  | { readonly kind: 'recovers'; readonly condition: QueryCondition; readonly title: string; readonly withinMs: number }
  | { readonly kind: 'builds-again'; readonly withinMs: number }
  | { readonly kind: 'heartbeat'; readonly receiver: string; readonly stopsWithinMs: number; readonly resumesWithinMs: number }
  | { readonly kind: 'runbook-verify'; readonly alert: string; readonly withinMs: number }
  | { readonly kind: 'value-absent'; readonly places: readonly string[] }
  | { readonly kind: 'mttr'; readonly withinMs: number };
export interface AbortConditions {
  /** Share of builds since the injection that succeed, judged from so many builds on. */
  readonly successBelow?: number;
  readonly afterBuilds: number;
  readonly alerts: readonly string[];
}
/** A system broken on purpose: the game must fail, and with that expectation. */
export interface Mutation {
  readonly name: string;
  readonly change:
    | 'strict-cache'
    | 'rename-alert'
    | 'misroute'
    | 'never-heals'
    | 'no-inhibition'
    | 'secret-in-log'
    | 'no-restart';
  readonly value: string;
  readonly mustFail: string;
}
export const MUTATION_CHANGES: readonly Mutation['change'][] = [
  'strict-cache',
  'rename-alert',
  'misroute',
  'never-heals',
  'no-inhibition',
  'secret-in-log',
  'no-restart',
];
