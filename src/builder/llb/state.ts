/**
 * Graphs made by our own frontend. A State is a root filesystem still to be built, plus what the next command inherits (environment,
 * directory, user, platform); it never changes, every step gives a new one. `marshal` writes the graph below a state as a
 * `pb.Definition` whose op bytes are those Go's LLB client writes for the same steps, so that a vertex of ours and a vertex of
 * BuildKit's have the same digest.
 */
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { type VertexDigest, vertexDigestOf } from '../../core/digest.ts';
import { BuildError, type SourceRange } from '../../core/errors.ts';
import { MAX_MESSAGE_BYTES } from '../../core/limits.ts';
import {
  type Definition,
  DefinitionSchema,
  InputSchema,
  type NetMode,
  type OpMetadata,
  OpMetadataSchema,
  OpSchema,
  type SecurityMode,
} from '../proto/gen/pb/ops_pb.ts';
import { Env } from './env.ts';
import { type Platform, platformToPb } from './platform.ts';

/** What a step's output is, before anything is encoded: which vertex, which of its outputs. */
export interface Output {
  /** Asked for at marshal time only, so that a source may be completed after steps that use it were added. */
  readonly vertex: () => VertexBuilder;
  readonly index: number;
  /** The platform the output pins its states to. */
  readonly platform?: Platform;
}

export interface State {
  /** Undefined is scratch. */
  readonly output: Output | undefined;
  readonly env: Env;
  readonly dir: string;
  readonly user: string;
  readonly hostname: string;
  readonly platform: Platform | undefined;
  readonly network: NetMode;
  readonly security: SecurityMode;
}

/** A file the steps were written in, and how that file itself was loaded (for clients that show where it came from). */
export interface SourceMap {
  readonly filename: string;
  readonly language: string;
  readonly data: Uint8Array;
  readonly definition?: Definition;
}
export interface SourceLocation {
  readonly map: SourceMap;
  readonly ranges: readonly SourceRange[];
}

/** What may be said about a step without changing what it is. */
export interface StepOptions {
  /** The name progress shows (`llb.customname`). */
  readonly name?: string;
  readonly description?: Readonly<Record<string, string>>;
  readonly ignoreCache?: boolean;
  readonly progressGroup?: { readonly id: string; readonly name: string; readonly weak: boolean };
  readonly linuxResources?: MessageInitShape<typeof OpMetadataSchema>['linuxResources'];
  readonly location?: SourceLocation | undefined;
}

export type OpInit = Exclude<MessageInitShape<typeof OpSchema>, { readonly $typeName: string }>;

/** One vertex still to be encoded. */
export interface VertexBuilder {
  /** In the order their definitions come in the list. */
  readonly inputs: readonly Output[];
  readonly options: StepOptions;
  readonly caps: readonly string[];
  /** Called once the digests of all inputs are known; `inputOf` names one and remembers it as an input of the op. */
  readonly encode: (inputOf: (output: Output) => bigint, defaults: MarshalDefaults) => OpInit;
  /** Bytes that came from elsewhere and must stay as they are. */
  readonly raw?: { readonly bytes: Uint8Array; readonly metadata: OpMetadata | undefined };
}

export interface MarshalDefaults {
  /** Of ops whose own state names none. */
  readonly platform: Platform;
}

export function stateOf(output: Output | undefined): State {
  return {
    output,
    env: Env.empty,
    dir: '/',
    user: '',
    hostname: '',
    platform: output?.platform,
    network: 0,
    security: 0,
  };
}
export const scratch = (): State => stateOf(undefined);

/** The same surroundings on another filesystem. */
export function withOutput(state: State, output: Output | undefined): State {
  return { ...state, output, platform: output?.platform ?? state.platform };
}

