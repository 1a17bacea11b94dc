/**
 * A Dockerfile to a graph, for one platform: stages found and pruned to what the target needs, base images resolved, ONBUILD triggers
 * taken in, instructions carried out in order.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { BuildError } from '../../../core/errors.ts';
import { MAX_MANIFEST_BYTES } from '../../../core/limits.ts';
import { compilePatterns } from '../../../core/patterns.ts';
import { Env, splitEntry } from '../../llb/env.ts';
import type { ProxyEnv } from '../../llb/exec.ts';
import { normalizePlatform, type Platform, parsePlatform } from '../../llb/platform.ts';
import { deferredOutput, type SourceMap, type State, stateOf } from '../../llb/state.ts';
import { parseReference } from '../../registry/reference.ts';
import { BaseImages } from './base-images.ts';
import type { ConvertRequest } from './convert-request.ts';
import { findDirective } from './directives.ts';
import { dispatch, setUser, setWorkdir } from './dispatch.ts';
import { at, invalid, located, type SourceFile } from './errors.ts';
import { globalArgs, platformArgs } from './global-args.ts';
import { goQuote } from './go-text.ts';
import { DEFAULT_PATH, type ImageConfig } from './image-config.ts';
import type { Instruction, Stage } from './instruction.ts';
import { type ParsedStages, parseStages, parseTrigger } from './instructions.ts';
import { lexDockerfile } from './lexer.ts';
import { Linter, parseLintConfig } from './lint.ts';
import { lintDefaultBases, lintFromArgs, lintFromPlatform, lintStages } from './lint-stages.ts';
import { followPathsOf } from './named-context.ts';
import { ignoresCache } from './options.ts';
import { OutlineCapture } from './outline-capture.ts';
import { expandWord, type LexOptions, NO_VARIABLES } from './shell-lex.ts';
import { type Command, findCycle, reachableFrom, StageList, StageState } from './stage-state.ts';
import type { Conversion } from './step.ts';
import { didYouMean } from './suggest.ts';

export interface Converted {
  readonly target: StageState;
  readonly state: State;
  readonly image: ImageConfig;
  readonly baseImage: ImageConfig | undefined;
  readonly platform: Platform;
  readonly epochS: number | undefined;
}

/** @throws BuildError with the place in the file, where there is one. */
export async function convertDockerfile(request: ConvertRequest): Promise<Converted> {
  const converter = new Converter(request);
  return await converter.run();
}

/** Parses only: stages and global arguments, for those who list them. */
export function readStages(sourceMap: SourceMap, lint: Linter): ParsedStages & { readonly lex: LexOptions } {
  const text = new TextDecoder().decode(sourceMap.data);
  const lexed = lexDockerfile(sourceMap, text);
  for (const range of lexed.emptyContinuations) lint.run('NoEmptyContinuation', [range], 'Empty continuation line');
  return { ...parseStages(sourceMap, lexed.instructions, lint), lex: { escape: lexed.escape } };
}

const YIELD_EVERY = 64;

class Converter {
  readonly #request: ConvertRequest;
  readonly #file: SourceFile;
  readonly #lint: Linter;
  readonly #stages = new StageList();
  readonly #build: Platform;
  readonly #target: Platform;
  readonly #bases: BaseImages;
  #lex: LexOptions = { escape: '\\' };
  #args = Env.empty;
  #epochS: number | undefined;

  constructor(request: ConvertRequest) {
    this.#request = request;
    this.#file = request.sourceMap;
    this.#build = request.worker;
    this.#target = request.targetPlatform ?? request.worker;
    const check = findDirective(new TextDecoder().decode(request.sourceMap.data), 'check');
    this.#lint = new Linter(request.options.lint ?? parseLintConfig(check?.value ?? ''), request.warn);
    this.#bases = new BaseImages(request, this.#target, this.#lint, () => this.#stages.names());
  }

