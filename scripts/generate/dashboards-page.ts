/** docs/dashboards.md from the boards. */

import { DASHBOARDS } from '../../dashboards/all.ts';
import { ANNOTATIONS } from '../../dashboards/annotations.ts';
import type { Dashboard, Panel, Row } from '../../dashboards/grafana.ts';
import { SCOPED } from '../../dashboards/query.ts';
import { OBJECTIVES } from '../../src/slo/objectives.ts';

const HEAD = `# Dashboards

Generated from \`dashboards/*.ts\` by \`npm run generate\`.

The boards are classic Grafana JSON (\`dashboards/*.json\`), which every Grafana since 10 imports. Their thresholds come from the objectives and from
the alert rules themselves, their metric names and label values from the catalogue. They keep their uids, so links to them stay good.

## Set up

1. Prometheus: \`deploy/prometheus/prometheus.yml\` is a complete configuration. Start it with \`--enable-feature=exemplar-storage\`, put
   \`alerts/rules.yaml\` into \`rules/\` beside it, and name your daemons as targets of the job \`cooper\`.
2. Grafana: copy \`deploy/grafana/provisioning\` over its provisioning folder, set the urls in \`datasources/cooper.yaml\`, and copy
   \`dashboards/*.json\` to \`/var/lib/grafana/dashboards/cooper\`. Or import the four files by hand.
3. Links to runbooks, Grafana and Alertmanager: set \`COOPER_RUNBOOKS_URL\`, \`COOPER_GRAFANA_URL\` and \`COOPER_ALERTMANAGER_URL\`, then \`npm run generate\`.

Only Prometheus is needed. With Tempo the dots on panels lead to the trace of a build; with Loki the debug board shows the log of the daemons, if it has
it under the same labels \`job\` and \`instance\`.

What is tested: every query, on a real Prometheus that scrapes a real daemon; the rules of grafana/dashboard-linter without exclusion, and rules of our
own (\`test/operations/dashboards.test.ts\`); the provisioning files, by their documented fields. What is not: Grafana itself does not run in the tests.
How a panel looks, and the queries to Loki and Tempo, are unproven.

## Conventions

- Every board has the variables job and instance. Links to other boards, and from alerts to boards, carry time range and variables.
- success is green, a failure of the input blue, an error of ours red, a timeout orange, on every board; a line or figure turns red at the bound
  of an objective or an alert.
- A panel that is empty on a healthy machine says what has to happen first.
- Panels that explain an alert link to its runbook.
- Queries below are shown without their common matchers \`${SCOPED}\`.
`;

export function dashboardsPage(): string {
  const marks = ANNOTATIONS.map(({ name, expr }) => `- ${name}: \`${plain(expr)}\``);
  return [
    HEAD,
    `Marks on every time axis (game days have no series and no mark):\n\n${marks.join('\n')}\n`,
    ...DASHBOARDS.map(boardSection),
  ].join('\n');
}

function boardSection(board: Dashboard): string {
  const rows = board.rows.filter((row) => !repeats(row));
  const variables = [...(board.labelVariables ?? []), ...(board.textVariables ?? [])].map(
    ({ name, label }) => `\`${name}\` (${label})`,
  );
  return [
    `## ${board.title}\n`,
    `\`dashboards/${board.uid}.json\`, uid \`${board.uid}\`, opens with ${board.from.replace('now-', 'the last ')}.${variables.length > 0 ? ` Variables of its own: ${variables.join(', ')}.` : ''}\n`,
    `**${board.question}**\n`,
    ...rows.map(rowSection),
  ].join('\n');
}

/** The rows of the objectives are alike: one is described for all. */
const repeats = ({ title }: Row): boolean => OBJECTIVES.slice(1).some((objective) => title.startsWith(`${objective.title}: `));

function rowSection({ title, panels }: Row): string {
  const [first] = OBJECTIVES;
  const alike = first !== undefined && title.startsWith(`${first.title}: `);
  const others = OBJECTIVES.slice(1).map((objective) => objective.title);
  return `### ${title}\n\n${alike ? `The same for: ${others.join(', ')}.\n\n` : ''}${panels.map(panelEntry).join('\n')}\n`;
}

function panelEntry(panel: Panel): string {
  const alerts =
    panel.alerts === undefined
      ? ''
      : ` Alerts: ${panel.alerts.map((alert) => `[${alert}](../runbooks/${alert}.md)`).join(', ')}.`;
  const empty = panel.emptyUntil === undefined ? '' : ` Empty until ${panel.emptyUntil}.`;
  const queries = panel.targets.map(
    ({ expr, column }) => `  - ${column === undefined ? '' : `${column.title}: `}\`${plain(expr)}\``,
  );
  return [`- **${panel.title}**: ${panel.description}${alerts}${empty}`, ...queries].join('\n');
}

const plain = (expr: string): string => expr.replaceAll(SCOPED, '').replaceAll('job=~"$job",instance=~"$instance",', '');