/** An output to be named later: the build context, whose paths are known once every step has been seen. */
export function deferredOutput(): { readonly output: Output; readonly resolve: (target: Output | undefined) => void } {
  let target: Output | undefined;
  const output: Output = {
    index: 0,
    vertex: () => {
      if (target === undefined) throw new BuildError('internal', 'a deferred output was used before it was resolved');
      return target.vertex();
    },
  };
  return {
    output,
    resolve: (found) => {
      target = found;
    },
  };
}

interface Encoded {
  readonly digest: VertexDigest;
  readonly builder: VertexBuilder;
}

/**
 * The graph below `state`, inputs before what uses them, each op once. Scratch gives the empty definition.
 * @throws BuildError `invalid-input` when the graph would not fit into one message to the client.
 */
export function marshal(state: State, defaults: MarshalDefaults): Definition {
  const definition = create(DefinitionSchema);
  if (state.output === undefined) return definition;
  const list = new DefinitionList(definition, defaults);
  list.addBelow(state.output);
  list.finish(state.output);
  return definition;
}

/** The digest of the vertex behind a state, as `marshal` names it. */
export function headOf(definition: Definition): VertexDigest | undefined {
  const before = definition.def.at(-2);
  return before === undefined ? undefined : vertexDigestOf(before);
}

class DefinitionList {
  readonly #definition: Definition;
  readonly #defaults: MarshalDefaults;
  readonly #encoded = new Map<VertexBuilder, Encoded>();
  readonly #listed = new Set<VertexDigest>();
  readonly #locations = new LocationTable();
  #sizeBytes = 0;

  constructor(definition: Definition, defaults: MarshalDefaults) {
    this.#definition = definition;
    this.#defaults = defaults;
  }

