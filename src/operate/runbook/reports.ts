/** A run of runbooks for people (Markdown) and for CI (JUnit XML). JSON is the report itself. */
import type { RunbookReport, Step } from './run.ts';

const SHOWN_LINES = 20;

/** A table of the steps, then the output of those that say something. */
export function markdownOf({ name, startedAt, seconds, passed, mitigated, stand, steps, bodySha256 }: RunbookReport): string {
  const rows = steps.map(
    ({ line, section, kind, command, outcome, reason }) =>
      `| ${line} | ${section} | ${kind} | \`${cell(command)}\` | ${outcome} | ${cell(reason)} |`,
  );
  const outputs = steps.filter(({ output }) => output.trim() !== '').map(outputOf);
  return [
    `# ${name}: ${passed ? 'passed' : 'not passed'}`,
    '',
    `${startedAt}, ${seconds.toFixed(1)} s, against ${stand.address}${stand.prometheus === undefined ? ', no Prometheus' : ` and ${stand.prometheus}`}${mitigated ? ', with mitigation' : ''}; page sha256:${bodySha256.slice(0, 12)}.`,
    '',
    '| line | section | kind | command | outcome | why |',
    '|---|---|---|---|---|---|',
    ...rows,
    '',
    ...outputs,
  ].join('\n');
}

const cell = (text: string): string => text.replaceAll('\n', ' ').replaceAll('|', '\\|').slice(0, 200);

function outputOf({ line, output }: Step): string {
  const lines = output.trimEnd().split('\n');
  const left = lines.length - SHOWN_LINES;
  return `Line ${line}:\n\n\`\`\`text\n${lines.slice(0, SHOWN_LINES).join('\n').replaceAll('```', "'''")}${left > 0 ? `\n... ${left} more lines` : ''}\n\`\`\`\n`;
}

/** One suite per runbook, one case per step. */
export function junitOf(reports: readonly RunbookReport[]): string {
  const suites = reports.map(({ name, startedAt, seconds, steps }) => {
    const count = (...outcomes: string[]): number => steps.filter(({ outcome }) => outcomes.includes(outcome)).length;
    const cases = steps.map(caseOf).join('\n');
    return `  <testsuite name="${xml(name)}" tests="${steps.length}" failures="${count('failed', 'no-data', 'unfilled')}" skipped="${count('skipped')}" time="${seconds.toFixed(3)}" timestamp="${startedAt.slice(0, 19)}">\n${cases}\n  </testsuite>`;
  });
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="runbooks">\n${suites.join('\n')}\n</testsuites>\n`;
}

function caseOf({ section, line, command, outcome, reason, output, seconds }: Step): string {
  const head = `    <testcase classname="${xml(section)}" name="${xml(`line ${line}: ${command.replaceAll('\n', ' ')}`)}" time="${seconds.toFixed(3)}">`;
  const body =
    outcome === 'passed'
      ? ''
      : outcome === 'skipped'
        ? `<skipped message="${xml(reason)}"/>`
        : `<failure message="${xml(`${outcome}: ${reason}`)}">${xml(output)}</failure>`;
  return `${head}${body}</testcase>`;
}

/** Characters that XML 1.0 cannot hold are left out. */
const xml = (text: string): string =>
  text
    .replaceAll(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
