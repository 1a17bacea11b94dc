/**
 * Makes an image again from its recipe, every step run anew on the same sources, and says whether it came out the same (M8). Files of
 * the client come from the store, images by digest; whatever cannot be had again is a reason why there is no verdict, never a verdict.
 */
import { randomBytes } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import { type Clock, rfc3339 } from '../../core/clock.ts';
import { parseDigest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import { Semaphore } from '../../core/semaphore.ts';
import type { WorkerPool } from '../../core/worker-pool.ts';
import type { BuildOutcome, BuildRequest } from '../build/build.ts';
import type { ContentStore } from '../content/ports.ts';
import type { Bridge, Frontend, FrontendRef, FrontendRequest, FrontendResult } from '../frontend/ports.ts';
import type { History } from '../history/history.ts';
import { parseDefinition, type Vertex } from '../llb/definition.ts';
import { type Definition, MountType, type OpMetadata, OpMetadataSchema } from '../proto/gen/pb/ops_pb.ts';
import type { Snapshots } from '../snapshot/ports.ts';
import { type Difference, diffImages } from './image-diff.ts';
import { isClientSource, type LocalResults } from './local-results.ts';
import { type Recipe, recipeFromJson } from './recipe.ts';
import type { SourcePins } from './source-pins.ts';

export const REPRODUCE_FRONTEND = 'cooper.reproduce.v0';

export interface ReproducibilityVerdict {
  /** `skipped`: the build cannot be repeated, and `reason` says why. `error`: repeating it failed. */
  readonly result: 'same' | 'different' | 'skipped' | 'error';
  /** RFC 3339. */
  readonly checkedAt: string;
  readonly seconds: number;
  readonly reason?: string;
  readonly was?: string;
  readonly now?: string;
  readonly differences?: readonly Difference[];
  /** Differences beyond those listed. */
  readonly more?: number;
}
export interface ReproducerDeps {
  readonly clock: Clock;
  readonly history: History;
  readonly content: ContentStore;
  readonly snapshots: Snapshots;
  readonly pool: WorkerPool;
  readonly locals: LocalResults;
  readonly solve: (request: BuildRequest, signal: AbortSignal) => Promise<BuildOutcome>;
  /** Of a build that has just ended. */
  readonly sourcesOf: (ref: string) => SourcePins | undefined;
  readonly onVerdict: (ref: string, verdict: ReproducibilityVerdict) => void;
}

/** No verdict, for a reason a user can read. */
class NotRepeatable extends BuildError {
  constructor(reason: string) {
    super('not-found', reason);
  }
}

export class Reproducer {
  readonly #deps: ReproducerDeps;
  readonly #one = new Semaphore(1);
  readonly #recipes = new Map<string, Recipe>();

  constructor(deps: ReproducerDeps) {
    this.#deps = deps;
  }

  get isBusy(): boolean {
    return this.#one.inUse > 0;
  }

  /** Solves the graphs of the recipe whose secret name is in the options; clients cannot know one. */
  readonly frontend: Frontend = {
    run: async (bridge, request) => {
      const recipe = this.#recipes.get(tokenOf(request));
      if (recipe === undefined) throw new BuildError('not-found', `invalid frontend: ${REPRODUCE_FRONTEND}`, { grpcCode: 2 });
      return await resultOf(recipe, bridge);
    },
  };

  /** One at a time; others wait. The verdict is also kept with the build's record. @throws BuildError `not-found` for an unknown build. */
  async check(ref: string, signal: AbortSignal): Promise<ReproducibilityVerdict> {
    const { clock, history, onVerdict } = this.#deps;
    if (history.find(ref) === undefined)
      throw new BuildError('not-found', `there is no build ${ref}`, { hint: 'cooper builds lists those that are kept' });
    using _turn = await this.#one.acquire(signal);
    const startedAtNs = clock.nowNs();
    const found = await this.#attempt(ref, signal).catch((thrown): Omit<ReproducibilityVerdict, 'checkedAt' | 'seconds'> => {
      const error = BuildError.from(thrown);
      return { result: error instanceof NotRepeatable ? 'skipped' : 'error', reason: error.message };
    });
    if (signal.aborted) throw BuildError.from(signal.reason);
    const endedAtNs = clock.nowNs();
    const verdict = { ...found, checkedAt: rfc3339(endedAtNs), seconds: Number(endedAtNs - startedAtNs) / 1e9 };
    history.note(ref, 'reproducibility', verdict);
    onVerdict(ref, verdict);
    return verdict;
  }

  async #attempt(ref: string, signal: AbortSignal): Promise<Omit<ReproducibilityVerdict, 'checkedAt' | 'seconds'>> {
    const { content, pool, history } = this.#deps;
    const kept = await history.noteOf(ref, 'recipe');
    if (kept === undefined) throw new NotRepeatable('the build made no image, or did not succeed');
    const recipe = recipeFromJson(kept);
    if (recipe === undefined) throw new NotRepeatable('the build is too large to be kept for repeating');
    refuseSecrets(recipe);
    await using _held = await this.#hold(recipe);
    using lease = content.lease();
    lease.add(parseDigest(recipe.manifest));
    const now = await this.#buildAgain(recipe, signal);
    if (now === recipe.manifest) return { result: 'same', was: recipe.manifest, now };
    lease.add(parseDigest(now));
    const diff = await diffImages({ content, pool, signal }, recipe.manifest, now);
    return { result: 'different', was: recipe.manifest, now, ...diff };
  }

  async #buildAgain(recipe: Recipe, signal: AbortSignal): Promise<string> {
    const token = randomBytes(16).toString('hex');
    const ref = `reproduce-${token}`;
    this.#recipes.set(token, recipe);
    using _locals = this.#deps.locals.replay(recipe.locals);
    try {
      const { descriptors } = await this.#deps.solve(requestOf(recipe, ref, token), signal);
      this.#comparePins(recipe, ref);
      const digest = descriptors.get(0)?.digest;
      if (digest === undefined) throw new BuildError('internal', 'repeating the build gave no image');
      return digest;
    } finally {
      this.#recipes.delete(token);
    }
  }

  /** A branch that has moved or a file that was replaced is another input, and says nothing about the build. */
  #comparePins(recipe: Recipe, ref: string): void {
    const sources = this.#deps.sourcesOf(ref);
    for (const [vertex, pin] of sources?.pins ?? []) {
      const was = recipe.pins.get(vertex);
      if (was !== undefined && was !== pin)
        throw new NotRepeatable(`${sources?.nameOf(vertex) ?? vertex} has changed: it was ${was} and is ${pin}`);
    }
  }

  /** Keeps the client's files from collection meanwhile. */
  async #hold(recipe: Recipe): Promise<AsyncDisposable> {
    await using stack = new AsyncDisposableStack();
    for (const vertex of verticesOf(recipe).filter(isClientSource)) {
      const id = recipe.locals.get(vertex.digest);
      if (id === undefined)
        throw new NotRepeatable(`${vertex.name}: the build did not need these files, for its steps came from the cache`);
      const snapshot = await this.#deps.snapshots.open(id);
      if (snapshot === undefined) throw new NotRepeatable(`${vertex.name}: these files were removed from the cache since`);
      stack.use(snapshot);
    }
    return stack.move();
  }
}

