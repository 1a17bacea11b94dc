/** The Dockerfile frontend: loads the file, follows `# syntax=`, builds a graph per platform, hands back refs and image configs. */
import { BuildError, GRPC } from '../../../core/errors.ts';
import { normalizePlatform, type Platform, platformFromPb, platformId } from '../../llb/platform.ts';
import { marshal } from '../../llb/state.ts';
import { type GoValue, goJson } from '../../registry/go-json.ts';
import type { Bridge, Frontend, FrontendRef, FrontendRequest, FrontendResult } from '../ports.ts';
import { BuildContext, type LoadedDockerfile } from './build-context.ts';
import { type Converted, convertDockerfile } from './convert.ts';
import type { ConvertRequest } from './convert-request.ts';
import { findSyntax } from './directives.ts';
import { located } from './errors.ts';
import { ImageResolver } from './image-resolver.ts';
import type { LintWarning } from './lint.ts';
import { parseOptions } from './options.ts';
import { answerSubrequest } from './subrequests.ts';

export const dockerfileFrontend: Frontend = {
  async run(bridge, request) {
    const missing = missingCap(request.options.get('frontend.caps') ?? '');
    if (missing !== undefined && !missing.forward) throw missing.error;
    const build = await DockerfileBuild.open(bridge, request);
    const forwarded = await build.forward();
    if (forwarded !== undefined) return forwarded;
    if (missing !== undefined) throw missing.error;
    return await build.run();
  },
};

const CAPS = new Set(['inputs', 'subrequests', 'contexts', 'gitquerystring'].map((name) => `moby.buildkit.frontend.${name}`));

/** A capability the client asks for and this frontend lacks. With `+forward` another frontend may have it. */
function missingCap(text: string): { readonly error: BuildError; readonly forward: boolean } | undefined {
  let found: { error: BuildError; forward: boolean } | undefined;
  for (const cap of text.split(',').filter(Boolean)) {
    const [name = ''] = cap.split('+', 1);
    if (CAPS.has(name)) continue;
    const wire = { 'errdefs.FrontendCap+json': JSON.stringify({ name }) };
    const error = new BuildError('unsupported', `unsupported frontend capability ${name}`, { wire });
    const forward = cap.includes('+forward');
    if (!forward) return { error, forward };
    found = { error, forward: true };
  }
  return found;
}

class DockerfileBuild {
  readonly #bridge: Bridge;
  readonly #request: FrontendRequest;
  readonly #worker: Platform;
  readonly #context: BuildContext;
  readonly #dockerfile: LoadedDockerfile;
  readonly #options: ReturnType<typeof parseOptions>;

  private constructor(
    bridge: Bridge,
    request: FrontendRequest,
    loaded: { worker: Platform; context: BuildContext; dockerfile: LoadedDockerfile; options: ReturnType<typeof parseOptions> },
  ) {
    this.#bridge = bridge;
    this.#request = request;
    this.#worker = loaded.worker;
    this.#context = loaded.context;
    this.#dockerfile = loaded.dockerfile;
    this.#options = loaded.options;
  }

  static async open(bridge: Bridge, request: FrontendRequest): Promise<DockerfileBuild> {
    const [first] = bridge.workerPlatforms;
    if (first === undefined) throw new BuildError('internal', 'the worker has no platform');
    const worker = normalizePlatform(platformFromPb(first));
    const options = parseOptions(request.options, worker);
    const context = await BuildContext.open({ bridge, request, options, worker });
    const dockerfile = await context.loadDockerfile();
    return new DockerfileBuild(bridge, request, { worker, context, dockerfile, options });
  }

