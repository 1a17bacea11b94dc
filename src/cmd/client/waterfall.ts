/** A trace as text: one line per span, indented below its parent, with a bar where it ran. */
export interface WaterfallSpan {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly parentIsRemote?: boolean;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly status: string;
  readonly attributes: Readonly<Record<string, unknown>>;
}
export interface WaterfallOptions {
  readonly width: number;
  /** Also show the phases inside steps. */
  readonly phases: boolean;
}

interface Node {
  readonly span: WaterfallSpan;
  readonly startNs: bigint;
  readonly endNs: bigint;
  readonly depth: number;
}

const MIN_BAR = 10;

/** Lines without a trailing newline; a sentence when there is no span. */
export function formatWaterfall(spans: readonly WaterfallSpan[], { width, phases }: WaterfallOptions): string {
  const nodes = inOrder(spans).filter(({ span }) => phases || span.attributes['cooper.phase'] === undefined);
  const first = nodes[0];
  if (first === undefined) return 'the trace has no spans yet';
  const startNs = nodes.map((node) => node.startNs).reduce(earlier);
  const endNs = nodes.map((node) => node.endNs).reduce(later);
  const labels = nodes.map(({ span, depth }) => `${'  '.repeat(depth)}${span.name}${markOf(span)}`);
  const labelWidth = Math.min(Math.max(...labels.map((label) => label.length)), Math.floor(width * 0.55));
  const barWidth = Math.max(MIN_BAR, width - labelWidth - 12);
  const total = Number(endNs - startNs) || 1;
  const lines = nodes.map((node, i) => {
    const from = Math.floor((Number(node.startNs - startNs) / total) * barWidth);
    const to = Math.max(from + 1, Math.ceil((Number(node.endNs - startNs) / total) * barWidth));
    const bar = ' '.repeat(Math.min(from, barWidth - 1)) + '█'.repeat(Math.max(1, Math.min(to, barWidth) - from));
    return `${fit(labels[i] ?? '', labelWidth)} ${durationOf(node.endNs - node.startNs).padStart(8)} │${bar}`.trimEnd();
  });
  return [`trace ${first.span.traceId}`, ...lines].join('\n');
}

const earlier = (a: bigint, b: bigint): bigint => (b < a ? b : a);
const later = (a: bigint, b: bigint): bigint => (b > a ? b : a);

/** Depth first, children in order of their start; spans whose parent is elsewhere are roots. */
function inOrder(spans: readonly WaterfallSpan[]): Node[] {
  const known = new Set(spans.map(({ spanId }) => spanId));
  const children = new Map<string, WaterfallSpan[]>();
  for (const span of spans) {
    const parent = span.parentSpanId !== undefined && known.has(span.parentSpanId) ? span.parentSpanId : '';
    const siblings = children.get(parent);
    if (siblings === undefined) children.set(parent, [span]);
    else siblings.push(span);
  }
  const byStart = (a: WaterfallSpan, b: WaterfallSpan): number =>
    BigInt(a.startTimeUnixNano) < BigInt(b.startTimeUnixNano) ? -1 : 1;
  const nodes: Node[] = [];
  const visit = (parent: string, depth: number): void => {
    for (const span of (children.get(parent) ?? []).sort(byStart)) {
      nodes.push({ span, startNs: BigInt(span.startTimeUnixNano), endNs: BigInt(span.endTimeUnixNano), depth });
      visit(span.spanId, depth + 1);
    }
  };
  visit('', 0);
  return nodes;
}

function markOf(span: WaterfallSpan): string {
  if (span.status === 'error') return ' ✗';
  return span.attributes['cooper.step.cached'] === true ? ' (cached)' : '';
}

function durationOf(ns: bigint): string {
  const ms = Number(ns) / 1e6;
  if (ms < 1) return `${ms.toFixed(2)}ms`;
  return ms < 1000 ? `${ms.toFixed(0)}ms` : `${(ms / 1000).toFixed(2)}s`;
}

const fit = (text: string, width: number): string => (text.length <= width ? text.padEnd(width) : `${text.slice(0, width - 1)}…`);
