/** The lines of the user's file that an error is about, as BuildKit's clients print them. */
import type { ErrorSource } from '../../core/errors.ts';

const CONTEXT_LINES = 4;
const RULE = '--------------------';

/** Empty when the place is not in the file. */
export function formatExcerpt({ filename, data, ranges }: ErrorSource): string {
  const lines = new TextDecoder().decode(data).split('\n');
  const first = Math.min(...ranges.map((range) => range.start.line));
  const last = Math.max(...ranges.map((range) => range.end.line));
  if (!Number.isFinite(first) || first < 1 || first > lines.length) return '';
  const from = Math.max(1, first - CONTEXT_LINES);
  const to = Math.min(lines.at(-1) === '' ? lines.length - 1 : lines.length, last + CONTEXT_LINES);
  const marked = (line: number): boolean => ranges.some((range) => range.start.line <= line && line <= range.end.line);
  const excerpt = Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i).map((line) =>
    `${String(line).padStart(4)} | ${marked(line) ? '>>>' : '   '} ${lines[line - 1] ?? ''}`.trimEnd(),
  );
  return `${filename}:${first}\n${RULE}\n${excerpt.join('\n')}\n${RULE}`;
}
