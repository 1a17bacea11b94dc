/** Where the Dockerfile, the ignore file and the build context of a request come from (buildkit-wire.md section 5.2). */
import { posix } from 'node:path';
import { BuildError } from '../../../core/errors.ts';
import { MAX_DOCKERFILE_BYTES } from '../../../core/limits.ts';
import { parseIgnoreFile } from '../../../core/patterns.ts';
import { file as fileStep } from '../../llb/file.ts';
import { importedState } from '../../llb/merge.ts';
import type { Platform } from '../../llb/platform.ts';
import { httpSource, localSource } from '../../llb/source.ts';
import { headOf, marshal, type SourceMap, type State, scratch } from '../../llb/state.ts';
import type { Bridge, FrontendRef, FrontendRequest } from '../ports.ts';
import { invalid } from './errors.ts';
import { parseGitRef } from './git-ref.ts';
import { parseBool } from './go-text.ts';
import { gitContext } from './named-context.ts';
import type { DockerfileOptions } from './options.ts';
import { joinPath } from './paths.ts';

export interface LoadedDockerfile {
  readonly sourceMap: SourceMap;
  /** Vertex that loaded it: warnings are shown under it. */
  readonly vertex: string;
}

const DEFAULT_FILENAME = 'Dockerfile';

/** The main context of one request. Each file is loaded once, when it is first asked for. */
export class BuildContext {
  readonly #bridge: Bridge;
  readonly #options: DockerfileOptions;
  readonly #worker: Platform;
  readonly #contextName: string;
  readonly #dockerfileName: string;
  /** Given when the context is not a directory of the client. */
  readonly #remote: State | undefined;
  readonly #remoteDockerfile: State | undefined;
  readonly #filename: string;
  #ignoreFile: { readonly name: string; readonly text: string } | undefined;
  #ignorePatterns: Promise<readonly string[]> | undefined;

  private constructor(environment: BuildContextEnvironment, found: RemoteContext) {
    const { bridge, request, options, worker } = environment;
    const get = (key: string): string | undefined => request.options.get(key);
    this.#bridge = bridge;
    this.#options = options;
    this.#worker = worker;
    this.#contextName = 'context';
    this.#dockerfileName = get('dockerfilekey') ?? 'dockerfile';
    const subdir = get('contextsubdir');
    this.#remote = found.context !== undefined && subdir !== undefined ? scoped(found.context, subdir) : found.context;
    this.#remoteDockerfile = found.dockerfile;
    this.#filename = found.filename ?? get('filename') ?? DEFAULT_FILENAME;
  }

  /** Looks at the request and, for an http context, at the first bytes of what is there. */
  static async open(environment: BuildContextEnvironment): Promise<BuildContext> {
    return new BuildContext(environment, await findRemote(environment));
  }

