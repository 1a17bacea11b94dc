/** What a query in a runbook's Verify section asserts, and asking Prometheus. */
import { BuildError } from '../../core/errors.ts';

const COMPARISONS = ['==', '!=', '>=', '<=', '>', '<'];

/**
 * `A > 1` as `A > bool 1`, so that a series for which it does not hold shows as 0 and is not merely left out. Undefined when the
 * comparison is not the outermost operator (`and`, `or`, `unless` around it) or there is none: then any result is the assertion.
 */
export function boolForm(expr: string): string | undefined {
  let depth = 0;
  let found: { readonly at: number; readonly operator: string } | undefined;
  for (let at = 0; at < expr.length; at++) {
    const char = expr[at] ?? '';
    if (char === '"') {
      for (at += 1; at < expr.length && expr[at] !== '"'; at++) if (expr[at] === '\\') at += 1;
    } else if ('([{'.includes(char)) depth += 1;
    else if (')]}'.includes(char)) depth -= 1;
    else if (depth === 0) {
      if (/^(and|or|unless)\b/.test(expr.slice(at)) && /[\s)]/.test(expr[at - 1] ?? ' ')) return undefined;
      const operator = COMPARISONS.find((candidate) => expr.startsWith(candidate, at));
      if (operator === undefined) continue;
      if (found !== undefined) return undefined; // `a < b < c` filters twice
      found = { at, operator };
      at += operator.length - 1;
    }
  }
  if (found === undefined) return undefined;
  const end = found.at + found.operator.length;
  return /^\s*bool\b/.test(expr.slice(end)) ? expr : `${expr.slice(0, end)} bool${expr.slice(end)}`;
}

export interface QuerySample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** An instant query. Rejects with `invalid-input` and Prometheus' words when it refuses, `unavailable` when it does not answer. */
export async function ask(prometheus: string, query: string, timeoutMs: number): Promise<readonly QuerySample[]> {
  let response: Response;
  try {
    response = await fetch(`${prometheus.replace(/\/$/, '')}/api/v1/query`, {
      method: 'POST',
      body: new URLSearchParams({ query }),
      signal: AbortSignal.timeout(timeoutMs),
    });
  } catch (cause) {
    throw new BuildError(
      'unavailable',
      `Prometheus does not answer at ${prometheus}: ${(cause as Error).message}`,
      {},
      { cause },
    );
  }
  type Result = { readonly metric: Record<string, string>; readonly value: readonly [number, string] };
  const answer = (await response.json().catch(() => ({}))) as {
    status?: string;
    error?: string;
    data?: { resultType: string; result: Result[] | [number, string] };
  };
  if (answer.status !== 'success' || answer.data === undefined)
    throw new BuildError(
      response.status >= 500 ? 'unavailable' : 'invalid-input',
      `Prometheus refuses it: ${answer.error ?? response.status}`,
    );
  const { resultType, result } = answer.data;
  if (resultType === 'scalar') return [{ labels: {}, value: Number(result[1]) }];
  return (result as Result[]).map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
}