  /** Another frontend's answer, when the file or a build argument names one and nobody followed it yet. */
  async forward(): Promise<FrontendResult | undefined> {
    const { options } = this.#request;
    if (options.has('cmdline')) return undefined;
    const argument = options.get('build-arg:BUILDKIT_SYNTAX');
    if (argument !== undefined) {
      const ref = argument.trim().split(' ', 1)[0] ?? '';
      return await this.#forwardTo(ref, argument).catch((thrown: unknown) => {
        const error = BuildError.from(thrown);
        throw error.detail.source === undefined ? error.wrap(`failed with build-arg:BUILDKIT_SYNTAX = ${argument}`) : error;
      });
    }
    const { sourceMap } = this.#dockerfile;
    const syntax = findSyntax(new TextDecoder().decode(sourceMap.data));
    if (syntax === undefined) return undefined;
    return await this.#forwardTo(syntax.ref, syntax.cmdline).catch((thrown: unknown) => {
      throw located(thrown, sourceMap, syntax.ranges);
    });
  }

  #forwardTo(source: string, cmdline: string): Promise<FrontendResult> {
    const options = new Map([...this.#request.options, ['cmdline', cmdline], ['source', source]]);
    return this.#bridge.forward({ frontend: 'gateway.v0', options, inputs: this.#request.inputs });
  }

  async run(): Promise<FrontendResult> {
    const { targetPlatforms, multiPlatform } = this.#options;
    const platforms = targetPlatforms.length === 0 ? [undefined] : targetPlatforms;
    const images = new ImageResolver(this.#bridge);
    const requestId = this.#request.options.get('requestid');
    if (requestId !== undefined) return await this.#answer(requestId, images);
    const results = await Promise.all(
      platforms.map(async (targetPlatform, i) => {
        const converted = await convertDockerfile(this.#conversion(images, targetPlatform, i === 0));
        const definition = marshal(converted.state, { platform: converted.platform });
        return { converted, ref: await this.#bridge.solve(definition) };
      }),
    );
    return resultOf(results, multiPlatform);
  }

  /** A question instead of a build; it is answered for the platform of the worker. */
  async #answer(requestId: string, images: ImageResolver): Promise<FrontendResult> {
    const answer = await answerSubrequest(requestId, this.#conversion(images, undefined, true));
    if (answer === undefined) throw unsupportedRequest(requestId);
    return answer;
  }

  #conversion(images: ImageResolver, targetPlatform: Platform | undefined, mayWarn: boolean): ConvertRequest {
    return {
      bridge: this.#bridge,
      request: this.#request,
      options: this.#options,
      images,
      worker: this.#worker,
      sourceMap: this.#dockerfile.sourceMap,
      context: this.#context,
      targetPlatform,
      warn: (warning) => {
        if (mayWarn) this.#warn(warning); // other platforms would say the same again
      },
    };
  }

  #warn({ rule, message, description, url, ranges }: LintWarning): void {
    const { sourceMap, vertex } = this.#dockerfile;
    const line = ranges[0]?.start.line;
    const place = line === undefined ? '' : ` (line ${line})`;
    const { filename, language, data } = sourceMap;
    this.#bridge.warn({
      vertex,
      level: 1,
      short: `${rule}: ${message}${place}`,
      detail: [description],
      url,
      source: { filename, language, data, ranges },
    });
  }
}

function unsupportedRequest(name: string): BuildError {
  return new BuildError('unsupported', `unsupported request ${name}`, {
    grpcCode: GRPC.UNIMPLEMENTED,
    wire: { 'errdefs.Subrequest+json': JSON.stringify({ name }) },
  });
}

interface PlatformResult {
  readonly converted: Converted;
  readonly ref: FrontendRef | undefined;
}

/** Keys of metadata: buildkit-wire.md section 5.4. */
function resultOf(results: readonly PlatformResult[], multiPlatform: boolean): FrontendResult {
  const encoder = new TextEncoder();
  const metadata = new Map<string, Uint8Array>();
  const refs = new Map<string, FrontendRef | undefined>();
  const platforms: GoValue[] = [];
  for (const { converted, ref } of results) {
    const { image, baseImage, epochS } = converted;
    const platform = exportPlatform(converted.platform, image.platform);
    const id = platformId(normalizePlatform(converted.platform));
    const suffix = multiPlatform ? `/${id}` : '';
    refs.set(id, ref);
    metadata.set(`containerimage.config${suffix}`, encoder.encode(image.toJson()));
    if (baseImage !== undefined) metadata.set(`containerimage.base.config${suffix}`, encoder.encode(baseImage.toJson()));
    if (epochS !== undefined) metadata.set(`source.date.epoch${suffix}`, encoder.encode(`${epochS}`));
    platforms.push({ ID: id, Platform: platformJson(platform) });
  }
  metadata.set('refs.platforms', encoder.encode(goJson({ Platforms: platforms })));
  const [first] = refs.values();
  return { refs: multiPlatform ? { kind: 'map', refs } : { kind: 'single', ref: first }, metadata };
}

/** Windows images add the version of the system they are made for. */
function exportPlatform(wanted: Platform, image: Platform): Platform {
  const platform = normalizePlatform(wanted);
  if (platform.os !== 'windows' || image.os !== 'windows') return platform;
  const osVersion = platform.osVersion || image.osVersion;
  const osFeatures = platform.osFeatures.length > 0 ? platform.osFeatures : image.osFeatures;
  return normalizePlatform({ ...platform, osVersion, osFeatures });
}

function platformJson({ architecture, os, osVersion, osFeatures, variant }: Platform): GoValue {
  return {
    architecture,
    os,
    'os.version': osVersion === '' ? undefined : osVersion,
    'os.features': osFeatures.length === 0 ? undefined : osFeatures,
    variant: variant === '' ? undefined : variant,
  };
}
