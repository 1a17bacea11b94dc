/** A stage on its way to a graph: what FROM gave it, what its instructions have done so far, which other stages it needs. */

import type { SourceRange } from '../../../core/errors.ts';
import { formatPlatform, normalizePlatform, type Platform, parsePlatform, platformId } from '../../llb/platform.ts';
import { type State, scratch } from '../../llb/state.ts';
import { invalid } from './errors.ts';
import { goQuote } from './go-text.ts';
import { ImageConfig } from './image-config.ts';
import type { ArgDefinition, Instruction, Stage } from './instruction.ts';
import type { NamedContext } from './named-context.ts';
import { OutlineCapture } from './outline-capture.ts';
import { didYouMean } from './suggest.ts';

/** An instruction and the stages it reads from (undefined entries for parts that read from none). */
export interface Command {
  readonly instruction: Instruction;
  readonly sources: readonly StageState[];
  /** It came from an ONBUILD trigger of the base. */
  readonly isOnbuild: boolean;
}

export class StageState {
  readonly stage: Stage;
  /** FROM with its variables replaced; once resolved, the reference that was pinned. */
  baseName: string;
  /** The name progress shows; '' in a file of one stage. */
  stageName: string;
  state: State = scratch();
  image: ImageConfig;
  /** Config of the base image as it was. */
  baseImage: ImageConfig | undefined;
  platform: Platform | undefined;
  base: StageState | undefined;
  namedContext: NamedContext | undefined;
  /** The stages it reads files from, and for each an instruction that does. */
  readonly deps = new Map<StageState, Instruction>();
  commands: Command[] = [];
  buildArgs: ArgDefinition[] = [];
  /** Paths of the build context that its instructions use. */
  readonly contextPaths = new Set<string>();
  /** Paths of its own files that others use; shared with the base, which has to provide them. */
  paths = new Set<string>();
  /** True for an image that only --from names. */
  readonly unregistered: boolean;
  dispatched = false;
  resolved = false;
  triggersTaken = false;
  ignoreCache = false;
  workdirSet = false;
  commandTotal = 0;
  #commandIndex = 0;
  /** Where CMD, ENTRYPOINT and HEALTHCHECK were last given in this stage. */
  readonly lastGiven = new Map<string, readonly SourceRange[]>();
  outline: OutlineCapture;

  constructor(
    stage: Stage,
    baseName: string,
    options: { readonly unregistered?: boolean; readonly outline?: OutlineCapture } = {},
  ) {
    this.stage = stage;
    this.baseName = baseName;
    this.stageName = stage.name;
    this.unregistered = options.unregistered ?? false;
    this.outline = options.outline ?? new OutlineCapture();
    this.image = new ImageConfig({ os: '', architecture: '', variant: '', osVersion: '', osFeatures: [] });
  }

  /** Takes over from the stage it is built on. */
  inherit(): void {
    const { base } = this;
    if (base === undefined) return;
    this.state = base.state;
    this.platform = base.platform;
    this.image = base.image.clone();
    this.image.onbuild = []; // triggers fire once, in the stage right above
    this.baseImage = base.baseImage;
    this.paths = base.paths;
    this.workdirSet = base.workdirSet;
    this.buildArgs = [...base.buildArgs];
  }

  /**
   * The name of the next step: `[linux/arm64 build 2/4] RUN make`. `again` names the step just named another time.
   * `target` is the platform built for, when it is not the one that runs.
   */
  nameStep(
    text: string,
    options: { readonly platform: Platform | undefined; readonly onbuild?: boolean; readonly again?: boolean },
  ): string {
    if (this.commandTotal === 0) return text;
    if (options.again !== true) this.#commandIndex += 1;
    const total = `${this.commandTotal}`;
    const index = `${this.#commandIndex}`.padStart(total.length, ' ');
    const platform =
      options.platform === undefined ? '' : `${platformId(options.platform)}${crossTarget(options.platform, this.state)} `;
    const stage = this.stageName === '' ? '' : `${this.stageName} `;
    return `[${platform}${stage}${index}/${total}] ${options.onbuild === true ? 'ONBUILD ' : ''}${text}`;
  }
}