  /** @throws BuildError when the file is not there or too large. */
  async loadDockerfile(): Promise<LoadedDockerfile> {
    const state = this.#remoteDockerfile ?? this.#dockerfileSource();
    const definition = marshal(state, { platform: this.#worker });
    const ref = await within('failed to resolve dockerfile', this.#bridge.solve(definition));
    const data = await within('failed to read dockerfile', this.#readDockerfile(ref));
    const ignore = await readIfThere(this.#bridge, ref, `${this.#filename}.dockerignore`);
    if (ignore !== undefined) this.#ignoreFile = { name: `${this.#filename}.dockerignore`, text: ignore };
    const sourceMap: SourceMap = { filename: this.#filename, language: 'Dockerfile', data, definition };
    return { sourceMap, vertex: headOf(definition) ?? '' };
  }

  #dockerfileSource(): State {
    const filename = this.#filename;
    const names = [filename, `${filename}.dockerignore`, ...this.#fallbackName()];
    return localSource(this.#dockerfileName, {
      sessionId: this.#sessionOf(this.#dockerfileName),
      followPaths: names,
      sharedKeyHint: this.#dockerfileName,
      differ: 'none',
      name: `[internal] load build definition from ${filename}`,
    });
  }

  /** `dockerfile` in lower case, where the usual name is asked for. */
  #fallbackName(): string[] {
    const { dir, base } = posix.parse(this.#filename);
    return base === DEFAULT_FILENAME ? [joinPath(dir, base.toLowerCase())] : [];
  }

  async #readDockerfile(ref: FrontendRef | undefined): Promise<Uint8Array> {
    try {
      return await this.#read(ref, this.#filename);
    } catch (thrown) {
      const [fallback] = this.#fallbackName();
      if (fallback === undefined) throw thrown;
      // When neither is there, the name that was asked for is the one to talk about.
      return await this.#read(ref, fallback).catch(() => Promise.reject(thrown));
    }
  }

  async #read(ref: FrontendRef | undefined, path: string): Promise<Uint8Array> {
    const data = await this.#bridge.readFile(ref, path, { offset: 0, length: MAX_DOCKERFILE_BYTES + 1 });
    if (data.byteLength > MAX_DOCKERFILE_BYTES) throw invalid(`${path} is larger than ${MAX_DOCKERFILE_BYTES} bytes`);
    return data;
  }

  #sessionOf(name: string): string {
    return this.#options.localSessions.get(name) ?? this.#bridge.sessionId;
  }

  /** What the client is told not to send; empty for a context that is not a client directory. */
  ignorePatterns(): Promise<readonly string[]> {
    this.#ignorePatterns ??= this.#loadIgnorePatterns();
    return this.#ignorePatterns;
  }

  async #loadIgnorePatterns(): Promise<readonly string[]> {
    if (this.#remote !== undefined) return [];
    this.#ignoreFile ??= { name: '.dockerignore', text: await this.#loadIgnoreFile() };
    return parseIgnoreFile(this.#ignoreFile.text);
  }

  async #loadIgnoreFile(): Promise<string> {
    const source = localSource(this.#contextName, {
      sessionId: this.#sessionOf(this.#contextName),
      followPaths: ['.dockerignore'],
      sharedKeyHint: `${this.#contextName}-.dockerignore`,
      differ: 'none',
      name: '[internal] load .dockerignore',
    });
    const ref = await this.#bridge.solve(marshal(source, { platform: this.#worker }));
    return (await readIfThere(this.#bridge, ref, '.dockerignore')) ?? '';
  }

  /** The files of the context; of a client directory only `followPaths`, when given. */
  async files(followPaths: readonly string[] | undefined): Promise<State> {
    if (this.#remote !== undefined) return this.#remote;
    return localSource(this.#contextName, {
      sessionId: this.#sessionOf(this.#contextName),
      excludePatterns: await this.ignorePatterns(),
      sharedKeyHint: this.#contextName,
      ...(followPaths === undefined ? {} : { followPaths }),
      name: '[internal] load build context',
    });
  }
}

export interface BuildContextEnvironment {
  readonly bridge: Bridge;
  readonly request: FrontendRequest;
  readonly options: DockerfileOptions;
  readonly worker: Platform;
}

interface RemoteContext {
  readonly context?: State;
  readonly dockerfile?: State;
  /** Set when the context is the Dockerfile itself. */
  readonly filename?: string;
}

async function findRemote({ bridge, request, worker }: BuildContextEnvironment): Promise<RemoteContext> {
  const get = (key: string): string => request.options.get(key) ?? '';
  const url = get(get('contextkey') || 'context');
  const forced = request.options.has('dockerfilekey');
  const withDockerfile = (context: State): RemoteContext => (forced ? { context } : { context, dockerfile: context });
  const git = parseGitRef(url);
  if (git !== undefined) {
    const keepGitDir = parseBool(get('build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR')) ?? false;
    const mtime = get('build-arg:SOURCE_DATE_EPOCH') === '' ? '' : 'commit';
    return withDockerfile(gitContext(url, git, { keepGitDir, mtime }));
  }
  if (/^https?:\/\//.test(url)) {
    const { context, isArchive } = await loadHttp(bridge, url, worker);
    return { ...withDockerfile(context), ...(isArchive ? {} : { filename: HTTP_FILENAME }) };
  }
  const dockerfile = forced ? undefined : request.inputs.get('dockerfile');
  const context = request.inputs.get('context');
  return {
    ...(dockerfile === undefined ? {} : { dockerfile: importedState(dockerfile) }),
    ...(context === undefined ? {} : { context: importedState(context) }),
  };
}

const HTTP_FILENAME = 'context';
const HEAD_BYTES = 1024;

async function loadHttp(bridge: Bridge, url: string, worker: Platform): Promise<{ context: State; isArchive: boolean }> {
  const download = httpSource(url, { filename: HTTP_FILENAME, name: '[internal] load remote build context' });
  const ref = await within('failed to resolve httpcontext', bridge.solve(marshal(download, { platform: worker })));
  const head = await within(
    'failed to read downloaded context',
    bridge.readFile(ref, HTTP_FILENAME, { offset: 0, length: HEAD_BYTES }),
  );
  if (!looksLikeArchive(head)) return { context: download, isArchive: false };
  const unpack = { kind: 'copy', from: download, src: `/${HTTP_FILENAME}`, dest: '/', attemptUnpack: true } as const;
  return { context: fileStep(scratch(), [unpack]), isArchive: true };
}

const MAGICS = [
  [0x42, 0x5a, 0x68], // bzip2
  [0x1f, 0x8b, 0x08], // gzip
  [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], // xz
] as const;

function looksLikeArchive(head: Uint8Array): boolean {
  return MAGICS.some((magic) => magic.every((byte, i) => head[i] === byte)) || looksLikeTar(head);
}

/** A tar header adds up: the checksum field holds the sum of the block with that field as spaces. */
function looksLikeTar(head: Uint8Array): boolean {
  if (head.byteLength < 512) return false;
  const header = head.subarray(0, 512);
  const stored = Number.parseInt(new TextDecoder('latin1').decode(header.subarray(148, 156)).replace(/[\0 ]/g, ''), 8);
  const sum = header.reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 0x20 : byte), 0);
  return stored === sum;
}

function scoped(context: State, subdir: string): State {
  return fileStep(scratch(), [{ kind: 'copy', from: context, src: subdir, dest: '/', dirCopyContents: true }]);
}

async function readIfThere(bridge: Bridge, ref: FrontendRef | undefined, path: string): Promise<string | undefined> {
  try {
    return new TextDecoder().decode(await bridge.readFile(ref, path));
  } catch (thrown) {
    if (BuildError.from(thrown).kind === 'not-found') return undefined;
    throw thrown;
  }
}

async function within<T>(what: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (thrown) {
    throw BuildError.from(thrown).wrap(what);
  }
}
