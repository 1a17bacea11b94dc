/**
 * What a person or a script sees while a build runs: the modes of BuildKit's clients. `auto` is a live view on a terminal and plain
 * lines elsewhere; `rawjson` is one JSON object a line with the fields of BuildKit's SolveStatus.
 */
import { BuildError } from '../../core/errors.ts';
import type { Display, Output } from './display.ts';
import { PlainDisplay } from './plain.ts';
import { rawJson } from './rawjson.ts';
import { TtyDisplay } from './tty.ts';

export const PROGRESS_MODES = ['auto', 'plain', 'tty', 'rawjson', 'quiet'] as const;

/** @throws BuildError `invalid-input` for an unknown mode, or `tty` without a terminal. */
export function openDisplay(mode: string, output: Output): Display {
  switch (mode) {
    case 'auto':
      return output.isTTY === true ? new TtyDisplay(output) : new PlainDisplay(output);
    case 'plain':
      return new PlainDisplay(output);
    case 'tty':
      if (output.isTTY !== true)
        throw new BuildError('invalid-input', '--progress=tty needs a terminal; use plain or rawjson here');
      return new TtyDisplay(output);
    case 'rawjson':
      return { update: (status) => output.write(`${rawJson(status)}\n`), end: () => {} };
    case 'quiet':
      return { update: () => {}, end: () => {} };
    default:
      throw new BuildError('invalid-input', `unknown progress mode "${mode}"; one of ${PROGRESS_MODES.join(', ')}`);
  }
}
