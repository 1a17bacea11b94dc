/** Reports and backtests as Markdown or as one page of HTML: a list of blocks, written in either. */
import type { Backtest } from './backtest.ts';
import type { PeriodReport, SloPeriod } from './period-report.ts';

type Block =
  | { readonly kind: 'heading'; readonly level: 1 | 2 | 3; readonly text: string }
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'table'; readonly header: readonly string[]; readonly rows: readonly (readonly string[])[] };

export const reportMarkdown = (report: PeriodReport): string => markdown(reportBlocks(report));
export const reportHtml = (report: PeriodReport): string => html('Service level report', reportBlocks(report));
export const backtestMarkdown = (results: readonly Backtest[]): string => markdown(results.flatMap(backtestBlocks));

function reportBlocks({ generatedS, objectives }: PeriodReport): Block[] {
  return [
    heading(1, 'Service level report'),
    text(`Up to ${instant(generatedS)}. Budgets in minutes are minutes of nothing but failures.`),
    {
      kind: 'table',
      header: ['Objective', 'Target', 'Achieved', 'Events', 'Budget left', 'Events left', 'Minutes left', 'Incidents', 'MTTR'],
      rows: objectives.map((slo) => [
        slo.title,
        percent(slo.target),
        slo.achieved === null ? '-' : percent(slo.achieved),
        `${round(slo.good)}/${round(slo.total)} ${slo.eventWord}`,
        percent(slo.budgetLeft),
        `${round(slo.leftEvents)} of ${round(slo.allowedEvents)}`,
        `${round(slo.leftMinutes)} of ${round(slo.allowedMinutes)}`,
        String(slo.incidents.length),
        slo.meanSecondsToRecover === null ? '-' : duration(slo.meanSecondsToRecover),
      ]),
    },
    ...objectives.flatMap(sloBlocks),
  ];
}

function sloBlocks(slo: SloPeriod): Block[] {
  return [
    heading(2, slo.title),
    text(`${instant(slo.fromS)} to ${instant(slo.toS)}.${slo.policy === null ? '' : ` Policy: ${slo.policy.consequence}`}`),
    ...(slo.worst.length === 0
      ? []
      : [
          heading(3, 'What spent the budget'),
          {
            kind: 'table' as const,
            header: ['From', 'To', 'Bad', 'Of', 'Budget spent', 'Ended as', 'Builds'],
            rows: slo.worst.map(({ fromS, toS, good, total, budgetSpent, classes, builds }) => [
              ...[instant(fromS), instant(toS), round(total - good), round(total), percent(budgetSpent)],
              Object.entries(classes)
                .map(([name, count]) => `${count} ${name}`)
                .join(', ') || '-',
              builds.map(({ ref, error }) => (error === undefined ? ref : `${ref} (${error.slice(0, 80)})`)).join(', ') || '-',
            ]),
          },
        ]),
    ...(slo.incidents.length === 0
      ? []
      : [
          heading(3, 'Incidents'),
          {
            kind: 'table' as const,
            header: ['From', 'Lasted', 'Bad', 'Budget spent', 'Noticed after', 'Paged after'],
            rows: slo.incidents.map(incidentRow),
          },
        ]),
    ...adjustmentBlocks(slo),
  ];
}

function adjustmentBlocks({ adjustments, unadjusted }: SloPeriod): Block[] {
  if (unadjusted === undefined) return [];
  return [
    heading(3, 'Adjustments'),
    text(
      `Without them: ${round(unadjusted.good)}/${round(unadjusted.total)}, ${unadjusted.achieved === null ? '-' : percent(unadjusted.achieved)}, ${percent(unadjusted.budgetLeft)} of the budget left.`,
    ),
    {
      kind: 'table',
      header: ['From', 'To', 'What', 'Author', 'Reason'],
      rows: adjustments.map(({ fromS, toS, kind, effect, author, reason }) => [
        ...[instant(fromS), instant(toS), effect.kind === 'forgive' ? `${kind}: ${effect.bad} forgiven` : kind, author, reason],
      ]),
    },
  ];
}

