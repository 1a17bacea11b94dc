/** Counts of objectives out of a Prometheus: raw samples, asked for in pieces, as the daemon would have seen them. */
import { BuildError } from '../../../core/errors.ts';
import type { SlotCounts } from '../../../slo/count-history.ts';
import { countsFrom, type SeriesByRole } from '../../../slo/prometheus-counts.ts';
import { selectorOf } from '../../../slo/promql.ts';
import type { Measured, Objective } from '../../../slo/spec.ts';
import type { Selection } from '../../../telemetry/catalog.ts';

/** A piece is small enough for the sample limits that servers usually have. */
const PIECE_S = 6 * 3600;
const TIMEOUT_MS = 60_000;

/** Rejects with `unavailable` and the server's words. */
export async function countsOfPrometheus(
  url: string,
  job: string,
  objectives: readonly Objective[],
  fromS: number,
  toS: number,
): Promise<Map<string, SlotCounts[]>> {
  const known = new Map<string, Promise<[number, number][][]>>();
  const samples = (selector: string): Promise<[number, number][][]> => {
    const asked = known.get(selector) ?? samplesOf(url, selector, fromS, toS);
    known.set(selector, asked);
    return asked;
  };
  const counts = new Map<string, SlotCounts[]>();
  for (const { name, indicator } of objectives) {
    if ('parts' in indicator) continue;
    const series: Record<string, [number, number][][]> = {};
    for (const [role, selector] of selectorsOf(indicator, job)) series[role] = await samples(selector);
    counts.set(name, countsFrom(indicator, series satisfies SeriesByRole, fromS, toS));
  }
  return counts;
}

function selectorsOf(indicator: Measured, job: string): [string, string][] {
  const counted = (role: string, selection: Selection): [string, string] => [role, selectorOf(selection, job)];
  switch (indicator.kind) {
    case 'events':
      return [counted('good', indicator.good), counted('total', indicator.total)];
    case 'failures':
      return [counted('bad', indicator.bad), counted('total', indicator.total)];
    case 'state':
      return [gauge('gauge', indicator.gauge, job), ...(indicator.per === undefined ? [] : [gauge('per', indicator.per, job)])];
  }
}

/** A gauge goes by its bare name, also when it ends in `_seconds`. */
function gauge(role: string, { metric, where }: Selection, job: string): [string, string] {
  const matchers = Object.entries(where).map(([label, values]) => `${label}=~"${values.join('|')}"`);
  return [role, `${metric}{${[`job="${job}"`, ...matchers].join(',')}}`];
}

interface Answer {
  readonly status: string;
  readonly error?: string;
  readonly data?: {
    readonly result: readonly { readonly metric: Record<string, string>; readonly values: readonly [number, string][] }[];
  };
}

async function samplesOf(url: string, selector: string, fromS: number, toS: number): Promise<[number, number][][]> {
  const series = new Map<string, [number, number][]>();
  for (let startS = fromS; startS < toS; startS += PIECE_S) {
    const endS = Math.min(startS + PIECE_S, toS);
    const answer = await ask(url, `${selector}[${endS - startS}s]`, endS);
    for (const { metric, values } of answer.data?.result ?? []) {
      const key = JSON.stringify(Object.entries(metric).sort());
      const samples = series.get(key) ?? [];
      series.set(key, samples);
      // Some servers count both ends of a range.
      for (const [atS, value] of values) if (atS > (samples.at(-1)?.[0] ?? -1)) samples.push([atS, Number(value)]);
    }
  }
  return [...series.values()];
}

async function ask(url: string, query: string, atS: number): Promise<Answer> {
  const refuse = (what: string, cause?: unknown): never => {
    throw new BuildError(
      'unavailable',
      `${url}: ${what}`,
      { hint: 'is it the address of a Prometheus, as in http://localhost:9090?' },
      { cause },
    );
  };
  const body = new URLSearchParams({ query, time: String(atS) });
  const response = await fetch(new URL('api/v1/query', url.endsWith('/') ? url : `${url}/`), {
    method: 'POST',
    body,
    signal: AbortSignal.timeout(TIMEOUT_MS),
  }).catch((cause: Error) => refuse(cause.message, cause));
  const answer = await (response.json() as Promise<Answer>).catch((cause: Error) =>
    refuse(`answered ${response.status}, no JSON`, cause),
  );
  return answer.status === 'success' ? answer : refuse(answer.error ?? `answered ${response.status}`);
}
