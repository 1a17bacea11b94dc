/** What a game leaves behind, as data and as Markdown, JUnit XML and HTML. */
import { sayMs } from '../durations.ts';
import type { Judgement } from './judge.ts';

export const EXIT_CODES = { passed: 0, failed: 1, 'not-started': 3, aborted: 4, incomplete: 5, tabletop: 0 } as const;
export type Outcome = keyof typeof EXIT_CODES;

export interface GameReport {
  readonly game: string;
  readonly title: string;
  readonly hypothesis: string;
  readonly mode: 'automatic' | 'live' | 'tabletop';
  /** The system was broken on purpose in this way. */
  readonly mutation?: string;
  readonly outcome: Outcome;
  /** RFC 3339. */
  readonly startedAt: string;
  readonly timeScale: number;
  readonly fault: string;
  readonly timeline: readonly { readonly at: string; readonly what: string }[];
  /** Real milliseconds; absent where it did not happen. */
  readonly times: {
    readonly mttdMs?: number;
    readonly notifyMs?: number;
    readonly mttaMs?: number;
    readonly mttrMs?: number;
  };
  readonly budgets: readonly { readonly slo: string; readonly before: number; readonly after: number }[];
  readonly builds: { readonly total: number; readonly failed: number; readonly byOutcome: Readonly<Record<string, number>> };
  readonly preconditions: readonly Judgement[];
  readonly expectations: readonly Judgement[];
  /** Over what could be evaluated; the rest is counted apart and never as passed. */
  readonly score: { readonly passed: number; readonly evaluated: number; readonly total: number };
  readonly notes: readonly string[];
}

export function scoreOf(expectations: readonly Judgement[]): GameReport['score'] {
  const passed = expectations.filter(({ verdict }) => verdict === 'pass').length;
  const failed = expectations.filter(({ verdict }) => verdict === 'fail').length;
  return { passed, evaluated: passed + failed, total: expectations.length };
}

export function outcomeOf(expectations: readonly Judgement[]): Outcome {
  if (expectations.some(({ verdict }) => verdict === 'fail')) return 'failed';
  return expectations.every(({ verdict }) => verdict === 'pass') ? 'passed' : 'incomplete';
}

/** What became different since the last run, one sentence each. */
export function differences(before: GameReport, now: GameReport): string[] {
  const verdicts = new Map(before.expectations.map(({ id, verdict }) => [id, verdict]));
  const changed = now.expectations
    .filter(({ id, verdict }) => verdicts.get(id) !== verdict)
    .map(({ id, verdict }) => `${id}: ${verdicts.get(id) ?? 'not there'} → ${verdict}`);
  const times = (['mttdMs', 'mttaMs', 'mttrMs'] as const).flatMap((name) => {
    const [old, current] = [before.times[name], now.times[name]];
    if (old === undefined || current === undefined || Math.abs(current - old) < Math.max(2_000, old * 0.25)) return [];
    return [`${name.slice(0, 4).toUpperCase()}: ${sayMs(old)} → ${sayMs(current)}`];
  });
  return [...changed, ...times];
}

const MARKS = { pass: 'pass', fail: 'FAIL', unevaluated: 'not evaluated', pending: 'not decided' } as const;
const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');

