/** Where stages begin: scratch, a named context, or an image whose config is asked for and whose digest is pinned. */
import { BuildError } from '../../../core/errors.ts';
import { type Platform, platformId, platformToPb } from '../../llb/platform.ts';
import { imageSource } from '../../llb/source.ts';
import { scratch } from '../../llb/state.ts';
import { parseReference, withDefaultTag, withDigest } from '../../registry/reference.ts';
import type { ConvertRequest } from './convert-request.ts';
import { located } from './errors.ts';
import { ImageConfig } from './image-config.ts';
import type { Linter } from './lint.ts';
import { lintBaseImagePlatform } from './lint-stages.ts';
import { findNamedContext, type NamedContext } from './named-context.ts';
import type { StageState } from './stage-state.ts';
import { didYouMean } from './suggest.ts';

export class BaseImages {
  readonly #request: ConvertRequest;
  readonly #target: Platform;
  readonly #build: Platform;
  readonly #lint: Linter;
  readonly #stageNames: () => readonly string[];

  /** `stageNames`: what a misspelt base could have meant. */
  constructor(request: ConvertRequest, target: Platform, lint: Linter, stageNames: () => readonly string[]) {
    this.#request = request;
    this.#target = target;
    this.#build = request.worker;
    this.#lint = lint;
    this.#stageNames = stageNames;
  }

  /** The context that stands for a stage or an image of that name. */
  named(name: string, state: StageState): NamedContext | undefined {
    return findNamedContext(this.#request, name, {
      platform: state.platform ?? this.#target,
      usedPaths: () => state.paths,
    });
  }

  /** Gives the stage its files and config. @throws BuildError with the place of FROM. */
  async resolve(state: StageState): Promise<void> {
    state.resolved = true;
    try {
      if (state.namedContext !== undefined) await this.#takeContext(state, state.namedContext);
      else if (state.baseName === 'scratch') this.#takeScratch(state);
      else await this.#resolveImage(state);
    } catch (thrown) {
      throw located(thrown, this.#request.sourceMap, state.stage.ranges);
    }
    // An image that only --from names has no instructions.
    if (state.unregistered) state.dispatched = true;
  }

  #takeScratch(state: StageState): void {
    state.state = scratch();
    state.image = ImageConfig.empty(this.#target);
    state.platform = this.#target;
  }

  /** A context with the name of a stage takes its place, instructions and all. */
  async #takeContext(state: StageState, context: NamedContext): Promise<void> {
    const { state: files, image } = await context.load();
    state.dispatched = true;
    state.state = files;
    if (image === undefined) return;
    image.created = undefined;
    state.image = image;
    if (image.platform.os !== '' && image.platform.architecture !== '') state.platform = image.platform;
  }

  async #resolveImage(state: StageState): Promise<void> {
    const written = state.baseName;
    const platform = state.platform ?? this.#target;
    state.baseName = withDefaultTag(parseReference(written)).text;
    const named = this.named(state.baseName, state);
    if (named !== undefined) {
      const { state: files, image } = await named.load();
      state.baseImage = (image ?? ImageConfig.empty(platform)).clone();
      state.image = state.baseImage.clone();
      state.image.created = undefined;
      state.state = { ...files, platform };
      state.platform = platform;
      return;
    }
    await this.#pinImage(state, written, platform);
  }

  async #pinImage(state: StageState, written: string, wanted: Platform): Promise<void> {
    const { options, images, sourceMap } = this.#request;
    const prefix = options.multiPlatform ? `[${platformId(wanted)} internal]` : '[internal]';
    const resolved = await images
      .resolve({
        ref: state.baseName,
        platform: platformToPb(wanted),
        resolveMode: options.resolveMode,
        logName: `${prefix} load metadata for ${state.baseName}`,
      })
      .catch((thrown: unknown) => {
        throw this.#unresolved(BuildError.from(thrown), written);
      });
    const image = ImageConfig.parse(resolved.config);
    state.baseImage = image.clone();
    image.created = undefined;
    state.image = image;
    const platform = this.#detectPlatform(state, image, wanted);
    state.platform = platform;
    state.baseName = withDigest(parseReference(resolved.ref), resolved.digest).text;
    // An image without layers has no files to start from.
    if ((image.diffIds ?? []).length === 0 && image.history.every(({ emptyLayer }) => emptyLayer === true)) {
      state.state = scratch();
      return;
    }
    lintBaseImagePlatform(written, platform, image.platform, state.stage, this.#lint);
    const name = state.nameStep(`FROM ${state.baseName}`, { platform: options.multiPlatform ? platform : undefined });
    state.state = imageSource(state.baseName, {
      platform,
      resolveMode: options.resolveMode,
      name,
      description: { 'com.docker.dockerfile.v1.command': state.stage.code },
      location: { map: sourceMap, ranges: state.stage.ranges },
    });
  }

  /** The reason, and a stage or common image with a name like it. */
  #unresolved(error: BuildError, written: string): BuildError {
    const repositories = ['alpine', 'busybox', 'centos', 'debian', 'golang', 'ubuntu', 'fedora'];
    const common = repositories.flatMap((name) => [name, `${name}:latest`]);
    const hint = didYouMean(written, [...this.#stageNames(), ...common]);
    return new BuildError(error.kind, `${written}: ${error.message}${hint}`, error.detail, { cause: error });
  }

  /** Without a platform asked for, an image of another one is built as what it is, if this machine can run it. */
  #detectPlatform(state: StageState, { platform }: ImageConfig, wanted: Platform): Platform {
    const same = (other: Platform): boolean => other.os === platform.os && other.architecture === platform.architecture;
    if (state.platform !== undefined || this.#request.targetPlatform !== undefined || same(wanted)) return wanted;
    return same(this.#build) ? this.#build : wanted;
  }
}
