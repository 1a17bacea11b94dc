/**
 * The part of PromQL that says what to count: a selector, alone or under `sum`, `rate` and `increase`; differences and quotients of
 * two; the age of a timestamp. Objectives count events over windows of their own, so functions and ranges around a selector are read
 * over, and everything that is more than a selector is refused with the reason.
 */
import type { MetricSpec, Selection } from '../../telemetry/catalog.ts';

export type Query =
  | { readonly kind: 'selection'; readonly selection: Selection }
  | { readonly kind: 'difference' | 'quotient'; readonly left: Query; readonly right: Query }
  /** `time() - x` */
  | { readonly kind: 'age'; readonly of: Query };

export interface QueryProblem {
  readonly message: string;
  readonly fix: string;
}
interface Read {
  readonly query: Query;
  /** Matchers that were left out: `job` and `instance` are set when rules are generated. */
  readonly leftOut: readonly string[];
}

class Refused extends Error {
  readonly fix: string;
  constructor(message: string, fix: string) {
    super(message);
    this.fix = fix;
  }
}

/** Reads a query. `catalogue` resolves negative and regular matchers to the values that exist. */
export function readQuery(text: string, catalogue: readonly MetricSpec[]): Read | QueryProblem {
  try {
    return new Parser(text, catalogue).whole();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return { message: error.message, fix: error.fix };
  }
}

export const isProblem = (read: Read | QueryProblem): read is QueryProblem => 'message' in read;

const TOKEN =
  /\s*(?:(?<name>[a-zA-Z_:][\w:]*)|(?<number>\d+(?:\.\d+)?(?:e[+-]?\d+)?)|(?<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?<range>\[[^\]]*\])|(?<sign>=~|!~|!=|[=(){},+*/-]))/y;
const READ_OVER = ['sum', 'rate', 'increase', 'irate'] as const;

interface Token {
  readonly kind: string;
  readonly text: string;
}

class Parser {
  readonly #tokens: readonly Token[];
  readonly #catalogue: readonly MetricSpec[];
  readonly #leftOut: string[] = [];
  #at = 0;

  constructor(text: string, catalogue: readonly MetricSpec[]) {
    this.#tokens = tokensOf(text);
    this.#catalogue = catalogue;
  }

  whole(): Read {
    const query = this.#expression();
    const rest = this.#peek();
    if (rest !== undefined)
      throw new Refused(`"${rest.text}" is more than can be counted`, 'write one selector, or sum(rate(…)) of one');
    return { query, leftOut: this.#leftOut };
  }

  /** term [- term | / term] [or vector(0)] */
  #expression(): Query {
    const left = this.#term();
    const sign = this.#peek()?.text;
    if (sign === 'or') {
      for (const word of ['or', 'vector', '(', '0', ')']) this.#expect(word);
      return left;
    }
    if (sign !== '-' && sign !== '/') return left;
    this.#at++;
    const right = this.#term();
    if (sign === '/') return { kind: 'quotient', left, right };
    return isTime(left) ? { kind: 'age', of: right } : { kind: 'difference', left, right };
  }

