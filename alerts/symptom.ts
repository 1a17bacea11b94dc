/** What a symptom alert is made of, and the matcher every rule carries. */
import { SITE } from './config.ts';

export type RootCause =
  | 'builder'
  | 'cache'
  | 'security'
  | 'capacity'
  | 'registry'
  | 'telemetry'
  | 'config'
  | 'certificates'
  | 'reproducibility';
export interface Symptom {
  readonly alert: string;
  readonly expr: string;
  readonly for?: string;
  readonly severity: 'critical' | 'warning' | 'info' | 'none';
  readonly rootCause: RootCause;
  readonly summary: string;
  readonly description: string;
  /** Where triage starts, when not on the on-call board. */
  readonly board?: 'debug';
}

/** The `job` matcher of this site's daemons. */
export const job = `job="${SITE.job}"`;
