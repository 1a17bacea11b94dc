/** Times as image configs hold them: RFC 3339, printed as Go's time.Time prints itself. */
import { BuildError } from '../../core/errors.ts';

const TIME = /^(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:[.,](\d+))?([Zz]|[+-]\d\d:\d\d)$/;

/** @throws BuildError `invalid-input`. */
export function parseGoTime(text: string): { readonly text: string; readonly ns: bigint } {
  const match = TIME.exec(text);
  const [, date = '', clock = '', fractionText = '', zoneText = ''] = match ?? [];
  const zone = zoneText.toUpperCase() === 'Z' || zoneText === '+00:00' ? 'Z' : zoneText;
  const wholeMs = Date.parse(`${date}T${clock}${zone}`);
  if (match === null || Number.isNaN(wholeMs)) throw new BuildError('invalid-input', `"${text}" is not an RFC 3339 time`);
  const nanos = fractionText.slice(0, 9).padEnd(9, '0');
  const fraction = nanos.replace(/0+$/, '');
  return {
    text: `${date}T${clock}${fraction === '' ? '' : `.${fraction}`}${zone}`,
    ns: BigInt(wholeMs) * 1_000_000n + BigInt(nanos),
  };
}
