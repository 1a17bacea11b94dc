/** The answer to `docker build --check`: warnings with their places, and the error that would stop the build. */
import type { BuildError, SourceRange } from '../../../core/errors.ts';
import type { SourceMap } from '../../llb/state.ts';
import type { Definition } from '../../proto/gen/pb/ops_pb.ts';
import { type GoValue, goJson } from '../../registry/go-json.ts';
import type { LintWarning } from './lint.ts';
import { rangeJson } from './result-json.ts';

export function lintResult(
  file: SourceMap,
  warnings: readonly LintWarning[],
  failure: BuildError | undefined,
): Map<string, string> {
  const json = {
    warnings: warnings.length === 0 ? null : warnings.map(warningJson),
    sources: [sourceJson(file)],
    buildError: failure === undefined ? undefined : { message: failure.message, location: failureLocation(failure) },
  };
  return new Map([
    ['result.json', goJson(json, '  ')],
    ['result.txt', lintText(file, warnings)],
    ['result.statuscode', warnings.length > 0 || failure !== undefined ? '1' : '0'],
    ['version', '1.0.0'],
  ]);
}

function warningJson({ rule, description, url, message, ranges }: LintWarning): GoValue {
  return {
    ruleName: rule,
    description: description || undefined,
    url: url || undefined,
    detail: message || undefined,
    location: { ranges: ranges.length === 0 ? undefined : ranges.map(rangeJson) },
  };
}

function failureLocation({ detail }: BuildError): GoValue {
  const ranges = mergeRanges(detail.source?.ranges ?? []);
  return { ranges: ranges.length === 0 ? undefined : ranges.map(rangeJson) };
}

/** Ranges that touch the same lines become one. */
function mergeRanges(ranges: readonly SourceRange[]): SourceRange[] {
  const merged: SourceRange[] = [];
  for (const range of ranges.toSorted((a, b) => a.start.line - b.start.line)) {
    const last = merged.at(-1);
    if (last === undefined || range.start.line > last.end.line) merged.push(range);
    else if (range.end.line > last.end.line) merged.splice(-1, 1, { ...last, end: { ...last.end, line: range.end.line } });
  }
  return merged;
}

function sourceJson({ filename, data, definition, language }: SourceMap): GoValue {
  return {
    filename: filename || undefined,
    data: data.byteLength === 0 ? undefined : base64(data),
    definition: definition === undefined ? undefined : definitionJson(definition),
    language: language || undefined,
  };
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

/** A definition in the JSON of Go's structs, which is not proto JSON. Only what the load of one file needs. */
function definitionJson({ def, metadata, Source }: Definition): GoValue {
  const described = Object.entries(metadata).map(([digest, { description, caps }]): [string, GoValue] => [
    digest,
    { description: recordOrNothing(description), caps: recordOrNothing(caps) },
  ]);
  const locations = Object.keys(Source?.locations ?? {}).map((digest): [string, GoValue] => [digest, {}]);
  return {
    def: def.map(base64),
    metadata: new Map(described),
    Source: Source === undefined ? undefined : { locations: new Map(locations) },
  };
}

function recordOrNothing(record: Readonly<Record<string, string | boolean>>): ReadonlyMap<string, GoValue> | undefined {
  const entries = Object.entries(record);
  return entries.length === 0 ? undefined : new Map(entries);
}

const lineOf = ({ ranges }: LintWarning): number => ranges[0]?.start.line ?? 0;

function lintText(file: SourceMap, warnings: readonly LintWarning[]): string {
  return warnings
    .toSorted((a, b) => lineOf(a) - lineOf(b) || (lineOf(a) === 0 ? (a.rule < b.rule ? -1 : 1) : 0))
    .map((warning) => {
      const url = warning.url === '' ? '' : ` - ${warning.url}`;
      return `\nWARNING: ${warning.rule}${url}\n${warning.message}\n${excerpt(file, warning.ranges)}`;
    })
    .join('');
}

/** The lines of a place with a few around them, in the form clients print under errors. */
function excerpt({ filename, data }: SourceMap, ranges: readonly SourceRange[]): string {
  const lines = new TextDecoder().decode(data).split('\n');
  const firsts = ranges.map(({ start }) => start.line);
  const lasts = ranges.map(({ start, end }) => Math.max(start.line, end.line));
  const first = Math.min(...firsts);
  if (ranges.length === 0 || first < 1 || first > lines.length) return '';
  let from = first;
  let to = Math.min(Math.max(...lasts), lines.length);
  const around = from === to ? 4 : 2;
  for (let added = 0; added < around; added++) {
    if (from > 1) {
      from -= 1;
      added += 1;
    }
    if (to !== lines.length) {
      to += 1;
      added += 1;
    }
  }
  const marked = (line: number): boolean => ranges.some((_, i) => (firsts[i] ?? 0) <= line && line <= (lasts[i] ?? 0));
  const shown = lines.slice(from - 1, to).map((text, i) => {
    const line = from + i;
    return ` ${`${line}`.padStart(3)} | ${marked(line) ? '>>>' : '   '} ${text}\n`;
  });
  return `${filename}:${first}\n--------------------\n${shown.join('')}--------------------\n`;
}