const tokenOf = ({ options }: FrontendRequest): string => options.get('token') ?? '';

const verticesOf = ({ results }: Recipe): Vertex[] =>
  [...results.values()].flatMap((definition) => (definition === undefined ? [] : parseDefinition(definition).vertices));

function refuseSecrets(recipe: Recipe): void {
  for (const { op, name } of verticesOf(recipe)) {
    if (op.op.case !== 'exec') continue;
    const { mounts, secretenv } = op.op.value;
    const secret = mounts.some(({ mountType }) => mountType === MountType.SECRET) || secretenv.length > 0;
    if (secret) throw new NotRepeatable(`${name} uses a secret, which only the client has`);
    if (mounts.some(({ mountType }) => mountType === MountType.SSH))
      throw new NotRepeatable(`${name} uses an ssh agent, which only the client has`);
  }
}

/** Names, pushes and the image store are left out: the copy is for comparing only. */
const LEFT_OUT = [
  'name',
  'push',
  'push-by-digest',
  'name-canonical',
  'dangling-name-prefix',
  'unpack',
  'dest',
  'tar',
  'registry.insecure',
];

function requestOf(recipe: Recipe, ref: string, token: string): BuildRequest {
  const attributes = new Map(recipe.exporter.attributes);
  for (const name of LEFT_OUT) attributes.delete(name);
  attributes.set('store', 'false');
  const { type } = recipe.exporter;
  if (type !== 'image' && !attributes.has('oci-mediatypes')) attributes.set('oci-mediatypes', String(type === 'oci'));
  return {
    ref,
    sessionId: '',
    frontend: REPRODUCE_FRONTEND,
    definition: undefined,
    options: new Map([['token', token]]),
    inputs: new Map(),
    exporters: [{ type: 'image', attributes }],
    cacheExports: [],
    cacheImports: [],
    entitlements: recipe.entitlements,
    internal: true,
    traceparent: undefined,
  };
}

async function resultOf({ results, multiPlatform, metadata }: Recipe, bridge: Bridge): Promise<FrontendResult> {
  const refs = new Map<string, FrontendRef | undefined>();
  for (const [platform, definition] of results) refs.set(platform, definition && (await bridge.solve(runAnew(definition))));
  return { refs: multiPlatform ? { kind: 'map', refs } : { kind: 'single', ref: refs.get('') }, metadata };
}

/** The same graph with every step but the sources told to ignore the cache. */
function runAnew(definition: Definition): Definition {
  const metadata: Record<string, OpMetadata> = { ...definition.metadata };
  for (const { digest, op } of parseDefinition(definition).vertices) {
    if (op.op.case !== 'source') metadata[digest] = { ...(metadata[digest] ?? create(OpMetadataSchema)), ignoreCache: true };
  }
  return { ...definition, metadata };
}
