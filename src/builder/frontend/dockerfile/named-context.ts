/**
 * Named contexts: options `context:<name>` that take the place of a stage or an image reference, as
 * `docker-image://`, `oci-layout://`, `local:`, `input:`, git or http (buildkit-wire.md section 5.2).
 */

import { parseDigest } from '../../../core/digest.ts';
import { BuildError } from '../../../core/errors.ts';
import { parseIgnoreFile } from '../../../core/patterns.ts';
import { Env } from '../../llb/env.ts';
import { importedState } from '../../llb/merge.ts';
import { normalizePlatform, type Platform, platformId, platformToPb } from '../../llb/platform.ts';
import { gitSource, httpSource, imageSource, localSource, ociLayoutSource } from '../../llb/source.ts';
import { marshal, type Output, type State, scratch, stateOf } from '../../llb/state.ts';
import { familiarNameOf, parseReference, withDefaultTag, withDigest } from '../../registry/reference.ts';
import type { Bridge, FrontendRequest } from '../ports.ts';
import { invalid } from './errors.ts';
import { type GitRef, parseGitRef } from './git-ref.ts';
import { goQuote } from './go-text.ts';
import { ImageConfig } from './image-config.ts';
import type { ImageResolver } from './image-resolver.ts';
import type { DockerfileOptions } from './options.ts';
import { isAbsolute } from './paths.ts';

export interface LoadedContext {
  readonly state: State;
  readonly image: ImageConfig | undefined;
}
export interface NamedContext {
  load(): Promise<LoadedContext>;
}
export interface NamedContextRequest {
  readonly platform: Platform;
  /** Paths that are used, asked for when the graph is marshalled. */
  readonly usedPaths: () => ReadonlySet<string>;
}

export interface ContextEnvironment {
  readonly bridge: Bridge;
  readonly request: FrontendRequest;
  readonly options: DockerfileOptions;
  readonly images: ImageResolver;
  readonly worker: Platform;
}

/** The context that stands for `name`, or undefined. One for the platform wins over one for all. */
export function findNamedContext(env: ContextEnvironment, name: string, request: NamedContextRequest): NamedContext | undefined {
  const folded = name.toLowerCase();
  if (folded === 'scratch' || folded === 'context') return undefined;
  const reference = parseReference(name);
  const familiar = familiarNameOf(reference).replace(/:latest$/, '');
  for (const key of [`${familiar}::${platformId(normalizePlatform(request.platform))}`, familiar]) {
    const value = env.request.options.get(`context:${key}`);
    if (value !== undefined) return { load: () => load(env, familiar, key, value, request) };
  }
  return undefined;
}

