/** States that come from outside: images, client directories, git, http. Identifiers and attributes: buildkit-wire.md section 2.5. */
import type { Platform } from './platform.ts';
import { type MarshalDefaults, platformOr, type State, type StepOptions, stateOf, type VertexBuilder } from './state.ts';

type Attrs = Readonly<Record<string, string>>;

export interface SourceOptions extends StepOptions {
  readonly platform?: Platform | undefined;
}

export interface LocalOptions extends SourceOptions {
  readonly sessionId?: string;
  readonly includePatterns?: readonly string[];
  readonly excludePatterns?: readonly string[];
  readonly followPaths?: readonly string[];
  readonly sharedKeyHint?: string;
  readonly differ?: 'none' | 'metadata';
  /** Told from other sources of the same definition when no session is named. */
  readonly uniqueId?: string;
}

/** `ref` is normalised already. `resolveMode` `default` is not written. */
export function imageSource(ref: string, options: SourceOptions & { readonly resolveMode?: string } = {}): State {
  const { resolveMode = 'default' } = options;
  const caps = ['source.image', ...(resolveMode === 'pull' ? ['source.image.resolvemode'] : [])];
  const attrs: Attrs = resolveMode === 'default' ? {} : { 'image.resolvemode': resolveMode };
  return source(`docker-image://${ref}`, attrs, caps, options);
}

export function ociLayoutSource(
  ref: string,
  options: SourceOptions & { readonly sessionId: string; readonly storeId: string },
): State {
  const attrs = { ...text('oci.session', options.sessionId), ...text('oci.store', options.storeId) };
  return source(`oci-layout://${ref}`, attrs, ['source.ocilayout'], options);
}

/** A directory of the client, by the name the session offers it under. */
export function localSource(name: string, options: LocalOptions = {}): State {
  const { sessionId = '', sharedKeyHint = '' } = options;
  const attrs = {
    ...text('local.session', sessionId),
    ...list('local.includepattern', options.includePatterns),
    ...list('local.followpaths', options.followPaths),
    ...list('local.excludepatterns', options.excludePatterns),
    ...text('local.sharedkeyhint', sharedKeyHint),
    ...text('local.differ', options.differ ?? ''),
    ...(sessionId === '' ? text('local.unique', options.uniqueId ?? '') : {}),
  };
  const caps = Object.keys(attrs)
    .map((attr) => LOCAL_CAPS[attr])
    .filter((cap) => cap !== undefined);
  return source(`local://${name}`, attrs, [...caps, 'source.local'], options);
}

const LOCAL_CAPS: Readonly<Record<string, string>> = {
  'local.session': 'source.local.sessionid',
  'local.includepattern': 'source.local.includepatterns',
  'local.followpaths': 'source.local.followpaths',
  'local.excludepatterns': 'source.local.excludepatterns',
  'local.sharedkeyhint': 'source.local.sharedkeyhint',
  'local.unique': 'source.local.unique',
};

export function httpSource(
  url: string,
  options: SourceOptions & { readonly filename?: string; readonly checksum?: string } = {},
): State {
  const { filename = '', checksum = '' } = options;
  const caps = ['source.http', ...(checksum === '' ? [] : ['source.http.checksum'])];
  return source(url, { ...text('http.checksum', checksum), ...text('http.filename', filename) }, caps, options);
}

export interface GitOptions extends SourceOptions {
  /** The URL git is given, without reference and sub-directory. */
  readonly remote: string;
  /** Host and path of the remote: equal for https and ssh, so that both give one vertex. */
  readonly hostPath: string;
  readonly ssh: boolean;
  readonly ref?: string;
  readonly subdir?: string;
  readonly keepGitDir?: boolean;
  readonly checksum?: string;
  readonly skipSubmodules?: boolean;
  readonly mtime?: string;
  readonly fetchByCommit?: boolean;
}

export function gitSource(options: GitOptions): State {
  const { ref = '', subdir = '' } = options;
  const fragment = ref === '' && subdir === '' ? '' : `#${ref}${subdir === '' ? '' : `:${subdir}`}`;
  const attrs = {
    ...flag('git.keepgitdir', options.keepGitDir),
    ...text('git.fullurl', options.remote),
    'git.authtokensecret': 'GIT_AUTH_TOKEN',
    'git.authheadersecret': 'GIT_AUTH_HEADER',
    ...(options.ssh ? { 'git.mountsshsock': 'default' } : {}),
    ...text('git.checksum', options.checksum ?? ''),
    ...flag('git.skipsubmodules', options.skipSubmodules),
    ...text('git.mtime', options.mtime ?? ''),
    ...flag('git.fetchbycommit', options.fetchByCommit),
  };
  const optional = Object.keys(attrs).filter((attr) => attr !== 'git.authtokensecret' && attr !== 'git.authheadersecret');
  const caps = [...optional.map((attr) => `source.${attr}`), ...(options.ssh ? ['source.git.knownsshhosts'] : []), 'source.git'];
  return source(`git://${options.hostPath}${fragment}`, attrs, caps, options);
}

function source(identifier: string, attrs: Attrs, caps: readonly string[], options: SourceOptions): State {
  const perPlatform = identifier.startsWith('docker-image://') || identifier.startsWith('oci-layout://');
  // Map entries are written in key order, as deterministic Go marshalling does.
  const sorted = Object.fromEntries(Object.entries(attrs).sort(([a], [b]) => (a < b ? -1 : 1)));
  const builder: VertexBuilder = {
    inputs: [],
    options,
    caps,
    encode: (_inputOf, defaults: MarshalDefaults) => ({
      op: { case: 'source', value: { identifier, attrs: sorted } },
      ...(perPlatform ? { platform: platformOr(options.platform, defaults) } : {}),
    }),
  };
  return stateOf({ vertex: () => builder, index: 0, ...(options.platform === undefined ? {} : { platform: options.platform }) });
}

const text = (key: string, value: string): Attrs => (value === '' ? {} : { [key]: value });
const flag = (key: string, value: boolean | undefined): Attrs => (value === true ? { [key]: 'true' } : {});
const list = (key: string, values: readonly string[] | undefined): Attrs =>
  values === undefined || values.length === 0 ? {} : { [key]: goJsonList(values) };

/** Go's encoder writes these three characters and two line separators as escapes; the text is part of the digest. */
function goJsonList(values: readonly string[]): string {
  return JSON.stringify(values).replace(/[<>&\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
