/** Start-up: whatever an earlier run left half done is undone before anything else happens. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Sys } from '../worker/sys/ports.ts';

/** Unmounts everything below `dir`, the last mounted first. Returns how many. */
export function unmountBelow(dir: string, sys: Sys): number {
  const targets = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => unescaped(line.split(' ')[4] ?? ''))
    .filter((target) => target.startsWith(`${dir}/`));
  return targets.reverse().filter((target) => sys.unmount(target)).length;
}

/** mountinfo writes space, tab, newline and backslash as three octal digits. */
const unescaped = (path: string): string =>
  path.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));

/** Names in `dir` that are no snapshot any more, and everything already in the trash. */
export function leftovers(
  dir: string,
  trash: string,
  isKnown: (id: string) => boolean,
): { unknown: string[]; trashed: string[] } {
  return {
    unknown: readdirSync(dir).filter((name) => join(dir, name) !== trash && !isKnown(name)),
    trashed: readdirSync(trash).map((name) => join(trash, name)),
  };
}