/** Paths as a local source is asked for them; undefined when all of it is used. */
export function followPathsOf(paths: ReadonlySet<string>): string[] | undefined {
  if (paths.size === 0 || paths.has('/')) return undefined;
  return Array.from(paths, (path) => path.replace(/^\//, '')).sort();
}

function load(
  env: ContextEnvironment,
  name: string,
  key: string,
  value: string,
  request: NamedContextRequest,
): Promise<LoadedContext> {
  const colon = value.indexOf(':');
  if (colon === -1) throw invalid(`invalid context specifier ${value} for ${key}`);
  const scheme = value.slice(0, colon);
  const rest = value.slice(colon + 1);
  switch (scheme.startsWith('git@') ? 'git' : scheme) {
    case 'docker-image':
      return loadImage(env, key, rest.replace(/^\/\//, ''), request);
    case 'oci-layout':
      return loadLayout(env, name, key, rest.replace(/^\/\//, ''), request);
    case 'local':
      return loadLocal(env, key, rest, request);
    case 'input':
      return loadInput(env, key, rest);
    case 'git':
    case 'http':
    case 'https':
      return Promise.resolve({ state: loadRemote(key, value), image: undefined });
    default:
      throw invalid(`unsupported context source ${scheme} for ${key}`);
  }
}

async function loadImage(
  env: ContextEnvironment,
  key: string,
  ref: string,
  { platform }: NamedContextRequest,
): Promise<LoadedContext> {
  if (ref === 'scratch') return { state: scratch(), image: undefined };
  const resolved = await env.images.resolve({
    ref: withDefaultTag(parseReference(ref)).text,
    platform: platformToPb(platform),
    resolveMode: env.options.resolveMode,
    logName: `[context ${key}] load metadata for ${ref}`,
  });
  const image = ImageConfig.parse(resolved.config);
  const state = imageSource(withDefaultTag(parseReference(resolved.ref)).text, { platform, name: `[context ${key}] ${ref}` });
  return { state: withImageConfig(state, image), image };
}

async function loadLayout(
  env: ContextEnvironment,
  name: string,
  key: string,
  spec: string,
  { platform }: NamedContextRequest,
): Promise<LoadedContext> {
  const at = spec.indexOf('@');
  if (at === -1) throw invalid(`oci-layout reference ${goQuote(spec)} has no digest`);
  const storeId = spec.slice(0, at).replace(/:[^/:]*$/, '');
  // The store keeps no names; the context's own stands in for logs and keys.
  const ref = withDigest(parseReference(name), parseDigest(spec.slice(at + 1))).text;
  const { sessionId } = env.bridge;
  const resolved = await env.images.resolve({
    ref,
    platform: platformToPb(platform),
    resolveMode: env.options.resolveMode,
    logName: `[context ${key}] load metadata for ${ref}`,
    resolver: { kind: 'oci-layout', sessionId, storeId },
  });
  const image = ImageConfig.parse(resolved.config);
  const state = ociLayoutSource(ref, { platform, sessionId, storeId, name: `[context ${key}] OCI load from client` });
  return { state: withImageConfig(state, image), image };
}

async function loadLocal(
  env: ContextEnvironment,
  key: string,
  local: string,
  request: NamedContextRequest,
): Promise<LoadedContext> {
  const sessionId = env.options.localSessions.get(local) ?? env.bridge.sessionId;
  const ignoreSource = localSource(local, {
    sessionId,
    followPaths: ['.dockerignore'],
    sharedKeyHint: `context:${key}-.dockerignore`,
    differ: 'none',
    name: `[context ${key}] load .dockerignore`,
  });
  const ref = await env.bridge.solve(marshal(ignoreSource, { platform: env.worker }), { evaluate: true });
  const excludePatterns = parseIgnoreFile(await readOr(env.bridge, ref, '.dockerignore', ''));
  const sharedKey = env.request.options.get(`sharedkey:localdir:${key}`) ?? '';
  // Made when the graph is marshalled: by then every path that is used is known.
  let made: Output | undefined;
  const make = (): Output | undefined => {
    const followPaths = followPathsOf(request.usedPaths());
    return localSource(local, {
      sessionId,
      sharedKeyHint: `context:${key}-${sharedKey}`,
      excludePatterns,
      ...(followPaths === undefined ? {} : { followPaths }),
      name: `[context ${key}] load from client`,
    }).output;
  };
  const output: Output = {
    index: 0,
    vertex: () => {
      made ??= make();
      if (made === undefined) throw new BuildError('internal', 'a local source has no output');
      return made.vertex();
    },
  };
  return { state: stateOf(output), image: undefined };
}

async function readOr(bridge: Bridge, ref: Parameters<Bridge['readFile']>[0], path: string, missing: string): Promise<string> {
  try {
    return new TextDecoder().decode(await bridge.readFile(ref, path));
  } catch (thrown) {
    if (BuildError.from(thrown).kind === 'not-found') return missing;
    throw thrown;
  }
}

async function loadInput(env: ContextEnvironment, key: string, input: string): Promise<LoadedContext> {
  const definition = env.request.inputs.get(input);
  if (definition === undefined) throw invalid(`invalid input ${input} for ${key}`);
  const state = importedState(definition);
  const metadata = env.request.options.get(`input-metadata:${input}`);
  const config = metadata === undefined ? undefined : configIn(metadata, key);
  if (config === undefined) return { state, image: undefined };
  const image = ImageConfig.parse(config);
  return { state: withImageConfig(state, image), image };
}

/** Metadata keys to base64 values, as JSON. */
function configIn(metadata: string, key: string): Uint8Array | undefined {
  try {
    const value = (JSON.parse(metadata) as Record<string, unknown>)['containerimage.config'];
    return typeof value === 'string' ? Buffer.from(value, 'base64') : undefined;
  } catch (cause) {
    throw new BuildError('invalid-input', `failed to parse input metadata for ${key}`, invalid('').detail, { cause });
  }
}

function loadRemote(key: string, url: string): State {
  const git = parseGitRef(url);
  if (git !== undefined) return gitContext(url, git, {});
  if (!/^https?:\/\//.test(url)) throw invalid(`invalid git context ${url}`);
  return httpSource(url, { filename: 'context', name: `[context ${key}] ${url}` });
}

/** A git URL as a context. */
export function gitContext(url: string, git: GitRef, { keepGitDir = false, mtime = '' }): State {
  return gitSource({
    ...git,
    name: `[internal] load git source ${url}`,
    keepGitDir: git.keepGitDir === true || keepGitDir,
    skipSubmodules: git.submodules === false,
    mtime: git.mtime || mtime,
  });
}

/** Environment, directory and platform as the image sets them. */
function withImageConfig(state: State, image: ImageConfig): State {
  const { platform } = image;
  const entries = image.env.filter((entry) => !entry.startsWith('='));
  const dir = isAbsolute(image.workingDir) ? image.workingDir : `/${image.workingDir}`;
  const known = platform.os !== '' && platform.architecture !== '';
  return { ...state, env: Env.of(entries), dir, platform: known ? platform : state.platform };
}