export function toMarkdown(report: GameReport, previous?: GameReport): string {
  const { score, times, builds } = report;
  const time = (ms: number | undefined): string =>
    ms === undefined ? 'not measured' : `${sayMs(ms)} (${sayMs(ms * report.timeScale)} at scale 1)`;
  return `${[
    `# ${report.game}: ${report.outcome}`,
    '',
    `${report.title}. ${report.hypothesis}`,
    '',
    `Started ${report.startedAt}, ${report.mode}, time scale ${report.timeScale}, fault \`${report.fault}\`${report.mutation === undefined ? '' : `, system broken on purpose: ${report.mutation}`}.`,
    `Score ${score.passed} of ${score.evaluated} evaluated expectations${score.total > score.evaluated ? `; ${score.total - score.evaluated} could not be evaluated` : ''}.`,
    '',
    `| | real time |\n|---|---|\n| detected (MTTD) | ${time(times.mttdMs)} |\n| notified | ${time(times.notifyMs)} |\n| acknowledged (MTTA) | ${time(times.mttaMs)} |\n| recovered (MTTR) | ${time(times.mttrMs)} |`,
    '',
    '## Expectations',
    '',
    '| expectation | verdict | evidence |',
    '|---|---|---|',
    ...report.expectations.map(({ id, verdict, evidence }) => `| ${cell(id)} | ${MARKS[verdict]} | ${cell(evidence)} |`),
    '',
    '## Preconditions',
    '',
    ...report.preconditions.map(({ id, verdict, evidence }) => `- ${id}: ${MARKS[verdict]} (${evidence})`),
    '',
    '## Timeline',
    '',
    ...report.timeline.map(({ at, what }) => `- ${at} ${what}`),
    '',
    '## Builds and budgets',
    '',
    `${builds.total} builds, ${builds.failed} failed (${Object.entries(builds.byOutcome)
      .map(([name, count]) => `${name} ${count}`)
      .join(', ')}).`,
    '',
    ...(report.budgets.length === 0 ? [] : ['| objective | budget before | after |', '|---|---|---|']),
    ...report.budgets.map(({ slo, before, after }) => `| ${slo} | ${percent(before)} | ${percent(after)} |`),
    ...(previous === undefined
      ? []
      : ['', `## Since ${previous.startedAt}`, '', ...(differences(previous, report).map((text) => `- ${text}`) || [])]),
    ...(report.notes.length === 0 ? [] : ['', '## Notes', '', ...report.notes.map((note) => `- ${note}`)]),
  ].join('\n')}\n`;
}
const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;

const xml = (text: string): string =>
  text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll(/[^\t\n\x20-\uFFFF]/g, '?');

/** Not evaluated is an error, not a skip: CI must not call it green. */
export function toJunit(report: GameReport): string {
  const cases = [...report.preconditions, ...report.expectations].map(({ id, verdict, evidence }) => {
    const inner = {
      pass: '',
      fail: `<failure message="${xml(evidence)}"/>`,
      unevaluated: `<error message="not evaluated: ${xml(evidence)}"/>`,
      pending: '<error message="not decided"/>',
    }[verdict];
    return `  <testcase classname="gameday.${xml(report.game)}" name="${xml(id)}">${inner}</testcase>`;
  });
  const all = [...report.preconditions, ...report.expectations];
  const failures = all.filter(({ verdict }) => verdict === 'fail').length;
  const errors = all.filter(({ verdict }) => verdict === 'unevaluated' || verdict === 'pending').length;
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuite name="gameday.${xml(report.game)}" tests="${all.length}" failures="${failures}" errors="${errors}">\n${cases.join('\n')}\n</testsuite>\n`;
}

export function toHtml(report: GameReport): string {
  const rows = report.expectations.map(
    ({ id, verdict, evidence }) =>
      `<tr class="${verdict}"><td>${xml(id)}</td><td>${MARKS[verdict]}</td><td>${xml(evidence)}</td></tr>`,
  );
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>${xml(report.game)}: ${report.outcome}</title>
<style>body{font:15px/1.5 system-ui;margin:2rem auto;max-width:70rem;padding:0 1rem}table{border-collapse:collapse;width:100%}td,th{border:1px solid #8886;padding:.3rem .6rem;text-align:left;overflow-wrap:anywhere}.pass td:nth-child(2){color:#17692b}.fail td:nth-child(2){color:#b00020;font-weight:bold}.unevaluated td:nth-child(2){color:#8a5a00}</style>
<h1>${xml(report.game)}: ${report.outcome}</h1>
<p>${xml(report.title)}. ${xml(report.hypothesis)}</p>
<p>Started ${report.startedAt}, ${report.mode}, time scale ${report.timeScale}, fault ${xml(report.fault)}. Score ${report.score.passed} of ${report.score.evaluated} evaluated of ${report.score.total}.</p>
<table><tr><th>expectation</th><th>verdict</th><th>evidence</th></tr>
${rows.join('\n')}
</table>
<h2>Timeline</h2>
<ul>${report.timeline.map(({ at, what }) => `<li>${at} ${xml(what)}</li>`).join('')}</ul>
</html>
`;
}
