/** The words of HEALTHCHECK. */
import { invalid } from './errors.ts';
import { parseFlags } from './flags.ts';
import { goQuote, parseDuration } from './go-text.ts';
import type { Healthcheck } from './instruction.ts';
import type { RawInstruction } from './lexer.ts';

/** @throws BuildError `invalid-input`. */
export function parseHealthcheck(raw: RawInstruction): Healthcheck {
  const args = raw.args.form === 'typed' ? raw.args : { type: '', json: false, words: [] };
  if (args.type === '') throw invalid('HEALTHCHECK requires at least one argument');
  const type = args.type.toUpperCase();
  const none = { intervalNs: 0n, timeoutNs: 0n, startPeriodNs: 0n, startIntervalNs: 0n, retries: 0 };
  if (type === 'NONE') {
    if (args.words.length > 0) throw invalid('HEALTHCHECK NONE takes no arguments');
    return { ...none, test: ['NONE'] };
  }
  const flags = parseFlags(raw.flags, {
    interval: 'string',
    timeout: 'string',
    'start-period': 'string',
    'start-interval': 'string',
    retries: 'string',
  });
  if (type !== 'CMD') throw invalid(`Unknown type ${goQuote(type)} in HEALTHCHECK (try CMD)`);
  if (args.words.length === 0) throw invalid('Missing command after HEALTHCHECK CMD');
  return {
    test: [args.json ? 'CMD' : 'CMD-SHELL', ...args.words],
    intervalNs: interval('interval', flags.string('interval')),
    timeoutNs: interval('timeout', flags.string('timeout')),
    startPeriodNs: interval('start-period', flags.string('start-period')),
    startIntervalNs: interval('start-interval', flags.string('start-interval')),
    retries: retriesOf(flags.string('retries')),
  };
}

const SHORTEST_NS = 1_000_000n;

function interval(name: string, text: string): bigint {
  const ns = text === '' ? 0n : parseDuration(text);
  if (ns !== 0n && ns < SHORTEST_NS) throw invalid(`Interval ${goQuote(name)} cannot be less than 1ms`);
  return ns;
}

function retriesOf(text: string): number {
  if (text === '') return 0;
  if (!/^[+-]?\d+$/.test(text)) throw invalid(`strconv.ParseInt: parsing ${goQuote(text)}: invalid syntax`);
  const retries = Number(text);
  if (Math.abs(retries) > 2 ** 31 - 1) throw invalid(`strconv.ParseInt: parsing ${goQuote(text)}: value out of range`);
  if (retries < 0) throw invalid(`--retries cannot be negative (${retries})`);
  return retries;
}