const incidentRow = ({ fromS, toS, good, total, budgetSpent, noticedS, pagedS }: Backtest['incidents'][number]): string[] => [
  ...[instant(fromS), duration(toS - fromS), round(total - good), percent(budgetSpent)],
  noticedS === undefined ? 'never' : duration(noticedS - fromS),
  pagedS === undefined ? 'never' : duration(pagedS - fromS),
];

function backtestBlocks({ title, alerts, incidents, curve, eventWord }: Backtest): Block[] {
  const pages = alerts.filter(({ severity }) => severity === 'page');
  const unnoticed = incidents.filter(({ noticedS }) => noticedS === undefined).length;
  const lowest = Math.min(...curve.map(({ budgetLeft }) => budgetLeft));
  return [
    heading(2, title),
    text(
      `${pages.length} pages (${pages.filter((page) => page.false).length} false), ${alerts.length - pages.length} tickets; ${incidents.length} incidents, ${unnoticed} unnoticed; the budget fell to ${percent(lowest)}.`,
    ),
    text(`Budget: ${sparkline(curve.map(({ budgetLeft }) => budgetLeft))} ${percent(curve.at(-1)?.budgetLeft ?? 1)} at the end.`),
    ...(alerts.length === 0
      ? []
      : [
          {
            kind: 'table' as const,
            header: ['Alert', 'Windows', 'From', 'To', 'Peak burn', 'False'],
            rows: alerts.map(({ severity, long, short, fromS, toS, peakBurnRate, false: wrong }) => [
              ...[severity, `${long}/${short}`, instant(fromS), toS === undefined ? 'fires' : instant(toS)],
              ...[`${round(peakBurnRate)}x`, wrong ? 'yes' : ''],
            ]),
          },
        ]),
    ...(incidents.length === 0
      ? []
      : [
          {
            kind: 'table' as const,
            header: ['Incident', 'Lasted', `Bad ${eventWord}`, 'Budget spent', 'Noticed after', 'Paged after'],
            rows: incidents.map(incidentRow),
          },
        ]),
  ];
}

const BARS = '▁▂▃▄▅▆▇█';
const sparkline = (values: readonly number[]): string =>
  values
    .filter((_, index) => index % Math.ceil(values.length / 48) === 0)
    .map((value) => BARS[Math.round(Math.min(Math.max(value, 0), 1) * (BARS.length - 1))] ?? '')
    .join('');

const heading = (level: 1 | 2 | 3, content: string): Block => ({ kind: 'heading', level, text: content });
const text = (content: string): Block => ({ kind: 'text', text: content });

function markdown(blocks: readonly Block[]): string {
  const row = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`;
  return blocks
    .map((block) => {
      if (block.kind === 'heading') return `${'#'.repeat(block.level)} ${block.text}`;
      if (block.kind === 'text') return block.text;
      return [row(block.header), `|${'---|'.repeat(block.header.length)}`, ...block.rows.map(row)].join('\n');
    })
    .join('\n\n');
}

const STYLE =
  'body{font:14px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #8886}';

function html(title: string, blocks: readonly Block[]): string {
  const row = (tag: 'td' | 'th', cells: readonly string[]): string =>
    `<tr>${cells.map((cell) => `<${tag}>${escaped(cell)}</${tag}>`).join('')}</tr>`;
  const body = blocks.map((block) => {
    if (block.kind === 'heading') return `<h${block.level}>${escaped(block.text)}</h${block.level}>`;
    if (block.kind === 'text') return `<p>${escaped(block.text)}</p>`;
    return `<table><thead>${row('th', block.header)}</thead><tbody>${block.rows.map((cells) => row('td', cells)).join('\n')}</tbody></table>`;
  });
  return `<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>${escaped(title)}</title><style>${STYLE}</style></head>\n<body>\n${body.join('\n')}\n</body></html>`;
}

const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escaped = (raw: string): string => raw.replaceAll(/[&<>"']/g, (char) => ESCAPES[char] ?? char);
const instant = (seconds: number): string => `${new Date(seconds * 1000).toISOString().slice(0, 16).replace('T', ' ')}Z`;
const round = (value: number): string => String(Math.round(value * 10) / 10);
const percent = (ratio: number): string =>
  `${(ratio < 1 ? Math.min(Math.round(ratio * 10_000), 9999) : Math.round(ratio * 10_000)) / 100} %`;

function duration(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${round(seconds / 3600)} h`;
}