  #term(): Query {
    const token = this.#next();
    if (token.text === '(') return this.#closed(this.#expression());
    if (token.text === '{') {
      this.#at--;
      return this.#selector(undefined);
    }
    if (token.kind !== 'name')
      throw new Refused(`"${token.text}" is not a selector`, 'name a metric, as in cooper_builds_total{result="success"}');
    if (token.text === 'time' && this.#peek()?.text === '(') {
      this.#at++;
      return this.#closed(TIME);
    }
    const after = this.#peek()?.text;
    if (after === 'by' || after === 'without')
      throw new Refused(
        `${token.text} ${after} keeps labels`,
        'an objective is one number: sum over everything, or write one objective per value',
      );
    if (after !== '(') return this.#selector(token.text);
    if (!READ_OVER.some((name) => name === token.text))
      throw new Refused(
        `the function ${token.text} is not counting`,
        'count good and total events with sum(rate(…)) or a bare selector',
      );
    this.#at++;
    const inner = this.#closed(this.#expression());
    const keeps = this.#peek()?.text;
    if (keeps === 'by' || keeps === 'without')
      throw new Refused(`${token.text} ${keeps} keeps labels`, 'an objective is one number: sum over everything');
    return inner;
  }

  #closed(query: Query): Query {
    this.#expect(')');
    return query;
  }

  #selector(name: string | undefined): Query {
    const where: Record<string, readonly string[]> = {};
    let metric = name;
    let edge: string | undefined;
    if (this.#peek()?.text === '{') {
      this.#at++;
      while (this.#peek()?.text !== '}') {
        const { label, sign, value } = this.#matcher();
        if (label === '__name__') metric = value;
        else if (label === 'le') edge = value;
        else if (label === 'job' || label === 'instance') this.#leftOut.push(label);
        else where[label] = this.#values(metric ?? '', label, sign, value);
        if (this.#peek()?.text === ',') this.#at++;
      }
      this.#expect('}');
    }
    if (this.#peek()?.kind === 'range') this.#at++;
    if (this.#peek()?.text === 'offset') throw new Refused('offset moves the window', 'leave it out: windows end now');
    if (metric === undefined) throw new Refused('a selector without a metric', 'name a metric of docs/metrics.md');
    return { kind: 'selection', selection: { metric: baseOf(metric, edge), where, ...edgeOf(edge) } };
  }

  #matcher(): { readonly label: string; readonly sign: string; readonly value: string } {
    const label = this.#next();
    if (label.kind !== 'name') throw new Refused(`"${label.text}" is not a label`, 'write label="value"');
    const sign = this.#next().text;
    if (!['=', '!=', '=~', '!~'].includes(sign)) throw new Refused(`"${sign}" compares no label`, 'use =, !=, =~ or !~');
    const value = this.#next();
    if (value.kind !== 'text')
      throw new Refused(`the value of ${label.text} is not quoted`, `write ${label.text}="${value.text}"`);
    return { label: label.text, sign, value: unquoted(value.text) };
  }

  /** The values a matcher accepts, as a list. */
  #values(metric: string, label: string, sign: string, value: string): readonly string[] {
    if (sign === '=') return [plain(label, value)];
    const alternatives = value.split('|');
    if (sign === '=~' && alternatives.every((one) => /^[\w./:@ -]+$/.test(one) && !/\./.test(one))) return alternatives;
    const spec = this.#catalogue.find((candidate) => metric === candidate.name || metric.startsWith(`${candidate.name}_`));
    const known = spec?.labels[label] ?? [];
    if (known.length === 0)
      throw new Refused(
        `${label}${sign}"${value}" needs the values of ${label}, which are not known`,
        `list them: ${label}=~"a|b"`,
      );
    const accepted = known.filter((candidate) => accepts(sign, value, candidate));
    if (accepted.length === 0)
      throw new Refused(`${label}${sign}"${value}" matches nothing`, `${label} is one of: ${known.join(', ')}`);
    return accepted;
  }

  #peek = (): Token | undefined => this.#tokens[this.#at];
  #next(): Token {
    const token = this.#tokens[this.#at++];
    if (token === undefined) throw new Refused('the query ends too early', 'close every bracket');
    return token;
  }
  #expect(text: string): void {
    const token = this.#next();
    if (token.text !== text)
      throw new Refused(`expected "${text}", not "${token.text}"`, 'write one selector, or sum(rate(…)) of one');
  }
}

const TIME: Query = { kind: 'selection', selection: { metric: 'time()', where: {} } };
const isTime = (query: Query): boolean => query === TIME;

function tokensOf(text: string): Token[] {
  // Sloth writes the window as a template.
  const source = text.replaceAll(/\[\s*\{\{\s*\.window\s*\}\}\s*\]/g, '[1h]').trim();
  if (source.length > 2000) throw new Refused('the query is longer than 2000 characters', 'count one metric');
  const tokens: Token[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < source.length) {
    const from = TOKEN.lastIndex;
    const groups = TOKEN.exec(source)?.groups;
    const [kind, found] = Object.entries(groups ?? {}).find(([, value]) => value !== undefined) ?? [];
    if (kind === undefined || found === undefined)
      throw new Refused(
        `"${source.slice(from, from + 20).trim()}" is not understood`,
        'write one selector, or sum(rate(…)) of one',
      );
    tokens.push({ kind, text: found });
  }
  return tokens;
}

function accepts(sign: string, value: string, candidate: string): boolean {
  if (sign === '!=') return candidate !== value;
  try {
    return new RegExp(`^(?:${value})$`).test(candidate) === (sign === '=~');
  } catch {
    throw new Refused(`"${value}" is not a regular expression`, 'correct it');
  }
}

function plain(label: string, value: string): string {
  if (/^[\w./:@ -]{0,200}$/.test(value)) return value;
  throw new Refused(
    `the value "${value}" of ${label} has characters that labels here do not have`,
    'use letters, digits, . / : @ - and _',
  );
}

const unquoted = (text: string): string => text.slice(1, -1).replaceAll(/\\(.)/g, '$1');

const COUNTED = /_(seconds|bytes)$/;

/** The name in the catalogue: histograms are read as `_bucket` and `_count`. */
function baseOf(metric: string, edge: string | undefined): string {
  if (edge !== undefined) return metric.replace(/_bucket$/, '');
  const base = metric.replace(/_count$/, '');
  return COUNTED.test(base) ? base : metric;
}

function edgeOf(edge: string | undefined): { readonly le?: number } {
  if (edge === undefined || edge === '+Inf') return {};
  const le = Number(edge.replace(/\(\.0\)\?$/, ''));
  if (!Number.isFinite(le)) throw new Refused(`le="${edge}" is not a bucket edge`, 'write one number');
  return { le };
}

/** A selection as a query that readQuery reads as the same. */
export function queryOf({ metric, where, le }: Selection, gauge = false): string {
  const matchers = Object.entries(where).map(([label, values]) =>
    values.length === 1 ? `${label}="${values[0]}"` : `${label}=~"${values.join('|')}"`,
  );
  const suffix = gauge ? '' : le !== undefined ? '_bucket' : COUNTED.test(metric) ? '_count' : '';
  const all = [...matchers, ...(le === undefined ? [] : [`le="${le}"`])];
  return `sum(${metric}${suffix}${all.length === 0 ? '' : `{${all.join(',')}}`})`;
}