  async run(): Promise<Converted> {
    const { sourceMap, options } = this.#request;
    if (sourceMap.data.byteLength === 0) throw invalid('the Dockerfile cannot be empty');
    const parsed = readStages(sourceMap, this.#lint);
    if (parsed.stages.length === 0) throw invalid('dockerfile contains no stages to build');
    this.#lex = parsed.lex;
    lintStages(parsed.stages, this.#lint);
    const outline = this.#readGlobalArgs(parsed);
    for (const [i, stage] of parsed.stages.entries()) this.#addStage(stage, i, outline);
    const target = this.#stages.target(options.target);
    this.#connectStages();
    const reachable = await this.#resolve(target);
    return await this.#carryOut(target, reachable);
  }

  #readGlobalArgs({ stages, globalArgs: instructions }: ParsedStages): OutlineCapture {
    const { options } = this.#request;
    const targetName = options.target || (stages.at(-1)?.name ?? '');
    const base = platformArgs(this.#build, this.#target, targetName, options.buildArgs);
    lintDefaultBases(this.#file, stages, instructions, base, this.#lex, this.#lint);
    const { env, args } = globalArgs(this.#file, base, instructions, options.buildArgs, this.#lex);
    this.#args = env;
    const epoch = options.buildArgs.get('SOURCE_DATE_EPOCH') ?? env.get('SOURCE_DATE_EPOCH') ?? '';
    this.#epochS = parseEpoch(epoch);
    const outline = new OutlineCapture();
    for (const [name, use] of args) outline.args.set(name, use);
    return outline;
  }

  #addStage(stage: Stage, index: number, globals: OutlineCapture): void {
    const { options } = this.#request;
    const lint = this.#lint.withComments(stage.comments);
    const base = at(this.#file, stage.ranges, () => expandWord(stage.baseName, this.#args, this.#lex));
    lintFromArgs(base, stage, this.#args, globals, lint);
    if (base.text === '') throw this.#error(`base name (${stage.baseName}) should not be blank`, stage);
    const state = new StageState(stage, base.text, { outline: globals.clone() });
    const used = new Set(base.matched);
    if (stage.platform !== '') for (const name of this.#readPlatform(state, globals, lint)) used.add(name);
    state.ignoreCache = ignoresCache(options, stage.name);
    const named = stage.name === '' ? undefined : this.#bases.named(stage.name, state);
    if (named !== undefined) {
      state.namedContext = named;
      this.#stages.add(state);
      state.base = undefined;
      return;
    }
    if (stage.name === '') state.stageName = `stage-${index}`;
    this.#stages.add(state);
    for (const name of used) state.outline.used.add(name);
    state.commandTotal = stage.instructions.filter(({ kind }) => ['add', 'copy', 'run', 'workdir'].includes(kind)).length;
    if (state.baseName !== 'scratch' && state.base === undefined) state.commandTotal += 1;
  }

  /** `FROM --platform`; gives the names of the arguments it used. */
  #readPlatform(state: StageState, globals: OutlineCapture, lint: Linter): ReadonlySet<string> {
    const { stage } = state;
    const expanded = at(this.#file, stage.ranges, () => expandWord(stage.platform, this.#args, this.#lex));
    const { text, matched, unmatched } = expanded;
    lintFromArgs(expanded, stage, this.#args, globals, lint);
    lintFromPlatform(expanded, stage, this.#args, this.#build, lint);
    const hint = (): string => {
      const names = this.#args.keys();
      return [...unmatched].map((name) => didYouMean(name, names)).find((found) => found !== '') ?? '';
    };
    if (text === '') throw this.#error(`empty platform value from expression ${stage.platform}${hint()}`, stage);
    try {
      state.platform = parsePlatform(text, this.#build);
    } catch (thrown) {
      const reason = BuildError.from(thrown).message;
      throw this.#error(`failed to parse platform ${stage.platform}: ${reason}${hint()}`, stage);
    }
    return matched;
  }

  /** Finds for every COPY --from and mount the stage it reads. */
  #connectStages(): void {
    for (const state of [...this.#stages.states]) {
      state.commands = state.stage.instructions.map((instruction) =>
        at(this.#file, instruction.ranges, () => this.#connect(state, instruction)),
      );
    }
    const cycle = findCycle(this.#stages.states);
    if (cycle !== undefined) {
      const { state, instructions } = cycle;
      const ranges = instructions.flatMap((instruction) => instruction.ranges);
      throw located(invalid(`circular dependency detected on stage: ${state.stageName}`), this.#file, ranges);
    }
    const [only, ...more] = this.#stages.states;
    if (only !== undefined && more.length === 0) only.stageName = '';
  }

  #connect(state: StageState, instruction: Instruction, isOnbuild = false): Command {
    const sources = this.#sourcesOf(instruction);
    for (const source of sources) {
      state.deps.set(source, instruction);
      if (source.unregistered) this.#stages.add(source);
    }
    return { instruction, sources, isOnbuild };
  }

  #sourcesOf(instruction: Instruction): StageState[] {
    if (instruction.kind === 'run')
      return instruction.mountSources.map((from) => this.#sourceNamed(from || 'scratch', instruction));
    if (instruction.kind !== 'copy' || instruction.from === '') return [];
    const { from } = instruction;
    if (expandWord(from, NO_VARIABLES, this.#lex).text !== from) {
      throw invalid(
        'variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround',
      );
    }
    return [/^[+-]?\d+$/.test(from) ? this.#stages.numbered(Number(from)) : this.#sourceNamed(from, instruction)];
  }

  /** A stage of that name, else an image of that name. */
  #sourceNamed(name: string, { ranges, comments, keyword, code }: Instruction): StageState {
    const known = this.#stages.named(name);
    if (known !== undefined) return known;
    const stage: Stage = { keyword, code, ranges, comments, name: '', baseName: name, platform: '', doc: '', instructions: [] };
    return new StageState({ ...stage, code: '' }, name, { unregistered: true });
  }

  /** Bases of everything the target needs; triggers of a base can ask for more, so until nothing new comes. */
  async #resolve(target: StageState): Promise<Set<StageState>> {
    while (true) {
      const reachable = reachableFrom(target);
      const all = this.#request.allStages === true;
      const bases = this.#stages.states.filter((state) => state.base === undefined && !state.dispatched && !state.resolved);
      for (const state of bases) this.#checkBaseName(state);
      const wanted = bases.filter((state) => all || reachable.has(state));
      await Promise.all(wanted.map((state) => this.#bases.resolve(state)));
      if (!this.#takeTriggers(reachable)) return reachable;
    }
  }

  /** Wrong names are reported in stages nobody needs, too. */
  #checkBaseName({ baseName, stage, namedContext }: StageState): void {
    if (baseName === 'scratch' && namedContext === undefined) return;
    at(this.#file, stage.ranges, () => {
      try {
        parseReference(baseName);
      } catch (thrown) {
        const { message } = BuildError.from(thrown);
        // BuildKit names the part that is wrong for upper case only; the rest goes into the hint.
        const short = message.includes('must be lowercase') ? message : message.replace(/^(invalid reference format): .*/s, '$1');
        throw invalid(`failed to parse stage name ${goQuote(baseName)}: ${short}`, { hint: message });
      }
    });
  }

  /** ONBUILD instructions of bases, in front of those of the stage. True when they need more stages. */
  #takeTriggers(reachable: ReadonlySet<StageState>): boolean {
    let needMore = false;
    for (const state of reachable) {
      state.inherit();
      const expressions = [...state.image.onbuild];
      if (state.base !== undefined && !state.triggersTaken) {
        const own = state.base.stage.instructions;
        expressions.push(...own.flatMap((instruction) => (instruction.kind === 'onbuild' ? [instruction.expression] : [])));
        state.triggersTaken = true;
      }
      state.image.onbuild = [];
      const commands = expressions.map((expression) => this.#trigger(state, expression));
      state.commands = [...commands, ...state.commands];
      state.commandTotal += commands.length;
      needMore ||= commands.some(({ sources }) => sources.length > 0);
    }
    return needMore;
  }

  /** Its place is the FROM that brought it. */
  #trigger(state: StageState, expression: string): Command {
    const { ranges, comments } = state.stage;
    return at(this.#file, ranges, () => {
      const place: SourceFile = { ...this.#file, data: new Uint8Array() };
      const [raw, ...more] = withoutPlace(() => lexDockerfile(place, expression)).instructions;
      if (raw === undefined || more.length > 0) throw invalid('onbuild trigger should be a single expression');
      return this.#connect(state, { ...parseTrigger({ ...raw, ranges, comments }), ranges }, true);
    });
  }

  async #carryOut(target: StageState, reachable: ReadonlySet<StageState>): Promise<Converted> {
    const { context } = this.#request;
    const filesOfContext = deferredOutput();
    const conversion = await this.#conversion(stateOf(filesOfContext.output));
    const contextPaths = new Set<string>();
    for (const state of this.#stages.states) {
      if (this.#request.allStages !== true && (!reachable.has(state) || state.dispatched)) continue;
      this.#prepare(state, conversion);
      for (const [i, command] of state.commands.entries()) {
        dispatch(conversion, state, command);
        if (i % YIELD_EVERY === YIELD_EVERY - 1) await nextTurn(); // other builds want the loop, too
      }
      for (const path of state.contextPaths) contextPaths.add(path);
    }
    target.paths.add('/'); // all of the target is wanted
    for (const [key, value] of this.#request.options.labels) target.image.labels.set(key, value);
    const failure = this.#lint.failure();
    if (failure !== undefined) throw failure;
    filesOfContext.resolve((await context.files(followPathsOf(contextPaths))).output);
    this.#setPlatform(target.image);
    checkSize(target.image);
    const { state, image, baseImage } = target;
    return { target, state, image, baseImage, platform: this.#target, epochS: this.#epochS };
  }

  async #conversion(buildContext: State): Promise<Conversion> {
    const { context, options, sourceMap } = this.#request;
    const patterns = await context.ignorePatterns();
    const plain = patterns.length > 0 && !patterns.some((pattern) => pattern.startsWith('!'));
    return {
      file: this.#file,
      sourceMap,
      options,
      globalArgs: this.#args,
      lex: this.#lex,
      lint: this.#lint,
      buildContext,
      proxyEnv: proxyEnvOf(options.buildArgs),
      targetPlatform: this.#target,
      canMerge: this.#request.bridge.llbCaps?.has('mergeop') === true,
      epochS: this.#epochS,
      ignored: plain ? { set: compilePatterns(patterns), patterns } : undefined,
    };
  }

  /** What a stage begins with: the environment, directory and user of its base. */
  #prepare(state: StageState, { options }: Conversion): void {
    state.inherit();
    state.dispatched = true;
    state.platform ??= this.#target;
    const { image } = state;
    if (!image.hasEnv('PATH') && state.platform.os !== 'windows') image.setEnv('PATH', DEFAULT_PATH);
    let { env } = state.state;
    for (const entry of image.env) env = env.set(...splitEntry(entry));
    state.state = { ...state.state, env, hostname: options.hostname || state.state.hostname, network: options.networkMode };
    if (image.workingDir !== '') setWorkdir(state, image.workingDir);
    if (image.user !== '') setUser(state, image.user);
  }

  /** The image says it is for the platform that was asked for, whatever its base said. */
  #setPlatform(image: ImageConfig): void {
    const target = this.#target;
    const own = image.platform;
    if (this.#request.targetPlatform === undefined) {
      image.platform = normalizePlatform(own);
      return;
    }
    const same = own.os === target.os && own.architecture === target.architecture;
    image.platform = normalizePlatform({
      os: target.os,
      architecture: target.architecture,
      variant: target.variant !== '' || !same ? target.variant : own.variant,
      osVersion: target.osVersion !== '' || !same ? target.osVersion : own.osVersion,
      osFeatures: target.osFeatures.length > 0 ? target.osFeatures : own.osFeatures,
    });
  }

  #error(message: string, { ranges }: Stage): BuildError {
    return located(invalid(message), this.#file, ranges);
  }
}

/** A trigger has no place of its own; the caller knows a better one. */
function withoutPlace<T>(work: () => T): T {
  try {
    return work();
  } catch (thrown) {
    throw invalid(BuildError.from(thrown).message);
  }
}

/** Seconds since 1970. @throws BuildError `unsupported` for times that are to be taken from a source. */
function parseEpoch(text: string): number | undefined {
  if (text === '') return undefined;
  const seconds = /^[+-]?\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isNaN(seconds)) {
    throw new BuildError('unsupported', `invalid SOURCE_DATE_EPOCH: ${text}; only seconds since 1970 are supported`);
  }
  return seconds;
}

const PROXIES: Readonly<Record<string, keyof ProxyEnv>> = {
  http_proxy: 'httpProxy',
  https_proxy: 'httpsProxy',
  ftp_proxy: 'ftpProxy',
  no_proxy: 'noProxy',
  all_proxy: 'allProxy',
};

/** Proxies named by build arguments, in either case; they reach commands without being part of any key. */
function proxyEnvOf(buildArgs: ReadonlyMap<string, string>): ProxyEnv | undefined {
  const proxies: { -readonly [K in keyof ProxyEnv]: ProxyEnv[K] } = {};
  for (const [name, value] of [...buildArgs].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const key = PROXIES[name.toLowerCase()];
    if (key !== undefined) proxies[key] = value;
  }
  return Object.keys(proxies).length === 0 ? undefined : proxies;
}

/** Registries and runtimes refuse larger ones, and history can grow with the square of the file. */
function checkSize(image: ImageConfig): void {
  let size = 0;
  for (const { createdBy = '' } of image.history) size += createdBy.length;
  if (size > MAX_MANIFEST_BYTES) {
    throw invalid(`the image config is larger than ${MAX_MANIFEST_BYTES} bytes`, {
      hint: 'every RUN records all build arguments above it; use fewer or shorter ones',
    });
  }
}
