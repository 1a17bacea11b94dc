/**
 * Paths of a layer inside the directory it is unpacked to. Symlinks mean what they would mean to a process that has the directory as its
 * root, so nothing a layer says names a path outside it. Nobody else writes to the directory meanwhile, so what was checked stays true
 * until this layer itself replaces it.
 */
import { lstatSync, readlinkSync, type Stats } from 'node:fs';
import { BuildError } from '../../../core/errors.ts';
import { fsPath, textOf } from '../tree/names.ts';

const MAX_LINKS = 255;

/** Components of a name as an archive writes it. @throws BuildError `invalid-input` when it leaves the root lexically. */
export function componentsOf(name: string): string[] {
  const components: string[] = [];
  for (const part of name.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') components.push(part);
    else if (components.pop() === undefined)
      throw new BuildError('invalid-input', `layer entry ${JSON.stringify(textOf(name))} leads out of the root`);
  }
  return components;
}

export class Rooted {
  readonly #root: string;
  /** Real directories, relative, that were seen or made. */
  readonly #directories = new Map<string, { readonly setgid: boolean }>();

  /** `root` is a byte string. */
  constructor(root: string) {
    this.#root = root;
  }

  /** As Node's file calls want it. */
  host(relative: string): string | Buffer {
    return fsPath(relative === '' ? this.#root : `${this.#root}/${relative}`);
  }

  /** What is at a path whose parents are known to be real directories: one that `directory` returned, or a name in it. */
  stat(relative: string): Stats | undefined {
    try {
      return lstatSync(this.host(relative), { throwIfNoEntry: false });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return undefined;
      throw error;
    }
  }

  /** What is at a path that was real once: undefined when one of its parents is no directory (any more). Follows no symlink. */
  exact(relative: string): Stats | undefined {
    for (let slash = relative.indexOf('/'); slash !== -1; slash = relative.indexOf('/', slash + 1)) {
      if (this.stat(relative.slice(0, slash))?.isDirectory() !== true) return undefined;
    }
    return this.stat(relative);
  }

  /**
   * The real directory for `components`. Where a component is missing, `make` is called with its relative path and must create a
   * directory; without `make` the answer is undefined. @throws BuildError `invalid-input` when something else is in the way.
   */
  directory(components: readonly string[], make?: (relative: string) => void): string | undefined {
    const whole = components.join('/');
    if (whole === '' || this.#directories.has(whole)) return whole;
    const rest = [...components].reverse();
    const at: string[] = [];
    let links = 0;
    while (rest.length > 0) {
      const name = rest.pop() as string;
      if (name === '' || name === '.') continue;
      if (name === '..') {
        at.pop();
        continue;
      }
      at.push(name);
      const relative = at.join('/');
      if (this.#directories.has(relative)) continue;
      const stat = this.stat(relative);
      if (stat === undefined) {
        if (make === undefined) return undefined;
        make(relative);
      } else if (stat.isSymbolicLink()) {
        links += 1;
        if (links > MAX_LINKS)
          throw new BuildError('invalid-input', `too many links in layer path ${JSON.stringify(textOf(whole))}`);
        const target = readlinkSync(this.host(relative), { encoding: 'latin1' });
        if (target.startsWith('/')) at.length = 0;
        else at.pop();
        rest.push(...target.split('/').reverse());
      } else if (stat.isDirectory()) this.remember(relative, stat.mode);
      else if (make !== undefined)
        throw new BuildError('invalid-input', `layer entry ${JSON.stringify(textOf(whole))} lies below a file`);
      else return undefined;
    }
    return at.join('/');
  }

  remember(relative: string, mode: number): void {
    this.#directories.set(relative, { setgid: (mode & 0o2000) !== 0 });
  }

  /** New entries of such a directory get its group. */
  isSetgid(relative: string): boolean {
    return this.#directories.get(relative)?.setgid === true;
  }

  /** Something was removed or replaced: what was known may not hold any more. */
  forget(): void {
    this.#directories.clear();
  }
}
