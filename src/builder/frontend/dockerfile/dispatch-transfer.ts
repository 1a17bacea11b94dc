/** COPY and ADD: files of the context, of stages and images, of URLs, of git, and heredocs, into the stage. */
import { digestOf } from '../../../core/digest.ts';
import { cleanPath, hasWildcard } from '../../../core/patterns.ts';
import { type CopyAction, file as fileStep, type Owner, parseOwner } from '../../llb/file.ts';
import { merge } from '../../llb/merge.ts';
import { gitSource, httpSource } from '../../llb/source.ts';
import { type State, type StepOptions, scratch, withOutput } from '../../llb/state.ts';
import { invalid } from './errors.ts';
import { findGitRef, type GitRef, parseGitRef } from './git-ref.ts';
import { goQuote } from './go-text.ts';
import type { InlineFile, InstructionOf } from './instruction.ts';
import { baseName, joinPath } from './paths.ts';
import { expandWord } from './shell-lex.ts';
import { commit, lintUndefined, locationOf, nameOf, type Step } from './step.ts';

type TransferStep = Step<InstructionOf<'add' | 'copy'>>;

/** The instruction with its variables replaced. */
interface Transfer {
  readonly step: TransferStep;
  readonly isAdd: boolean;
  readonly sources: readonly string[];
  readonly inlineFiles: readonly InlineFile[];
  readonly destination: string;
  readonly chown: string;
  readonly chmod: string;
  readonly checksum: string;
  /** The name of the step, for sources that are steps of their own. */
  readonly name: string;
  /** What every action of the instruction has in common. */
  readonly common: Pick<CopyAction, 'kind' | 'dest' | 'owner' | 'mode' | 'excludePatterns' | 'createDestPath'>;
}

export function dispatchTransfer(step: TransferStep): void {
  const { stage, instruction } = step;
  const transfer = prepare(step);
  const actions = [
    ...transfer.sources.map((source) => sourceAction(transfer, source)),
    ...transfer.inlineFiles.map((f) => inlineAction(transfer, f)),
  ];
  const options: StepOptions = { name: transfer.name, ignoreCache: stage.ignoreCache, location: locationOf(step) };
  stage.state =
    instruction.link && transfer.chmod === '' && step.conversion.canMerge
      ? linked(transfer, actions, options)
      : fileStep(stage.state, actions, options);
  commit(step, historyText(transfer), { layer: true, marked: true });
  notePaths(transfer);
}

function prepare(step: TransferStep): Transfer {
  const { instruction, expand } = step;
  const isAdd = instruction.kind === 'add';
  const chown = expand(instruction.chown);
  const chmod = expand(instruction.chmod);
  const checksum = isAdd ? expand(instruction.checksum) : '';
  const sources = instruction.sources.map(expand);
  const destination = expand(instruction.destination);
  const inlineFiles = instruction.inlineFiles.map((inline) => expandInline(step, inline));
  if (checksum !== '') checkChecksumUse(sources);
  const name = nameOf(step, instruction.code);
  const common = {
    kind: 'copy',
    // "" and "." are the working directory, not its parent's entry of that name.
    dest: destination === '' || destination === '.' ? './' : destination,
    owner: ownerOf(chown),
    mode: parseChmod(chmod),
    excludePatterns: instruction.exclude,
    createDestPath: true,
  } as const;
  return { step, isAdd, sources, inlineFiles, destination, chown, chmod, checksum, name, common };
}

const ownerOf = (chown: string): Owner | undefined => (chown === '' ? undefined : parseOwner(chown));

/** Content is expanded without touching its quotes, and always with backslash as escape. */
function expandInline(step: TransferStep, inline: InlineFile): InlineFile {
  if (!inline.expand) return inline;
  const { text, unmatched } = expandWord(inline.content, step.stage.state.env, { escape: '\\', ignoreQuotes: true });
  lintUndefined(step.stage, step.instruction, unmatched, step.lint);
  return { ...inline, content: text };
}

function checkChecksumUse(sources: readonly string[]): void {
  const [source = ''] = sources;
  if (sources.length !== 1) throw invalid("checksum can't be specified for multiple sources");
  if (!isHttp(source) && findGitRef(source) === undefined) throw invalid('checksum requires HTTP(S) or Git sources');
}

