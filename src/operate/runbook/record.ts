/** The record of a drill, and the stamp in a runbook's front matter that cites it: nobody writes `last_drilled` by hand. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { BuildError } from '../../core/errors.ts';
import { markdownOf } from './reports.ts';
import type { RunbookReport } from './run.ts';
import type { Runbook } from './runbook.ts';

/**
 * Writes `DIR/<day>-<name>.json` and `.md`, then stamps the page with the day and the record's path, relative to the folder of the page.
 * @throws BuildError `invalid-input`, writing nothing, for a run that was no drill: something did not pass, or queries were not asked.
 */
export function recordDrill(report: RunbookReport, runbook: Runbook, file: string, dir: string): string {
  if (!report.complete) {
    const why = report.passed ? 'its queries were not asked; give --prometheus' : 'not everything passed';
    throw new BuildError('invalid-input', `${runbook.name}: this run is not recorded as a drill: ${why}`);
  }
  const day = report.startedAt.slice(0, 10);
  mkdirSync(dir, { recursive: true });
  const path = join(dir, `${day}-${runbook.name}.json`);
  writeFileSync(path, `${JSON.stringify(report, null, 2)}\n`);
  writeFileSync(path.replace(/json$/, 'md'), markdownOf(report));
  const stamped = runbook.text.replace(/^last_drilled: .*$/m, () => `last_drilled: ${day} ${relative(join(file, '..'), path)}`);
  writeFileSync(`${file}.new`, stamped);
  renameSync(`${file}.new`, file);
  return path;
}

export type DrillState =
  | { readonly state: 'never' }
  | { readonly state: 'drilled' | 'changed since'; readonly day: string; readonly record: string }
  | { readonly state: 'broken'; readonly why: string };

/** What the stamp of a page is worth: the record it cites must be there, be of this page, and have passed. `dir`: the page's folder. */
export function drillStateOf(runbook: Runbook, dir: string): DrillState {
  const stamp = runbook.facts.last_drilled ?? '';
  if (stamp === 'never') return { state: 'never' };
  const [, day = '', path = ''] = /^(\d{4}-\d\d-\d\d) (\S+)$/.exec(stamp) ?? [];
  if (path === '') return { state: 'broken', why: `"${stamp}" is neither never nor a day and a record` };
  let record: Partial<RunbookReport>;
  try {
    record = JSON.parse(readFileSync(join(dir, path), 'utf8'));
  } catch {
    return { state: 'broken', why: `the record ${path} cannot be read` };
  }
  if (record.name !== runbook.name || record.complete !== true || record.startedAt?.slice(0, 10) !== day)
    return { state: 'broken', why: `${path} is no record of a drill of this page on that day` };
  return { state: record.bodySha256 === runbook.bodySha256 ? 'drilled' : 'changed since', day, record: path };
}
