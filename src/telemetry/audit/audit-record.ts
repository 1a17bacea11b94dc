/**
 * One line of the audit log: who did what to what, when, and how it ended. Names only: there is no field a value could be in, and
 * every text is cut to a bound, so that a client cannot make records grow.
 */
import type { AdminAct, Client, SensitiveKind } from '../../builder/events.ts';

export type AuditType = SensitiveKind | 'secret-leak' | AdminAct | 'denied' | 'gap';
export interface AuditRecord {
  /** RFC 3339, UTC. */
  readonly time: string;
  readonly type: AuditType;
  /** ok, refused (not allowed), absent (asked for and nobody had it), failed. */
  readonly outcome: 'ok' | 'refused' | 'absent' | 'failed';
  readonly who: Client;
  /** The id of a secret, the name of an entitlement, a build's ref, a filter. */
  readonly what: string;
  readonly build?: string;
  /** Digest of the vertex. */
  readonly step?: string;
  readonly trace_id?: string;
  readonly detail?: string;
  /** Of a gap: records that could not be kept before this one. */
  readonly lost?: number;
}

const MAX_TEXT = 256;

/** The record as it is written, with its line end. */
export function auditLine(record: AuditRecord): string {
  const { who } = record;
  const client: Client = {
    peer: bounded(who.peer),
    ...(who.identity !== undefined && { identity: bounded(who.identity) }),
    ...(who.session !== undefined && { session: bounded(who.session) }),
    ...(who.tenant !== undefined && { tenant: bounded(who.tenant) }),
  };
  return `${JSON.stringify({
    time: record.time,
    type: record.type,
    outcome: record.outcome,
    who: client,
    what: bounded(record.what),
    ...(record.build !== undefined && { build: bounded(record.build) }),
    ...(record.step !== undefined && { step: bounded(record.step) }),
    ...(record.trace_id !== undefined && { trace_id: bounded(record.trace_id) }),
    ...(record.detail !== undefined && { detail: bounded(record.detail) }),
    ...(record.lost !== undefined && { lost: record.lost }),
  })}\n`;
}

/** Undefined for a line that is not a record: half of one, from a disk that was full. */
export function parseAuditLine(line: string): AuditRecord | undefined {
  try {
    const value = JSON.parse(line) as Partial<AuditRecord> | null;
    const whole =
      typeof value?.time === 'string' &&
      typeof value.type === 'string' &&
      typeof value.outcome === 'string' &&
      typeof value.what === 'string' &&
      typeof value.who?.peer === 'string';
    return whole ? (value as AuditRecord) : undefined;
  } catch {
    return undefined;
  }
}

const bounded = (text: string): string => (text.length <= MAX_TEXT ? text : `${text.slice(0, MAX_TEXT - 1)}…`);
