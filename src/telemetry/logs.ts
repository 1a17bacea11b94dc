/**
 * The daemon's log: pino on standard error, one JSON object or one line of text per record, with the ids that join it to a build, a
 * vertex and a trace. Writing never waits: what a reader does not take is buffered up to a bound and then dropped and counted.
 */
import { type DestinationStream, destination, type LevelWithSilent, type Logger as Pino, pino, stdTimeFunctions } from 'pino';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error';
export interface LogFields {
  readonly build?: string;
  readonly vertex?: string;
  readonly trace_id?: string;
  readonly span_id?: string;
  /** Anything thrown; its message, stack and causes are written. */
  readonly error?: unknown;
  readonly [field: string]: unknown;
}
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** The same log with these fields in every record. */
  child(fields: LogFields): Logger;
}
export interface RootLogger extends Logger {
  setLevel(level: LogLevel): void;
}

export interface LogOptions {
  readonly level: LogLevel;
  readonly format: 'json' | 'text';
  /** File descriptor; 2 when absent. */
  readonly fd?: number;
  /** Bytes of records given up because nobody read them. */
  readonly onDropped: () => void;
  /** Told of every record at or above the level. */
  readonly onRecord?: (level: 'debug' | 'info' | 'warn' | 'error') => void;
}

/** pino's numbers. */
const LEVEL_NAMES: Readonly<Record<number, 'debug' | 'info' | 'warn' | 'error'>> = {
  20: 'debug',
  30: 'info',
  40: 'warn',
  50: 'error',
};
const MAX_BUFFERED_BYTES = 1024 * 1024;

export function openLog(options: LogOptions): RootLogger {
  const out = destination({ dest: options.fd ?? 2, sync: false, minLength: 0, maxLength: MAX_BUFFERED_BYTES });
  out.on('drop', options.onDropped);
  out.on('error', options.onDropped); // standard error was closed: there is nobody left to tell
  const target: DestinationStream = options.format === 'json' ? out : { write: (line) => void out.write(textOf(line)) };
  const onRecord = options.onRecord ?? (() => {});
  const root = pino(
    {
      hooks: {
        logMethod(args, method, level) {
          onRecord(LEVEL_NAMES[level] ?? 'info');
          method.apply(this, args);
        },
      },
      level: options.level satisfies LevelWithSilent,
      base: null,
      messageKey: 'msg',
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (level) => ({ level }) },
    },
    target,
  );
  return {
    ...loggerOf(root),
    setLevel: (level) => {
      root.level = level;
    },
  };
}

function loggerOf(log: Pino): Logger {
  return {
    debug: (message, fields = {}) => log.debug(recordOf(fields), message),
    info: (message, fields = {}) => log.info(recordOf(fields), message),
    warn: (message, fields = {}) => log.warn(recordOf(fields), message),
    error: (message, fields = {}) => log.error(recordOf(fields), message),
    child: (fields) => loggerOf(log.child(recordOf(fields))),
  };
}

function recordOf({ error, ...fields }: LogFields): object {
  return error === undefined ? fields : { ...fields, error: errorOf(error) };
}

const MAX_CAUSES = 5;

function errorOf(thrown: unknown, depth = 0): object {
  if (!(thrown instanceof Error)) return { message: String(thrown) };
  const kind = 'kind' in thrown ? { kind: thrown.kind } : {};
  const cause = thrown.cause === undefined || depth >= MAX_CAUSES ? {} : { cause: errorOf(thrown.cause, depth + 1) };
  return { ...kind, message: thrown.message, stack: thrown.stack, ...cause };
}

/** `2026-01-01T00:00:00.000Z INFO  message key=value`, stack traces on lines of their own. */
function textOf(line: string): string {
  const { time, level, msg, error, ...fields } = JSON.parse(line) as Record<string, unknown> & {
    error?: { message?: string; stack?: string };
  };
  const pairs = Object.entries(fields).map(([key, value]) => ` ${key}=${quoted(value)}`);
  const failure = error === undefined ? '' : ` error=${quoted(error.message)}\n${error.stack ?? ''}`;
  return `${String(time)} ${String(level).toUpperCase().padEnd(5)} ${String(msg)}${pairs.join('')}${failure}\n`;
}

function quoted(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return /^[\w./:@+-]+$/.test(text) ? text : JSON.stringify(text);
}
