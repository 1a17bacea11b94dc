/** Parts that several answers about a Dockerfile have in common. */
import type { SourceRange } from '../../../core/errors.ts';
import type { GoValue } from '../../registry/go-json.ts';

/** `{ranges: [{start: {line}, end: {line}}]}`; undefined when there is no place. */
export function locationJson(ranges: readonly SourceRange[]): GoValue | undefined {
  return ranges.length === 0 ? undefined : { ranges: ranges.map(rangeJson) };
}

export const rangeJson = ({ start, end }: SourceRange): GoValue => ({ start: positionJson(start), end: positionJson(end) });

const positionJson = ({ line, character }: SourceRange['start']): GoValue => ({
  line: line === 0 ? undefined : line,
  character: character === 0 ? undefined : character,
});
