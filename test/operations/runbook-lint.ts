/** What a runbook says that is not so: metrics, labels, alerts, commands, flags, settings and open words that do not exist. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ALERT_NAMES, ALERTS } from '../../alerts/rules.ts';
import { SETTINGS } from '../../src/cmd/config/settings.ts';
import { drillStateOf } from '../../src/operate/runbook/record.ts';
import { commandsOf, parseRunbook, type Runbook } from '../../src/operate/runbook/runbook.ts';
import { PLACEHOLDERS } from '../../src/operate/runbook/stand.ts';
import { CATALOG } from '../../src/telemetry/catalog.ts';
import { exposedNamesOf } from '../../src/telemetry/metric-spec.ts';
import { promqlProblems } from './promql-names.ts';

const LABELS_OF = new Map(
  CATALOG.flatMap((spec) => exposedNamesOf(spec).map((name) => [name, Object.keys(spec.labels)] as const)),
);
const ALWAYS = ['job', 'instance', 'le', 'alertname', 'alertstate', ...ALERTS.flatMap(({ labels }) => Object.keys(labels))];
/** Commands whose first operand is a command of its own. */
const WITH_ACTS = ['gc', 'cache', 'slo', 'config', 'runbook'];
const SETTING_ROOTS = /^(cooper|worker|grpc|gc|history|system|log|registry)\.[\w*.-]+$/;
const METHODS = ['GET', 'HEAD', 'POST'];
/** Names of span attributes look like settings. */
const TELEMETRY = readdirSync('src/telemetry')
  .filter((name) => name.endsWith('.ts'))
  .map((name) => readFileSync(join('src/telemetry', name), 'utf8'))
  .join('');
const SETTING_KEYS = SETTINGS.map(({ key }) => key.replaceAll('[]', ''));

/** `dir`: where the page lies, for the record its stamp cites. */
export function runbookProblems(name: string, text: string, records: ReadonlySet<string>, dir: string): string[] {
  let runbook: Runbook;
  try {
    runbook = parseRunbook(name, text);
  } catch (thrown) {
    return [(thrown as Error).message];
  }
  const commands = [
    ...runbook.blocks
      .filter(({ kind }) => kind !== 'promql')
      .flatMap((block) => commandsOf(block).map((command) => command.text)),
    ...codeSpans(text).filter((span) => /^cooper\s/.test(span)),
  ];
  const drill = drillStateOf(runbook, dir);
  return [
    ...promqlProblems(text, records),
    ...runbook.blocks.filter(({ kind }) => kind === 'promql').flatMap((block) => labelProblems(block.text)),
    ...alertProblems(text),
    ...commands.flatMap((command) => [...commandProblems(command), ...wordProblems(command)]),
    ...settingProblems(text),
    ...(drill.state === 'broken' ? [`last_drilled: ${drill.why}`] : []),
  ];
}

const codeSpans = (text: string): string[] =>
  [...text.replaceAll(/```[\s\S]*?```/g, '').matchAll(/`([^`\n]+)`/g)].map(([, span]) => span ?? '');

/** Labels grouped or matched by must be labels of a metric in the same query. */
function labelProblems(query: string): string[] {
  const names = [...query.matchAll(/[a-z_:][a-z0-9_:]*/gi)].map(([name]) => name);
  const known = new Set([...ALWAYS, ...names.flatMap((name) => LABELS_OF.get(name) ?? [])]);
  return [...query.matchAll(/\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)/g)]
    .flatMap(([, list = '']) => list.split(',').map((label) => label.trim()))
    .filter((label) => label !== '' && !known.has(label))
    .map((label) => `no metric of "${query.slice(0, 60)}" has a label ${label}`);
}

const alertProblems = (text: string): string[] =>
  [...text.matchAll(/\bCooper[A-Z]\w+/g)]
    .filter(([name]) => !ALERT_NAMES.includes(name))
    .map(([name]) => `there is no alert ${name}`);

function commandProblems(command: string): string[] {
  const found = [...command.matchAll(/(?:^|[|;&]\s*)cooper ([^|;&]*)/g)];
  return found.flatMap(([, rest = '']) => {
    const words = rest.trim().split(/\s+/);
    const path =
      WITH_ACTS.includes(words[0] ?? '') && words[1] !== undefined && !words[1].startsWith('-')
        ? words.slice(0, 2)
        : words.slice(0, 1);
    const { ok, text } = helpOf(path);
    const [, act] = path;
    if (!ok || (act !== undefined && !new RegExp(`\\b${act}\\b`).test(helpOf(path.slice(0, 1)).text)))
      return [`cooper ${path.join(' ')} is no command`];
    const flags = words.slice(1).flatMap((word) => /^--?[a-z][a-z-]*/.exec(word) ?? []);
    return flags
      .filter((flag) => !text.match(new RegExp(`(^|\\s)${flag}(,|\\s)`, 'm')))
      .map((flag) => `cooper ${path.join(' ')} has no flag ${flag}`);
  });
}

const HELP = new Map<string, { readonly ok: boolean; readonly text: string }>();
/** What the command itself says of its flags. */
function helpOf(path: readonly string[]): { readonly ok: boolean; readonly text: string } {
  const key = path.join(' ');
  let help = HELP.get(key);
  if (help === undefined) {
    const { status, stdout, stderr } = spawnSync(process.execPath, ['src/cmd/main.ts', ...path, '--help'], { encoding: 'utf8' });
    // Without help of its own a command says its usage when it refuses.
    help = { ok: status === 0 || !/unknown command/.test(stderr), text: stdout + stderr };
    HELP.set(key, help);
  }
  return help;
}

const wordProblems = (command: string): string[] =>
  [...command.matchAll(/(?<![\w$"'./-])([A-Z][A-Z_]{2,})(?![\w=])/g)]
    .filter(([, word = '']) => !(word in PLACEHOLDERS) && !METHODS.includes(word))
    .map(([, word]) => `${word} in "${command.slice(0, 60)}" is no word that can be filled in`);

const settingProblems = (text: string): string[] =>
  codeSpans(text)
    .map((span) => span.split(' ')[0] ?? '')
    .filter((span) => SETTING_ROOTS.test(span) && !span.endsWith('.sqlite'))
    .filter(
      (key) =>
        !TELEMETRY.includes(`'${key}'`) && !SETTING_KEYS.some((setting) => setting === key || setting.startsWith(`${key}.`)),
    )
    .map((key) => `there is no setting ${key}`);
