/**
 * Paths inside a root file system, whose symlinks mean what they would mean to a process that lives in it: an absolute target begins at
 * the root, `..` at the root stays there. What comes out names no path outside the root, however hostile the tree. The tree must not
 * change while a path is in use; the builder resolves only in trees no process is running in.
 */
import { lstatSync, readlinkSync } from 'node:fs';
import { BuildError } from '../../core/errors.ts';

const MAX_LINKS = 255;

/**
 * The host path of `path` seen from inside `root`. Components that do not exist are taken as they are, so the result can be created.
 * With `followLast: false` the last component is not followed when it is a symlink.
 * @throws BuildError `invalid-input` for a loop of symlinks.
 */
export function resolveInRoot(root: string, path: string, options: { readonly followLast?: boolean } = {}): string {
  const inner = resolveLinks(path, (inside) => linkTarget(`${root}/${inside}`), options);
  return inner === '' ? root : `${root}/${inner}`;
}

/**
 * The rule itself, for any tree: `targetOf` tells where a symlink points, or undefined for anything else. Paths it is asked for, and the
 * result, are relative to the root without a leading slash; the root is empty.
 */
export function resolveLinks(
  path: string,
  targetOf: (inside: string) => string | undefined,
  options: { readonly followLast?: boolean } = {},
): string {
  const rest = path.split('/').reverse();
  while (rest.length > 0 && rest[0] === '') rest.shift(); // trailing slashes
  const at: string[] = [];
  let links = 0;
  while (rest.length > 0) {
    const name = rest.pop();
    if (name === undefined || name === '' || name === '.') continue;
    if (name === '..') {
      at.pop();
      continue;
    }
    const target = rest.length === 0 && options.followLast === false ? undefined : targetOf([...at, name].join('/'));
    if (target === undefined) {
      at.push(name);
      continue;
    }
    links += 1;
    if (links > MAX_LINKS) throw new BuildError('invalid-input', `too many links in ${JSON.stringify(path)}`);
    if (target.startsWith('/')) at.length = 0;
    rest.push(...target.split('/').reverse());
  }
  return at.join('/');
}

/** Undefined when `path` is no symlink or does not exist. */
function linkTarget(path: string): string | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ? readlinkSync(path) : undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return undefined; // below a file: does not exist either
    throw error;
  }
}