const SYMBOLIC_MODE = /^(?:[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+)(?:,[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+)*$/;

/** Octal digits up to 07777, or symbolic text. */
function parseChmod(chmod: string): number | string | undefined {
  if (chmod === '') return undefined;
  const mode = /^[0-7]+$/.test(chmod) ? Number.parseInt(chmod, 8) : undefined;
  if (mode !== undefined ? mode > 0o7777 : /^\d/.test(chmod)) {
    throw invalid(`invalid chmod parameter: '${chmod}'. it should be octal string and between 0 and 07777`);
  }
  if (mode === undefined && !SYMBOLIC_MODE.test(chmod)) throw invalid('invalid syntax');
  return mode ?? chmod;
}

function sourceAction(transfer: Transfer, source: string): CopyAction {
  const git = parseGitRef(source);
  if (git !== undefined && !git.maybeLocal) return gitAction(transfer, git);
  return isHttp(source) ? httpAction(transfer, source) : fileAction(transfer, source);
}

const isHttp = (source: string): boolean => /^https?:\/\//.test(source) && findGitRef(source) === undefined;

function gitAction({ step, isAdd, checksum, name, common }: Transfer, git: GitRef): CopyAction {
  if (!isAdd) throw invalid("source can't be a git ref for COPY");
  const { keepGitDir } = step.instruction as InstructionOf<'add'>;
  if (keepGitDir !== undefined && git.keepGitDir !== undefined && keepGitDir !== git.keepGitDir) {
    throw invalid('inconsistent keep-git-dir configuration');
  }
  if (checksum !== '' && git.checksum !== '' && checksum !== git.checksum) {
    throw invalid(`checksum mismatch ${goQuote(checksum)} != ${goQuote(git.checksum)}`);
  }
  const from = gitSource({
    ...git,
    name,
    keepGitDir: git.keepGitDir ?? keepGitDir ?? false,
    checksum: git.checksum || checksum,
    skipSubmodules: git.submodules === false,
    mtime: '',
  });
  return { ...common, from, src: '/' };
}

/** A download keeps the name its URL ends in. */
function httpAction({ step, isAdd, checksum, name, common }: Transfer, url: string): CopyAction {
  if (!isAdd) throw invalid("source can't be a URL for COPY");
  if (checksum !== '') checkDigest(checksum);
  const filename = filenameOf(url);
  const { unpack } = step.instruction as InstructionOf<'add'>;
  const from = httpSource(url, { filename, checksum, name, description: { 'com.docker.dockerfile.v1.command': '' } });
  return { ...common, from, src: filename, attemptUnpack: unpack ?? false };
}

const DIGEST_LENGTHS: Readonly<Record<string, number>> = { sha256: 64, sha384: 96, sha512: 128 };

function checkDigest(text: string): void {
  const match = /^([a-z0-9]+(?:[.+_-][a-z0-9]+)*):([a-zA-Z0-9=_-]+)$/.exec(text);
  if (match === null) throw invalid('invalid checksum digest format');
  const [, algorithm = '', hex = ''] = match;
  const length = DIGEST_LENGTHS[algorithm];
  if (length === undefined) throw invalid('unsupported digest algorithm');
  if (hex.length !== length) throw invalid('invalid checksum digest length');
  if (!/^[a-f0-9]+$/.test(hex)) throw invalid('invalid checksum digest format');
}

function filenameOf(url: string): string {
  try {
    const base = baseName(decodeURIComponent(new URL(url).pathname));
    return base === '.' || base === '/' ? '__unnamed__' : base;
  } catch {
    return '__unnamed__'; // the source itself will say what is wrong with the URL
  }
}

function fileAction(transfer: Transfer, source: string): CopyAction {
  const { step, isAdd, common } = transfer;
  const { instruction } = step;
  lintIgnored(transfer, source);
  const parents = instruction.kind === 'copy' && instruction.parents ? parentsOf(source) : undefined;
  return {
    ...common,
    from: filesOf(transfer),
    src: joinPath('/', parents?.src ?? source),
    followSymlink: true,
    dirCopyContents: true,
    includePatterns: parents?.patterns ?? [],
    requiredPaths: parents?.required ?? [],
    attemptUnpack: instruction.kind === 'add' ? (instruction.unpack ?? isAdd) : false,
    allowWildcard: true,
    allowEmptyWildcard: true,
  };
}

/** `--parents`: the path below the pivot `/./` (or all of it) is kept; without wildcards it has to exist. */
function parentsOf(source: string): { src: string; patterns: string[]; required: string[] } {
  const pivot = source.indexOf('/./');
  const src = pivot === -1 ? '/' : source.slice(0, pivot);
  const below = pivot === -1 ? source : source.slice(pivot + '/./'.length);
  const pattern = below.startsWith('/') ? below : joinPath('/', below);
  const required = hasWildcard(src) || hasWildcard(pattern) ? [] : [joinPath('/', src, pattern)];
  return { src, patterns: [pattern.slice(1)], required };
}

/** The build context, or the stage that --from names. */
function filesOf({ step }: Transfer): State {
  const { command, conversion, instruction, stage } = step;
  const [source] = command.sources;
  if (source === undefined) return conversion.buildContext;
  if (!source.dispatched) {
    const from = instruction.kind === 'copy' ? instruction.from : '';
    throw invalid(
      `cannot copy from stage ${goQuote(from)}, it needs to be defined before current stage ${goQuote(stage.stageName)}`,
    );
  }
  return source.state;
}

function inlineAction({ common }: Transfer, { name, content }: InlineFile): CopyAction {
  const file = { kind: 'mkfile', path: name, mode: 0o644, data: new TextEncoder().encode(content) } as const;
  const from = fileStep(scratch(), [file], { name: '[internal] preparing inline document' });
  return { ...common, from, src: name };
}

/** `--link`: the files become a layer of their own, laid over whatever the stage is then. */
function linked(transfer: Transfer, actions: readonly CopyAction[], options: StepOptions): State {
  const { step, name } = transfer;
  const { stage, instruction } = step;
  const group = { id: digestOf(`${name}\0${instruction.ranges[0]?.start.line}`).slice(7, 32), name };
  const base: State = { ...scratch(), dir: stage.state.dir };
  const layer = fileStep(base, actions, { ...options, progressGroup: { ...group, weak: true } });
  const linkName = nameOf(step, instruction.code, { again: true, mark: 'LINK ' });
  const merged = merge([stage.state, layer], { ...options, name: linkName, progressGroup: { ...group, weak: false } });
  return withOutput(stage.state, merged.output);
}

function historyText({ step, isAdd, sources, inlineFiles, destination, chown, chmod }: Transfer): string {
  const { instruction } = step;
  return [
    isAdd ? 'ADD' : 'COPY',
    ...(instruction.kind === 'copy' && instruction.parents ? ['--parents'] : []),
    ...(chown === '' ? [] : [`--chown=${chown}`]),
    ...(chmod === '' ? [] : [`--chmod=${chmod}`]),
    ...sources,
    ...inlineFiles.map(({ name }) => `<<${name}`),
    destination,
  ].join(' ');
}

/** Remembers which paths have to be there, so that only those are asked for. */
function notePaths({ step, sources }: Transfer): void {
  const [from] = step.command.sources;
  const paths = from?.paths ?? step.stage.contextPaths;
  for (const source of sources) if (from !== undefined || !/^https?:\/\//.test(source)) paths.add(joinPath('/', source));
}

const EVERYTHING = new Set(['*', '**', '**/*']);

function lintIgnored({ step, isAdd }: Transfer, source: string): void {
  const { conversion, command, instruction } = step;
  const { ignored } = conversion;
  if (ignored === undefined || command.sources.length > 0) return;
  const path = cleanPath(source);
  const isRoot = path === '.' || path === '/';
  const hit = isRoot ? ignored.patterns.some((pattern) => EVERYTHING.has(pattern)) : ignored.set.matches(path.replace(/^\//, ''));
  if (!hit) return;
  const verb = isAdd ? 'Add' : 'Copy';
  step.lint.run(
    'CopyIgnoredFile',
    instruction.ranges,
    `Attempting to ${verb} file ${goQuote(path)} that is excluded by .dockerignore`,
  );
}
