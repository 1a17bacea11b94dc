/** The page at `/`: what an operator wants to see first, rendered here, with no script and no request to anywhere else. */
import type { SloReport, SloStatus } from '../slo/report.ts';
import type { BuildSummary, ReadyCheck } from './ops-providers.ts';

export interface StatusPage {
  readonly version: string;
  readonly addresses: readonly string[];
  readonly ready: readonly ReadyCheck[];
  readonly slo: SloReport;
  readonly builds: readonly BuildSummary[];
}

export function statusPage(page: StatusPage): string {
  const failing = page.ready.filter((check) => !check.ok);
  const verdict = failing.length === 0 ? 'ready' : `not ready: ${failing.map(({ name, detail }) => detail ?? name).join('; ')}`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Cooper ${text(page.version)}</title>
<style>${STYLE}</style>
</head>
<body>
<header><h1>Cooper</h1><p>${text(page.version)} · <strong class="${failing.length === 0 ? 'good' : 'bad'}">${text(verdict)}</strong> · ${text(page.slo.generatedAt)}</p></header>
<main>
<section aria-labelledby="slo"><h2 id="slo">Objectives</h2>
${table(['Objective', 'Target', 'Achieved', 'Events', 'Budget left', 'State'], page.slo.objectives.map(sloRow), 'No objectives are configured.')}
</section>
<section aria-labelledby="builds"><h2 id="builds">Recent builds</h2>
${table(['Ref', 'Name', 'Started', 'Duration', 'Cached', 'State'], page.builds.map(buildRow), 'No builds yet.')}
</section>
<section aria-labelledby="addresses"><h2 id="addresses">Addresses</h2>
<ul>
${page.addresses.map((address) => `<li><code>${text(address)}</code>: build API</li>`).join('\n')}
${LINKS.map(([path, what]) => `<li><a href="${path}">${path}</a>: ${what}</li>`).join('\n')}
</ul>
</section>
</main>
</body>
</html>
`;
}

const LINKS = [
  ['/metrics', 'metrics for Prometheus'],
  ['/slo', 'objectives as JSON'],
  ['/api/v1/builds', 'builds as JSON'],
  ['/livez', 'liveness'],
  ['/readyz', 'readiness'],
] as const;

function sloRow(status: SloStatus): string[] {
  const state = status.note === undefined ? status.state : `${status.state} (${status.note})`;
  return [
    `<span title="${text(status.description)}">${text(status.title)}</span>`,
    `${percent(status.target)} over ${text(status.period)}`,
    status.achieved === null ? 'no events' : percent(status.achieved),
    `${status.good} of ${status.total} ${text(status.events)}`,
    percent(status.budgetLeft),
    mark(state, status.state === 'ok' || status.state === 'idle'),
  ];
}

function buildRow(build: BuildSummary): string[] {
  const path = `/api/v1/builds/${encodeURIComponent(build.ref)}`;
  return [
    `<a href="${text(path)}">${text(build.ref)}</a> <a href="${text(path)}/trace">trace</a>`,
    text(build.name),
    text(build.startedAt),
    build.durationMs === undefined ? '-' : `${(build.durationMs / 1000).toFixed(1)} s`,
    build.steps === undefined ? '-' : `${build.steps.cached} of ${build.steps.total}`,
    mark(
      build.error === undefined ? build.state : `${build.state}: ${build.error}`,
      ['success', 'running', 'queued'].includes(build.state),
    ),
  ];
}

const mark = (words: string, good: boolean): string => `<span class="${good ? 'good' : 'bad'}">${text(words)}</span>`;
const percent = (ratio: number): string => `${Math.round(ratio * 10_000) / 100} %`;

/** Cells are HTML already; everything a client could have chosen went through text(). */
function table(heads: readonly string[], rows: readonly (readonly string[])[], none: string): string {
  if (rows.length === 0) return `<p>${none}</p>`;
  const head = heads.map((cell) => `<th scope="col">${cell}</th>`).join('');
  const body = rows.map((row) => `<tr>${row.map((cell) => `<td>${cell}</td>`).join('')}</tr>`).join('\n');
  return `<div class="wide"><table><thead><tr>${head}</tr></thead><tbody>\n${body}\n</tbody></table></div>`;
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const text = (raw: string): string => raw.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? '');

const STYLE = `
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:70rem;padding:1rem}
h1{margin:0}h2{font-size:1.1rem;margin:1.5rem 0 .5rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%}
th,td{border-bottom:1px solid #8886;padding:.3rem .6rem;text-align:left;vertical-align:top}
.good{color:light-dark(#0a6b2c,#5bd98a)}.bad{color:light-dark(#a8201a,#ff8a80);font-weight:600}
`.replaceAll('\n', '');
