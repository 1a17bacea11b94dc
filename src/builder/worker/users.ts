/** Users and groups as the files of a root file system name them; the rules of `USER` and `--chown`. */
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { BuildError } from '../../core/errors.ts';
import { resolveInRoot } from './root-path.ts';

export interface ProcessUser {
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids: readonly number[];
}

const MAX_FILE_BYTES = 10 * 1024 * 1024; // a hostile image must not make the daemon read without end
const MAX_ID = 2 ** 31 - 1;

/**
 * Resolves `user[:group]`; empty is root. A number needs no entry, but takes its group and supplementary groups from one when there is.
 * Two numbers are taken as they are, without looking at the files.
 * @throws BuildError `invalid-input` for a name without an entry or a number out of range.
 */
export function findProcessUser(root: string, text: string): ProcessUser {
  const spec = text === '' ? '0' : text;
  const [userPart = '', groupPart = ''] = spec.split(':', 2);
  const both = [userPart, groupPart].map((part) => (part === 'root' ? 0 : parseId(part)));
  if (both[0] !== undefined && both[1] !== undefined) return { uid: both[0], gid: both[1], additionalGids: [both[1]] };
  const uid = parseId(userPart);
  const entry = readEntries(root, '/etc/passwd').find(([name, , id]) =>
    userPart === '' ? id === '0' : uid === undefined ? name === userPart : Number(id) === uid,
  );
  if (entry === undefined && uid === undefined && userPart !== '') throw noEntry('user', userPart, 'passwd');
  const user = { uid: entry === undefined ? (uid ?? 0) : idOf(entry[2]), gid: entry === undefined ? 0 : idOf(entry[3]) };
  if (groupPart !== '') return withGroups({ ...user, gid: findGroup(root, groupPart) }, []);
  const name = entry?.[0];
  const groups =
    name === undefined ? [] : readEntries(root, '/etc/group').filter((group) => (group[3] ?? '').split(',').includes(name));
  return withGroups(
    user,
    groups.map((group) => idOf(group[2])),
  );
}

/** The user `--chown` names, with its group; undefined when the file does not exist or has no such entry. */
export function findUserEntry(root: string, name: string): { readonly uid: number; readonly gid: number } | undefined {
  const entry = readEntries(root, '/etc/passwd').find(([other]) => other === name);
  return entry === undefined ? undefined : { uid: idOf(entry[2]), gid: idOf(entry[3]) };
}

/** As findUserEntry, for the group part. */
export function findGroupEntry(root: string, name: string): number | undefined {
  const entry = readEntries(root, '/etc/group').find(([other]) => other === name);
  return entry === undefined ? undefined : idOf(entry[2]);
}

function findGroup(root: string, part: string): number {
  const gid = parseId(part);
  const entry = readEntries(root, '/etc/group').find(([name, , id]) => (gid === undefined ? name === part : Number(id) === gid));
  if (entry !== undefined) return idOf(entry[2]);
  if (gid === undefined) throw noEntry('group', part, 'group');
  return gid;
}

/** The process's own group counts among the supplementary ones too, as container runtimes set it. */
function withGroups({ uid, gid }: { uid: number; gid: number }, groups: readonly number[]): ProcessUser {
  return { uid, gid, additionalGids: groups.includes(gid) ? groups : [gid, ...groups] };
}

function noEntry(what: string, name: string, file: string): BuildError {
  return new BuildError('invalid-input', `unable to find ${what} ${name}: no matching entries in ${file} file`);
}

/** Undefined when the text is no number. */
function parseId(text: string): number | undefined {
  if (!/^[+-]?\d+$/.test(text)) return undefined;
  const id = Number(text);
  if (id < 0 || id > MAX_ID) throw new BuildError('invalid-input', `uids and gids must be in range 0-${MAX_ID}`);
  return id;
}

/** A malformed number in the file counts as 0, as C libraries read it. */
const idOf = (text: string | undefined): number => (/^\d+$/.test(text ?? '') ? Math.min(Number(text), MAX_ID) : 0);

/** Fields of each line of a colon-separated file of the root; none when it is missing or no regular file. */
function readEntries(root: string, path: string): string[][] {
  const text = readUserFile(root, path);
  const lines = text.split('\n').map((line) => line.trim());
  return lines.filter((line) => line !== '' && !line.startsWith('#')).map((line) => line.split(':'));
}

function readUserFile(root: string, path: string): string {
  let fd: number;
  try {
    // Not blocking: a FIFO in the place of the file must not hold the daemon.
    fd = openSync(resolveInRoot(root, path), constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ENXIO' || code === 'ELOOP') return '';
    throw error;
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) return '';
    if (stat.size > MAX_FILE_BYTES) throw new BuildError('invalid-input', `"${path}" exceeds ${MAX_FILE_BYTES} bytes`);
    return readFileSync(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
}
