/**
 * Git URLs as build contexts and ADD sources: `https://host/x.git?ref=main#ref:subdir`, `git@host:path`, `ssh://`, `git://`
 * (https://docs.docker.com/build/concepts/context/#git-repositories).
 */
import { BuildError } from '../../../core/errors.ts';
import { invalid } from './errors.ts';
import { goQuote, parseBool } from './go-text.ts';
import { joinPath } from './paths.ts';

export interface GitRef {
  /** What git is given, without query and fragment. */
  readonly remote: string;
  /** Host and path, equal for all protocols. */
  readonly hostPath: string;
  readonly ssh: boolean;
  readonly ref: string;
  readonly subdir: string;
  readonly checksum: string;
  readonly keepGitDir: boolean | undefined;
  readonly submodules: boolean | undefined;
  readonly mtime: string;
  readonly fetchByCommit: boolean;
  /** `github.com/x/y`: could be a directory too, and counts as git only where a context is asked for. */
  readonly maybeLocal: boolean;
}

interface Remote {
  readonly remote: string;
  readonly host: string;
  readonly path: string;
  readonly scheme: string;
  readonly query: URLSearchParams;
  readonly fragment: string;
}

/** Undefined when `text` is no git URL. @throws BuildError `invalid-input` when it is one with a wrong query. */
export function parseGitRef(text: string): GitRef | undefined {
  if (text.startsWith('./') || text.startsWith('../')) return undefined;
  const maybeLocal = text.startsWith('github.com/');
  const remote = maybeLocal ? parseUrl(`https://${text}`) : (parseUrl(text) ?? parseScp(text));
  if (remote === undefined) return undefined;
  const isHttp = remote.scheme === 'http' || remote.scheme === 'https';
  if (isHttp && !maybeLocal && !remote.path.endsWith('.git')) return undefined;
  const colon = remote.fragment.indexOf(':');
  const ref = colon === -1 ? remote.fragment : remote.fragment.slice(0, colon);
  const subdir = colon === -1 ? '' : joinPath('/', remote.fragment.slice(colon + 1)).slice(1);
  return {
    remote: remote.remote,
    hostPath: remote.host + joinPath('/', remote.path),
    ssh: remote.scheme === 'ssh',
    maybeLocal,
    ...withQuery({ ref, subdir }, remote.query),
  };
}

/** As parseGitRef, with wrong queries taken as no git URL. */
export function findGitRef(text: string): GitRef | undefined {
  try {
    return parseGitRef(text);
  } catch {
    return undefined;
  }
}

const SCHEMES = new Set(['http', 'https', 'ssh', 'git']);

function parseUrl(text: string): Remote | undefined {
  const match = /^([a-zA-Z0-9]+):\/\/([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#(.*))?$/s.exec(text);
  const scheme = (match?.[1] ?? '').toLowerCase();
  if (match === null || !SCHEMES.has(scheme)) return undefined;
  const [, , authority = '', path = '', query = '', fragment = ''] = match;
  const host = authority.slice(authority.lastIndexOf('@') + 1);
  return {
    remote: `${scheme}://${authority}${path}`,
    host,
    path: decode(path),
    scheme,
    query: new URLSearchParams(query),
    fragment: decode(fragment),
  };
}

/** `user@host:path`. */
function parseScp(text: string): Remote | undefined {
  const match = /^([a-zA-Z0-9-_]+)@([a-zA-Z0-9-.]+):([^?#]*)(?:\?([^#]*))?(?:#(.*))?$/s.exec(text);
  if (match === null) return undefined;
  const [, user = '', host = '', path = '', query = '', fragment = ''] = match;
  return { remote: `${user}@${host}:${path}`, host, path, scheme: 'ssh', query: new URLSearchParams(query), fragment };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw new BuildError('invalid-input', `invalid URL escape in ${goQuote(text)}`, {}, { cause });
  }
}

function withQuery(base: { readonly ref: string; readonly subdir: string }, query: URLSearchParams) {
  const result = {
    ...base,
    checksum: '',
    keepGitDir: undefined as boolean | undefined,
    submodules: undefined as boolean | undefined,
    mtime: '',
    fetchByCommit: false,
  };
  let tag = '';
  let branch = '';
  for (const key of new Set(query.keys())) {
    const values = query.getAll(key);
    if (values.length > 1) throw invalid(`query ${goQuote(key)} has multiple values`);
    const value = values[0] ?? '';
    const isFlag = key === 'submodules' || key === 'keep-git-dir' || key === 'fetch-by-commit';
    if (value === '' && !isFlag) throw invalid(`query ${goQuote(key)} has no value`);
    switch (key) {
      case 'ref':
        result.ref = agree('ref', result.ref, value);
        break;
      case 'tag':
        tag = value;
        break;
      case 'branch':
        branch = value;
        break;
      case 'subdir':
        result.subdir = agree('subdir', result.subdir, value);
        break;
      case 'checksum':
      case 'commit':
        result.checksum = value;
        break;
      case 'keep-git-dir':
        result.keepGitDir = flagOf(key, value);
        break;
      case 'submodules':
        result.submodules = flagOf(key, value);
        break;
      case 'fetch-by-commit':
        result.fetchByCommit = flagOf(key, value);
        break;
      case 'mtime':
        if (value !== 'checkout' && value !== 'commit') {
          throw invalid(`invalid mtime value: ${goQuote(value)} (must be "checkout" or "commit")`);
        }
        result.mtime = value;
        break;
      default:
        throw invalid(`unexpected query ${goQuote(key)}`);
    }
  }
  if (tag !== '' && branch !== '') throw invalid('branch conflicts with tag');
  if (tag !== '') result.ref = agree('ref', result.ref, qualified('refs/tags/', tag));
  if (branch !== '') result.ref = agree('ref', result.ref, qualified('refs/heads/', branch));
  return result;
}

function agree(what: string, known: string, value: string): string {
  if (known !== '' && known !== value) throw invalid(`${what} conflicts: ${goQuote(known)} vs ${goQuote(value)}`);
  return value;
}

function flagOf(key: string, value: string): boolean {
  const parsed = value === '' ? true : parseBool(value);
  if (parsed === undefined) throw invalid(`invalid ${key} value: ${goQuote(value)}`);
  return parsed;
}

const qualified = (prefix: string, name: string): string => (name.startsWith(prefix) ? name : prefix + name);
