/** Symbolic modes as chmod(1) knows them: `u+x,go=`, `a+rX`; also octal text. Applied with no umask. */
import { BuildError } from '../../core/errors.ts';

/** The new permission bits (at most 0o7777) of a file that has `mode`. */
export type ModeChange = (mode: number, isDirectory: boolean) => number;

const SHIFTS: Readonly<Record<string, number>> = { u: 6, g: 3, o: 0 };
const BITS: Readonly<Record<string, number>> = { r: 4, w: 2, x: 1 };
const STICKY = 0o1000;
const SETGID = 0o2000;
const SETUID = 0o4000;

/** @throws BuildError `invalid-input` for text that is no mode. */
export function parseMode(text: string): ModeChange {
  if (/^[0-7]{1,4}$/.test(text)) {
    const fixed = Number.parseInt(text, 8);
    return () => fixed;
  }
  const clauses = text.split(',').map((clause) => parseClause(clause, text));
  return (mode, isDirectory) => clauses.reduce((bits, apply) => apply(bits, mode, isDirectory), mode & 0o7777);
}

type Apply = (bits: number, original: number, isDirectory: boolean) => number;

/** `[ugoa]*([-+=][rwxXstugo]*)+` */
function parseClause(clause: string, text: string): Apply {
  const match = /^([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)$/.exec(clause);
  if (match === null) throw new BuildError('invalid-input', `invalid mode ${JSON.stringify(text)}`);
  const [, who = '', actions = ''] = match;
  const classes = who === '' || who.includes('a') ? ['u', 'g', 'o'] : [...new Set(who)];
  const steps = [...actions.matchAll(/([-+=])([rwxXstugo]*)/g)].map(([, operator = '', what = '']) => ({ operator, what }));
  return (bits, original, isDirectory) =>
    steps.reduce((mode, { operator, what }) => applyStep(mode, original, isDirectory, classes, operator, what), bits);
}

function applyStep(
  mode: number,
  original: number,
  isDirectory: boolean,
  classes: readonly string[],
  operator: string,
  what: string,
): number {
  const set = classes.reduce((bits, name) => bits | bitsFor(name, what, mode, original, isDirectory), stickyFor(classes, what));
  if (operator === '+') return mode | set;
  if (operator === '-') return mode & ~set;
  const cleared = classes.reduce((bits, name) => bits | (7 << (SHIFTS[name] ?? 0)) | specialOf(name), 0);
  return (mode & ~cleared) | set;
}

/** What one class (u, g or o) gets of `what`. */
function bitsFor(name: string, what: string, mode: number, original: number, isDirectory: boolean): number {
  const shift = SHIFTS[name] ?? 0;
  const source = SHIFTS[what];
  if (source !== undefined) return ((mode >> source) & 7) << shift; // `g=u`
  let bits = 0;
  for (const letter of what) {
    if (letter === 'X') bits |= isDirectory || (original & 0o111) !== 0 ? 1 << shift : 0;
    else if (letter === 's') bits |= specialOf(name);
    else bits |= (BITS[letter] ?? 0) << shift;
  }
  return bits;
}

const specialOf = (name: string): number => (name === 'u' ? SETUID : name === 'g' ? SETGID : 0);
const stickyFor = (classes: readonly string[], what: string): number =>
  what.includes('t') && classes.some((name) => name !== 'o') ? STICKY : 0;
