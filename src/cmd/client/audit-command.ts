/** `cooper audit`: who used which secret, ssh agent or entitlement, what administrators did, what was refused. Reads the files itself. */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { BuildError } from '../../core/errors.ts';
import { readAudit } from '../../telemetry/audit/audit-read.ts';
import type { AuditRecord } from '../../telemetry/audit/audit-record.ts';
import { AUDIT_TYPES } from '../../telemetry/catalog-service.ts';
import { formatFlags, isOn, parseArguments, textOf, textsOf } from '../args.ts';
import { parseDuration } from '../config/units.ts';
import { defaultsFor } from '../defaults.ts';
import { formatTable } from './table.ts';

const FLAGS = [
  { name: 'dir', kind: 'text', value: 'DIR', doc: 'folder of the audit log (ROOT/audit)' },
  { name: 'root', kind: 'text', value: 'ROOT', doc: 'state folder of the daemon' },
  { name: 'build', kind: 'text', value: 'REF', doc: 'only records of this build; the beginning of its ref is enough' },
  { name: 'type', kind: 'texts', value: 'TYPE', doc: `only these (repeatable): ${AUDIT_TYPES.join(', ')}` },
  { name: 'who', kind: 'text', value: 'TEXT', doc: 'only clients whose address, certificate or session contains this' },
  { name: 'since', kind: 'text', value: 'TIME', doc: 'from this time on: 2026-01-31T12:00:00Z, or 90m for that long ago' },
  { name: 'until', kind: 'text', value: 'TIME', doc: 'up to this time' },
  { name: 'limit', short: 'n', kind: 'text', value: 'N', doc: 'the newest N records (all)' },
  { name: 'json', kind: 'switch', doc: 'one JSON object per line' },
  { name: 'help', short: 'h', kind: 'switch', doc: 'show this text' },
] as const;

/** Exit status 0, also when nothing matches; 1 when part of the log could not be read. */
export async function run(argv: readonly string[]): Promise<number> {
  const args = parseArguments(argv, FLAGS);
  if (isOn(args, 'help')) {
    console.log(`Usage: cooper audit [flags]\n\n${formatFlags(FLAGS)}`);
    return 0;
  }
  const root = textOf(args, 'root') ?? defaultsFor(process.getuid?.() ?? -1, process.env).root;
  const dir = textOf(args, 'dir') ?? join(root, 'audit');
  checkReadable(dir);
  const [build, who] = [textOf(args, 'build'), textOf(args, 'who')];
  const filter = {
    ...(build === undefined ? {} : { build }),
    ...(who === undefined ? {} : { who }),
    types: typesOf(textsOf(args, 'type')),
    ...timeOf('since', textOf(args, 'since')),
    ...timeOf('until', textOf(args, 'until')),
  };
  const limit = limitOf(textOf(args, 'limit'));
  let unreadable = 0;
  let records: AuditRecord[] = [];
  for await (const record of readAudit(dir, filter, () => (unreadable += 1))) {
    records.push(record);
    if (records.length > limit * 2) records = records.slice(-limit);
  }
  records = records.slice(-limit);
  if (isOn(args, 'json')) for (const record of records) console.log(JSON.stringify(record));
  else console.log(formatTable(['TIME', 'TYPE', 'OUTCOME', 'WHAT', 'WHO', 'BUILD', 'DETAIL'], records.map(rowOf)));
  if (unreadable > 0) console.error(`cooper: ${unreadable} lines of the audit log are not whole`);
  return unreadable > 0 ? 1 : 0;
}

function rowOf({ time, type, outcome, what, who, build = '', detail = '', lost }: AuditRecord): string[] {
  const { peer, identity } = who;
  const text = lost === undefined ? detail : `${lost} records lost`;
  return [
    time.slice(0, 19).replace('T', ' '),
    type,
    outcome,
    what,
    identity === undefined ? peer : `${identity} ${peer}`,
    build,
    text,
  ];
}

function checkReadable(dir: string): void {
  try {
    accessSync(dir, constants.R_OK);
  } catch (cause) {
    throw new BuildError('not-found', `no audit log that may be read in ${dir}: ${(cause as Error).message}`, {
      hint: 'name it with --root or --dir; only the user of the daemon may read it',
    });
  }
}

function typesOf(types: readonly string[]): readonly string[] {
  const known: readonly string[] = AUDIT_TYPES;
  for (const type of types) {
    if (!known.includes(type))
      throw new BuildError('invalid-input', `--type ${type}: no such type of record; there are ${known.join(', ')}`);
  }
  return types;
}

function timeOf(flag: 'since' | 'until', text: string | undefined): { readonly sinceMs?: number; readonly untilMs?: number } {
  if (text === undefined) return {};
  const ms = /^\d{4}-/.test(text) ? Date.parse(text) : Date.now() - Number(parseDuration(text) / 1_000_000n);
  if (Number.isNaN(ms)) throw new BuildError('invalid-input', `--${flag} ${text} is neither a time nor a duration`);
  return flag === 'since' ? { sinceMs: ms } : { untilMs: ms };
}

function limitOf(text: string | undefined): number {
  const limit = text === undefined ? 1_000_000 : Number(text);
  if (!Number.isSafeInteger(limit) || limit < 1)
    throw new BuildError('invalid-input', `--limit ${text}: expected a number from 1`);
  return limit;
}
