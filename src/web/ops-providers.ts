/** What the operator's port shows, as functions the wiring fills in: the server knows no part of the daemon. */
import type { SloReport } from '../slo/report.ts';

export interface BuildSummary {
  readonly ref: string;
  readonly name: string;
  /** RFC 3339. */
  readonly startedAt: string;
  /** Absent while the build runs. */
  readonly endedAt?: string;
  readonly durationMs?: number;
  readonly state: 'queued' | 'running' | 'success' | 'failure' | 'error' | 'timeout' | 'cancellation';
  readonly error?: string;
  readonly steps?: { readonly total: number; readonly completed: number; readonly cached: number };
  readonly traceId?: string;
  /** Of a finished build: its cacheable steps by how they were served, and the execution time that hits saved. */
  readonly cache?: {
    readonly cacheable: number;
    readonly hitsLocal: number;
    readonly hitsRemote: number;
    readonly implied: number;
    readonly misses: number;
    readonly lookupHitRatio?: number;
    readonly hitRatio?: number;
    readonly savedSeconds: number;
  };
  /** Of a running build: its RUN steps that have run for a second or more, and what they use together. */
  readonly running?: { readonly steps: number; readonly memoryBytes: number; readonly processes: number };
}
export interface ReadyCheck {
  readonly name: string;
  readonly ok: boolean;
  readonly detail?: string;
}

/** What the server shows; the wiring gives it functions of the daemon's parts. */
export interface OpsProviders {
  readonly version: string;
  /** Addresses of the build API, as a client writes them. */
  readonly addresses: () => readonly string[];
  readonly scrape: (accept: string) => Promise<{ readonly contentType: string; readonly body: string }>;
  /** Answers at once; not ready while starting or draining. */
  readonly ready: () => readonly ReadyCheck[];
  readonly slo: () => Promise<SloReport>;
  /** Newest first. */
  readonly builds: (limit: number) => Promise<readonly BuildSummary[]>;
  /** Everything known of one build, as JSON; undefined when there is none of that ref. */
  readonly build: (ref: string) => Promise<object | undefined>;
  /** Why steps of a finished build were not cached, compared with `against` or the nearest earlier build; undefined when unknown. */
  readonly explain: (ref: string, against: string | undefined) => Promise<object | undefined>;
  /** Finished spans of one build. */
  readonly trace: (ref: string) => Promise<readonly object[] | undefined>;
  /** What a run of the garbage collection policies would remove now, in order, and why. */
  readonly gcPlan: () => Promise<object>;
  readonly onError: (error: unknown) => void;
}
