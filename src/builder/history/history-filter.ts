/**
 * The filter language of `ListenBuildHistory` (buildkit-wire.md section 8.2): entries are alternatives, the comma-separated parts of one
 * entry must all hold. `ref`, `status`, `repository` take ==, !=, ~=; `startedAt`, `completedAt`, `duration` take <, <=, >, >=.
 */
import { clientRegExp } from '../../core/client-regexp.ts';
import { BuildError } from '../../core/errors.ts';
import type { BuildHistoryRecord } from '../proto/gen/moby/buildkit/v1/control_pb.ts';
import { nsOfTimestamp } from './status-log.ts';

type Predicate = (record: BuildHistoryRecord) => boolean;

/** @throws BuildError `invalid-input` for a part that cannot be read. No entries match everything. */
export function compileHistoryFilter(entries: readonly string[], nowNs: bigint): Predicate {
  if (entries.length === 0) return () => true;
  const alternatives = entries.map((entry) => splitParts(entry).map((part) => compilePart(part, nowNs)));
  return (record) => alternatives.some((parts) => parts.every((part) => part(record)));
}

const splitParts = (entry: string): string[] =>
  entry
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');

function compilePart(part: string, nowNs: bigint): Predicate {
  const match = /^(\w+)(==|!=|~=|<=|>=|<|>)(.*)$/.exec(part);
  const [, field = '', operator = '', value = ''] = match ?? [];
  switch (field) {
    case 'ref':
      return compareText(part, operator, value, (record) => [record.Ref]);
    case 'status':
      return compareText(part, operator, value, statusesOf);
    case 'repository':
      return compareText(part, operator, value, (record) => [repositoryOf(record)]);
    case 'startedAt':
      return compareNumber(
        part,
        operator,
        instantOf(part, value, nowNs),
        (record) => record.CreatedAt && nsOfTimestamp(record.CreatedAt),
      );
    case 'completedAt':
      return compareNumber(
        part,
        operator,
        instantOf(part, value, nowNs),
        (record) => record.CompletedAt && nsOfTimestamp(record.CompletedAt),
      );
    case 'duration':
      return compareNumber(part, operator, durationOf(part, value), (record) =>
        record.CreatedAt && record.CompletedAt ? nsOfTimestamp(record.CompletedAt) - nsOfTimestamp(record.CreatedAt) : undefined,
      );
    default:
      throw new BuildError(
        'invalid-input',
        `invalid history filter "${part}": expected <field><operator><value> with ref, status, repository, startedAt, completedAt or duration`,
      );
  }
}

/** A record that was cancelled counts as both error and canceled. */
function statusesOf(record: BuildHistoryRecord): string[] {
  if (record.CompletedAt === undefined) return ['running'];
  if (record.error === undefined || record.error.code === 0) return ['completed'];
  return record.error.message.includes('context canceled') ? ['canceled', 'error'] : ['error'];
}

const repositoryOf = (record: BuildHistoryRecord): string =>
  record.FrontendAttrs['vcs:source'] ?? record.FrontendAttrs.context ?? '';

function compareText(part: string, operator: string, value: string, of: (record: BuildHistoryRecord) => string[]): Predicate {
  if (operator === '==') return (record) => of(record).includes(value);
  if (operator === '!=') return (record) => !of(record).includes(value);
  if (operator === '~=') {
    const pattern = regexpOf(part, value);
    return (record) => of(record).some((text) => pattern.test(text));
  }
  throw new BuildError('invalid-input', `invalid history filter "${part}": operator ${operator} does not apply to text`);
}

function regexpOf(part: string, value: string): RegExp {
  try {
    return clientRegExp(value);
  } catch (cause) {
    throw new BuildError('invalid-input', `invalid history filter "${part}": bad regular expression`, {}, { cause });
  }
}

function compareNumber(
  part: string,
  operator: string,
  bound: bigint,
  of: (record: BuildHistoryRecord) => bigint | undefined,
): Predicate {
  const holds: Record<string, (value: bigint) => boolean> = {
    '<': (value) => value < bound,
    '<=': (value) => value <= bound,
    '>': (value) => value > bound,
    '>=': (value) => value >= bound,
  };
  const test = holds[operator];
  if (test === undefined)
    throw new BuildError('invalid-input', `invalid history filter "${part}": operator ${operator} does not apply to times`);
  return (record) => {
    const value = of(record);
    return value !== undefined && test(value);
  };
}

/** An RFC 3339 time, or a duration back from now. */
function instantOf(part: string, value: string, nowNs: bigint): bigint {
  const ms = Date.parse(value);
  if (/^\d{4}-/.test(value) && !Number.isNaN(ms)) return BigInt(ms) * 1_000_000n;
  return nowNs - durationOf(part, value);
}

const UNIT_NS: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };

/** Go's duration syntax: `1h30m`, `250ms`. */
function durationOf(part: string, value: string): bigint {
  const pieces = [...value.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)];
  if (pieces.length === 0 || pieces.map(([text]) => text).join('') !== value) {
    throw new BuildError('invalid-input', `invalid history filter "${part}": "${value}" is neither a time nor a duration`);
  }
  return pieces.reduce(
    (sum, [, amount = '0', unit = 's']) => sum + BigInt(Math.round(Number(amount) * (UNIT_NS[unit] ?? 0))),
    0n,
  );
}