  /** Depth first with a stack of our own: a Dockerfile of ten thousand steps is a chain as deep. */
  addBelow(root: Output): void {
    const stack = [{ builder: root.vertex(), next: 0 }];
    for (let frame = stack.at(-1); frame !== undefined; frame = stack.at(-1)) {
      const { builder, next } = frame;
      const input = this.#encoded.has(builder) ? undefined : builder.inputs[next];
      if (input !== undefined) {
        frame.next += 1;
        const below = input.vertex();
        if (!this.#encoded.has(below)) stack.push({ builder: below, next: 0 });
        continue;
      }
      stack.pop();
      if (!this.#encoded.has(builder)) this.#add(builder);
    }
  }

  #add(builder: VertexBuilder): void {
    const bytes = builder.raw?.bytes ?? this.#encode(builder);
    const digest = vertexDigestOf(bytes);
    this.#encoded.set(builder, { digest, builder });
    this.#describe(digest, builder);
    if (this.#listed.has(digest)) return;
    this.#listed.add(digest);
    this.#definition.def.push(bytes);
    this.#sizeBytes += bytes.byteLength;
    if (this.#sizeBytes > MAX_MESSAGE_BYTES) {
      throw new BuildError('invalid-input', `the build graph is larger than ${MAX_MESSAGE_BYTES} bytes`, {
        hint: 'every RUN step carries all ENV and ARG values that stand above it; use fewer or shorter ones',
      });
    }
  }

  #encode(builder: VertexBuilder): Uint8Array {
    const inputs: { digest: VertexDigest; index: bigint }[] = [];
    const inputOf = (output: Output): bigint => {
      const found = this.#encoded.get(output.vertex());
      if (found === undefined) throw new BuildError('internal', 'an op names an input that it did not declare');
      const index = BigInt(output.index);
      const known = inputs.findIndex((input) => input.digest === found.digest && input.index === index);
      if (known !== -1) return BigInt(known);
      return BigInt(inputs.push({ digest: found.digest, index }) - 1);
    };
    const { op, ...rest } = builder.encode(inputOf, this.#defaults);
    // Go's client always writes the worker constraints, empty as they are, and members of a oneof after all other fields.
    const fields = create(OpSchema, { ...rest, inputs: inputs.map((input) => create(InputSchema, input)), constraints: {} });
    const kind = create(OpSchema, op === undefined ? {} : { op });
    return Buffer.concat([toBinary(OpSchema, fields), toBinary(OpSchema, kind)]);
  }

  #describe(digest: VertexDigest, builder: VertexBuilder): void {
    const metadata = builder.raw === undefined ? metadataOf(builder) : builder.raw.metadata;
    const known = this.#definition.metadata[digest];
    if (metadata !== undefined)
      this.#definition.metadata[digest] = known === undefined ? metadata : mergeMetadata(known, metadata);
    this.#locations.add(digest, builder.options.location);
  }

  finish(root: Output): void {
    const digest = this.#encoded.get(root.vertex())?.digest ?? '';
    const terminator = toBinary(OpSchema, create(OpSchema, { inputs: [{ digest, index: BigInt(root.index) }] }));
    const caps: Record<string, boolean> = { constraints: true, platform: true };
    for (const metadata of Object.values(this.#definition.metadata)) {
      if (metadata.ignoreCache) caps['meta.ignorecache'] = true;
      if (Object.keys(metadata.description).length > 0) caps['meta.description'] = true;
      if (metadata.exportCache !== undefined) caps['meta.exportcache'] = true;
    }
    this.#definition.def.push(terminator);
    this.#definition.metadata[vertexDigestOf(terminator)] = create(OpMetadataSchema, { caps });
    this.#locations.writeTo(this.#definition);
  }
}

function metadataOf({ options, caps }: VertexBuilder): OpMetadata {
  const description = { ...options.description, ...(options.name === undefined ? {} : { 'llb.customname': options.name }) };
  return create(OpMetadataSchema, {
    ignoreCache: options.ignoreCache ?? false,
    description,
    caps: Object.fromEntries(caps.map((cap) => [cap, true])),
    ...(options.progressGroup === undefined ? {} : { progressGroup: options.progressGroup }),
    ...(options.linuxResources === undefined ? {} : { linuxResources: options.linuxResources }),
  });
}

/** Two equal ops may have been added with different words about them; the later words win, flags stay set. */
function mergeMetadata(first: OpMetadata, second: OpMetadata): OpMetadata {
  return create(OpMetadataSchema, {
    ignoreCache: first.ignoreCache || second.ignoreCache,
    description: { ...first.description, ...second.description },
    caps: { ...first.caps, ...second.caps },
    ...pick('exportCache', first, second),
    ...pick('progressGroup', first, second),
    ...pick('linuxResources', first, second),
  });
}
function pick<K extends keyof OpMetadata>(key: K, first: OpMetadata, second: OpMetadata): Partial<OpMetadata> {
  const value = second[key] ?? first[key];
  return value === undefined ? {} : ({ [key]: value } as Partial<OpMetadata>);
}

/** Source files by identity, locations by vertex. */
class LocationTable {
  readonly #maps: SourceMap[] = [];
  readonly #locations = new Map<VertexDigest, SourceLocation[]>();

  add(digest: VertexDigest, location: SourceLocation | undefined): void {
    const known = this.#locations.get(digest) ?? [];
    this.#locations.set(digest, known);
    if (location === undefined) return;
    if (!this.#maps.includes(location.map)) this.#maps.push(location.map);
    known.push(location);
  }

  writeTo(definition: Definition): void {
    const locations = Object.fromEntries(
      Array.from(this.#locations, ([digest, list]) => [
        digest,
        { locations: list.map(({ map, ranges }) => ({ sourceIndex: this.#maps.indexOf(map), ranges: [...ranges] })) },
      ]),
    );
    const infos = this.#maps.map(({ filename, language, data, definition: loaded }) => ({
      filename,
      language,
      data,
      ...(loaded === undefined ? {} : { definition: loaded }),
    }));
    definition.Source = create(DefinitionSchema, { Source: { locations, infos } }).Source;
  }
}

/** The platform an op is written with. */
export const platformOr = (platform: Platform | undefined, defaults: MarshalDefaults) =>
  platformToPb(platform ?? defaults.platform);