/** `->arm64` when the step runs on one platform to build for another, as the TARGET variables in its environment say. */
function crossTarget(runs: Platform, { env }: State): string {
  const named = env.get('TARGETPLATFORM');
  let target = {
    os: env.get('TARGETOS') ?? '',
    architecture: env.get('TARGETARCH') ?? '',
    variant: env.get('TARGETVARIANT') ?? '',
  };
  if (named !== undefined) {
    try {
      target = parsePlatform(named, runs);
    } catch {
      // Not a platform: the parts decide.
    }
  }
  if (target.os === '' && target.architecture === '' && target.variant === '') return '';
  const { os, architecture, variant } = normalizePlatform({
    ...runs,
    os: target.os || runs.os,
    architecture: target.architecture || runs.architecture,
    variant: target.variant,
  });
  if (os !== runs.os) return `->${formatPlatform({ ...runs, os, architecture, variant })}`;
  return architecture === runs.architecture ? '' : `->${[architecture, variant].filter(Boolean).join('/')}`;
}

/** All stages of a file, in order, found by name or number. */
export class StageList {
  readonly states: StageState[] = [];
  readonly #byName = new Map<string, StageState>();

  /** Adds a stage; when its base is a stage known so far, it is built on that one. */
  add(state: StageState): void {
    this.states.push(state);
    const base = this.#byName.get(state.baseName);
    if (base !== undefined) {
      state.base = base;
      state.outline = base.outline.clone();
    }
    if (state.stage.name !== '') this.#byName.set(state.stage.name, state);
  }

  named(name: string): StageState | undefined {
    return this.#byName.get(name.toLowerCase());
  }

  /** @throws BuildError `invalid-input`. */
  numbered(index: number): StageState {
    const state = this.states[index];
    if (state === undefined) throw invalid(`invalid stage index ${index}`);
    return state;
  }

  names(): string[] {
    return this.states.map(({ stageName }) => stageName).filter((name) => name !== '');
  }

  /** The stage asked for, or the last. @throws BuildError `invalid-input` with the nearest name. */
  target(name: string): StageState {
    const found = name === '' ? this.states.at(-1) : this.named(name);
    if (found !== undefined) return found;
    throw invalid(`target stage ${goQuote(name)} could not be found${didYouMean(name, this.names())}`);
  }
}

/** The stage and everything it is built on or reads from. */
export function reachableFrom(target: StageState): Set<StageState> {
  const reached = new Set([target]);
  for (const state of reached) {
    if (state.base !== undefined) reached.add(state.base);
    for (const dep of state.deps.keys()) reached.add(dep);
  }
  return reached;
}

/** The instructions of a circle of stages that read from each other, and the stage it was found on. Undefined when there is none. */
export function findCycle(
  states: readonly StageState[],
): { readonly state: StageState; readonly instructions: readonly Instruction[] } | undefined {
  const done = new Set<StageState>();
  for (const start of states) {
    const path: {
      readonly state: StageState;
      readonly via: Instruction | undefined;
      readonly rest: Iterator<[StageState, Instruction]>;
    }[] = [];
    const onPath = new Set<StageState>();
    const enter = (state: StageState, via: Instruction | undefined): void => {
      done.add(state);
      onPath.add(state);
      path.push({ state, via, rest: state.deps.entries() });
    };
    if (!done.has(start)) enter(start, undefined);
    for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
      const next = top.rest.next();
      if (next.done === true) {
        path.pop();
        onPath.delete(top.state);
        continue;
      }
      const [dep, via] = next.value;
      if (onPath.has(dep)) {
        const instructions = [...path.flatMap((frame) => frame.via ?? []), via];
        return { state: start, instructions };
      }
      if (!done.has(dep)) enter(dep, via);
    }
  }
  return undefined;
}
