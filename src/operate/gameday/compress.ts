/**
 * Shipped rules and routes made to run `scale` times as fast: ranges, offsets, `for`, intervals, waits and thresholds that are lengths of
 * time, all by the same factor. Counts, ratios and burn rates stay: a window of 5 minutes becomes one of 15 seconds at 20, and what has to
 * happen in it is the same. The builder itself is not made faster, so a game needs its traffic per compressed window.
 */
import { QUEUE_OLDEST_AGE } from '../../telemetry/catalog.ts';
import { OUTAGE_ACTIVE, TIME_TO_FULL } from '../../telemetry/catalog-service.ts';
import { durationMs } from '../durations.ts';

interface Rule {
  readonly record?: string;
  readonly alert?: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}
export interface RuleFile {
  readonly groups: readonly { readonly name: string; readonly interval?: string; readonly rules: readonly Rule[] }[];
}
interface Route {
  readonly receiver?: string;
  readonly group_wait?: string;
  readonly group_interval?: string;
  readonly repeat_interval?: string;
  readonly matchers?: readonly string[];
  readonly routes?: readonly Route[];
}
export interface RoutingFile {
  readonly route: Route;
  readonly receivers: readonly { readonly name: string; readonly webhook_configs?: readonly { readonly url: string }[] }[];
  readonly time_intervals?: readonly { readonly name: string }[];
  readonly inhibit_rules?: readonly unknown[];
}

/** Gauges in seconds of real time whose thresholds are lengths of time. */
const AGES = [QUEUE_OLDEST_AGE.name, OUTAGE_ACTIVE.name, TIME_TO_FULL.name];
const SHORTEST_MS = 200;

const shorter = (text: string, scale: number, leastMs = SHORTEST_MS): string =>
  `${Math.max(leastMs, Math.round(durationMs(text) / scale))}ms`;

/** The same expression on windows `scale` times as short. */
export function compressExpression(expr: string, scale: number): string {
  const ages = new RegExp(`((?:${AGES.join('|')})\\{[^}]*\\}\\)*\\s*[<>]=?\\s*)(\\d+(?: \\* \\d+)*)`, 'g');
  const scaled = expr
    .replaceAll(/(predict_linear\([^[]*\[[^\]]+\],\s*)(\d+(?: \* \d+)*)/g, `$1$2 / ${scale}`)
    .replaceAll(ages, `$1$2 / ${scale}`);
  // What stands in quotes is a label, not a range.
  return scaled
    .split(/("(?:[^"\\]|\\.)*")/)
    .map((part, i) =>
      i % 2 === 1
        ? part
        : part
            .replaceAll(/\[([0-9a-z]+)(?::([0-9a-z]*))?\]/g, (whole, range: string, step: string | undefined) => {
              const inner = shorter(range, scale, 1000);
              return whole.includes(':') ? `[${inner}:${step ? shorter(step, scale) : ''}]` : `[${inner}]`;
            })
            .replaceAll(/\boffset\s+([0-9a-z]+)/g, (_, by: string) => `offset ${shorter(by, scale)}`),
    )
    .join('');
}

export const compressRules = (file: RuleFile, scale: number): RuleFile => ({
  groups: file.groups.map((group) => ({
    ...group,
    interval: shorter(group.interval ?? '30s', scale, 500),
    rules: group.rules.map((rule) => ({
      ...rule,
      expr: compressExpression(rule.expr, scale),
      ...(rule.for !== undefined && { for: shorter(rule.for, scale) }),
    })),
  })),
});

/** Waits shortened, office hours around the clock, and every receiver that is a webhook sent to `webhooks`/NAME. */
export function compressRouting(file: RoutingFile, scale: number, webhooks: string): RoutingFile {
  const route = (one: Route): Route => ({
    ...one,
    ...(one.group_wait !== undefined && { group_wait: one.group_wait === '0s' ? '0s' : shorter(one.group_wait, scale) }),
    ...(one.group_interval !== undefined && { group_interval: shorter(one.group_interval, scale, 1000) }),
    ...(one.repeat_interval !== undefined && { repeat_interval: shorter(one.repeat_interval, scale, 1000) }),
    ...(one.routes !== undefined && { routes: one.routes.map(route) }),
  });
  return {
    ...file,
    route: route(file.route),
    receivers: file.receivers.map(({ webhook_configs, ...receiver }) => ({
      ...receiver,
      ...(webhook_configs !== undefined && {
        webhook_configs: webhook_configs.map((config) => ({ ...config, url: `${webhooks}/${receiver.name}` })),
      }),
    })),
    time_intervals: (file.time_intervals ?? []).map((interval) =>
      interval.name === 'business-hours'
        ? { name: interval.name, time_intervals: [{ times: [{ start_time: '00:00', end_time: '24:00' }] }] }
        : interval,
    ),
  };
}
