/**
 * When a build was triggered: the push, the merge, the click that CI's queue and checkout come after. The daemon cannot know it, so a
 * client says it, and no way of saying it may reach a frontend or a cache key: what is an option is taken out before anyone reads it.
 */
import { BuildError } from '../../core/errors.ts';

export const TRIGGER_HEADER = 'x-cooper-triggered-at';
/** `buildctl --opt`, and `buildx --build-arg`, which is all that an unmodified buildx can send along. */
const OPTIONS = ['cooper.triggered-at', 'build-arg:COOPER_TRIGGERED_AT'];

const LATEST_AHEAD_NS = 300_000_000_000n; // clocks of CI machines are that far off at worst
const EARLIEST_NS = 7n * 86_400_000_000_000n; // an older one is a mistake, such as the time of a commit

export interface Trigger {
  readonly triggeredAtNs?: bigint;
  /** Why what the client said does not count. A wrong time is no reason to fail a build. */
  readonly ignored?: string;
}

/** Removes the options that name a trigger and returns what they said; the header goes before options. */
export function takeTrigger(options: Map<string, string>, header: string | undefined, nowNs: bigint): Trigger {
  const said = [header, ...OPTIONS.map((name) => options.get(name))].find((text) => text !== undefined && text !== '');
  withoutTrigger(options);
  if (said === undefined) return {};
  try {
    const triggeredAtNs = parseTime(said);
    if (triggeredAtNs - nowNs > LATEST_AHEAD_NS) return { ignored: `trigger time "${said}" is in the future` };
    if (nowNs - triggeredAtNs > EARLIEST_NS) return { ignored: `trigger time "${said}" is more than 7 days ago` };
    return { triggeredAtNs: triggeredAtNs > nowNs ? nowNs : triggeredAtNs };
  } catch (error) {
    return { ignored: BuildError.from(error).message };
  }
}

/** Takes the trigger out of options that come by another way than the solve itself. */
export function withoutTrigger(options: Map<string, string>): void {
  for (const name of OPTIONS) options.delete(name);
}

/** Seconds or milliseconds since the Unix epoch, or RFC 3339, as nanoseconds. @throws BuildError `invalid-input` */
export function parseTime(text: string): bigint {
  if (/^\d{9,10}(\.\d{1,9})?$/.test(text)) {
    const [seconds = '0', fraction = ''] = text.split('.');
    return BigInt(seconds) * 1_000_000_000n + BigInt(fraction.padEnd(9, '0'));
  }
  if (/^\d{12,13}$/.test(text)) return BigInt(text) * 1_000_000n;
  const ms = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)$/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(ms))
    throw new BuildError('invalid-input', `trigger time "${text}" is neither RFC 3339 nor seconds since the epoch`);
  return BigInt(ms) * 1_000_000n;
}
