/** Reading the audit log back, oldest record first, straight from its files: it works when the daemon does not. */
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { auditFiles } from './audit-files.ts';
import { type AuditRecord, parseAuditLine } from './audit-record.ts';

export interface AuditFilter {
  /** Whole ref, or its beginning. */
  readonly build?: string;
  readonly types?: readonly string[];
  /** Part of anything that names the client. */
  readonly who?: string;
  /** Milliseconds since the epoch, inclusive. */
  readonly sinceMs?: number;
  readonly untilMs?: number;
}

/** `onUnreadable` hears of each line that is no record. Rejects when a file cannot be read. */
export async function* readAudit(
  dir: string,
  filter: AuditFilter,
  onUnreadable: (file: string) => void,
): AsyncGenerator<AuditRecord> {
  for (const file of await auditFiles(dir)) {
    for await (const line of createInterface({ input: createReadStream(file, 'utf8'), crlfDelay: Infinity })) {
      if (line === '') continue;
      const record = parseAuditLine(line);
      if (record === undefined) onUnreadable(file);
      else if (matches(record, filter)) yield record;
    }
  }
}

function matches(record: AuditRecord, { build, types, who, sinceMs, untilMs }: AuditFilter): boolean {
  const atMs = Date.parse(record.time);
  if (sinceMs !== undefined && atMs < sinceMs) return false;
  if (untilMs !== undefined && atMs > untilMs) return false;
  if (record.type === 'gap') return true; // whoever reads a part must know that it is not whole
  if (build !== undefined && record.build?.startsWith(build) !== true) return false;
  if (types !== undefined && types.length > 0 && !types.includes(record.type)) return false;
  return who === undefined || JSON.stringify(record.who).includes(who);
}
