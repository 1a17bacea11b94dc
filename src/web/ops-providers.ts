/** What the operator's port shows and does, as functions the wiring fills in: the server knows no part of the daemon. */
import type { AdjustmentRecord, NewAdjustment } from '../slo/adjustment-store.ts';
import type { SloRecords } from '../slo/records.ts';
import type { SloReport } from '../slo/report.ts';
import type {
  Alert,
  BuildDetail,
  BuildState,
  BuildSummary,
  Cache,
  CacheRecord,
  GcPlan,
  GcRun,
  LogLine,
  SloSeries,
  Status,
} from './api/model.ts';
import type { BuildOrder, SubmittedBuild } from './api/submit.ts';

export interface ReadyCheck {
  readonly name: string;
  readonly ok: boolean;
  readonly detail?: string;
}

/** A finished span, or one of a running build that ends "now"; what `cooper trace` prints. */
export interface TraceSpan {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly startNs: bigint;
  readonly endNs: bigint;
  readonly attributes: Readonly<Record<string, string | number | bigint | boolean | readonly string[]>>;
  readonly events: readonly {
    readonly name: string;
    readonly atNs: bigint;
    readonly attributes: Readonly<Record<string, string | number | bigint | boolean | readonly string[]>>;
  }[];
  readonly links: readonly { readonly spanId: string }[];
  readonly status: string;
  readonly statusMessage?: string;
}

export interface BuildQuery {
  readonly limit: number;
  /** Only builds that started before this one; a ref that is gone gives nothing. */
  readonly after?: string | undefined;
  readonly state?: BuildState | undefined;
  /** Part of the ref, name, repository or error, case ignored. */
  readonly text?: string | undefined;
}
export interface PruneOrder {
  readonly all: boolean;
  readonly filters: readonly string[];
  readonly keepSeconds: number;
  readonly keepBytes: number;
}

/** One use, or refused use, of a write call. Never holds a token. */
export interface WriteRecord {
  readonly act: string;
  /** What it was about: a ref, a policy. */
  readonly target: string;
  /** Name beside the token in the token file, or undefined when nobody was recognised. */
  readonly actor: string | undefined;
  /** Address of the caller. */
  readonly from: string;
  readonly outcome: 'done' | 'failed' | 'denied';
  readonly reason?: string;
}

/** Changes an operator may make. A call that the daemon has no function for is absent and answers `unsupported`. */
export interface OpsWrites {
  /** False when no build of that ref runs. */
  readonly cancelBuild?: (ref: string, reason: string) => boolean;
  /** Runs the policies now; resolves with what the run did. */
  readonly collect?: (signal: AbortSignal) => Promise<GcRun>;
  readonly prune?: (order: PruneOrder, signal: AbortSignal) => Promise<{ readonly removed: number; readonly bytes: number }>;
  /** Resolves when the build was handed to the builder. Rejects with a Refusal when there are too many or it is too large. */
  readonly submit?: (order: BuildOrder, signal: AbortSignal) => Promise<SubmittedBuild>;
  readonly adjustSlo?: (wanted: NewAdjustment) => AdjustmentRecord;
  readonly removeSloAdjustment?: (id: string, by: { readonly author: string; readonly reason: string }) => AdjustmentRecord;
  /** Takes no new builds from now on; those that run go on. */
  readonly drain?: () => void;
}

/** What the server shows; the wiring gives it functions of the daemon's parts. All answer from memory unless they return a promise. */
export interface OpsProviders {
  readonly version: string;
  readonly scrape: (accept: string) => Promise<{ readonly contentType: string; readonly body: string }>;
  /** Answers at once; not ready while starting or draining. */
  readonly ready: () => readonly ReadyCheck[];
  readonly status: () => Omit<Status, 'version' | 'now' | 'ready' | 'checks' | 'writable'>;
  readonly slo: () => Promise<SloReport>;
  /** What an objective counted over its period, in that many parts; undefined for a name that is none. */
  readonly sloSeries: (name: string, parts: number) => SloSeries | undefined;
  /** Specifications and counts from `fromS` up to `toS`, of all objectives or of one. @throws BuildError `not-found` for a name that is none. */
  readonly sloRecords: (fromS: number, toS: number, slo: string | undefined) => SloRecords;
  readonly sloAdjustments: () => readonly AdjustmentRecord[];
  /** What fires now, as far as the daemon can judge without Prometheus. */
  readonly alerts: () => Promise<readonly Alert[]>;
  /** Markdown of a runbook, front matter included; undefined when there is none of that name. */
  readonly runbook: (name: string) => Promise<string | undefined>;
  /** Running builds, then finished ones, newest first. */
  readonly builds: (query: BuildQuery) => readonly BuildSummary[];
  readonly build: (ref: string) => Promise<BuildDetail | undefined>;
  /** Options as the client sent them, secret or not: for telling whether two builds differ, never for showing. */
  readonly rawOptions: (ref: string) => Readonly<Record<string, string>>;
  /** Why steps of a finished build were not cached, compared with `against` or the nearest earlier build; undefined when unknown. */
  readonly explain: (ref: string, against: string | undefined) => Promise<object | undefined>;
  readonly trace: (ref: string) => Promise<readonly TraceSpan[] | undefined>;
  /** The same as JSON values, times as text. */
  readonly traceJson: (ref: string) => Promise<readonly object[] | undefined>;
  /** Output and warnings from the first line; follows a running build to its end. Undefined when nothing is kept of that ref. */
  readonly logs: (ref: string, signal: AbortSignal) => AsyncIterable<LogLine> | undefined;
  readonly cache: () => Promise<Cache>;
  /** Largest first. */
  readonly cacheRecords: () => Promise<readonly CacheRecord[]>;
  readonly gcPlan: () => Promise<GcPlan>;
  readonly writes: OpsWrites;
  /** Every write and every refused one. */
  readonly audit: (record: WriteRecord) => void;
  /** A call was answered; memory that it took may be given back once the daemon is idle. */
  readonly used: () => void;
  readonly onError: (error: unknown) => void;
}
