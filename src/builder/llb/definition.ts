/**
 * A graph as it arrives on the wire: `pb.Definition` parsed, checked and linked (buildkit-wire.md section 2.4). A vertex is named by
 * the sha256 of its op exactly as received; nothing here ever encodes an op again, or equal steps of two builds would stop being one.
 */
import { fromBinary } from '@bufbuild/protobuf';
import { parseVertexDigest, type VertexDigest, vertexDigestOf } from '../../core/digest.ts';
import { BuildError, type ErrorSource, type SourceRange } from '../../core/errors.ts';
import { MAX_VERTICES } from '../../core/limits.ts';
import {
  type Definition,
  type LinuxResources,
  type Location,
  type Op,
  type OpMetadata,
  OpSchema,
  type Platform,
  type ProgressGroup,
  type Range,
} from '../proto/gen/pb/ops_pb.ts';
import { definitionJson } from './definition-json.ts';
import { checkOp, outputCountOf } from './op-check.ts';
import { nameOf } from './op-name.ts';

/** One output of a vertex. */
export interface Edge {
  readonly vertex: Vertex;
  /** Index of the output, from 0. */
  readonly output: number;
}

/** An op with its inputs. Immutable; the same digest in two graphs is the same vertex for the solver. */
export interface Vertex {
  /** sha256 of `bytes`. */
  readonly digest: VertexDigest;
  readonly op: Op;
  /** The op as received. */
  readonly bytes: Uint8Array;
  /** In the order of `op.inputs`. */
  readonly inputs: readonly Edge[];
  /** What progress shows: `llb.customname` of the description, else a name made of the op. */
  readonly name: string;
  readonly options: VertexOptions;
  /** Undefined when the op names none: the worker's own platform is meant. */
  readonly platform: Platform | undefined;
  /** Where the step stands in the user's input, most specific first; empty when the client sent no map. */
  readonly sources: readonly ErrorSource[];
}

/** What a client says about a step without changing what the step is: none of it reaches a cache key. */
export interface VertexOptions {
  readonly ignoreCache: boolean;
  readonly description: Readonly<Record<string, string>>;
  /** Undefined when the client leaves the choice to the exporter. */
  readonly exportCache: boolean | undefined;
  readonly progressGroup: ProgressGroup | undefined;
  readonly linuxResources: LinuxResources | undefined;
}

export interface Graph {
  /** Undefined stands for scratch: an empty filesystem that no step makes. */
  readonly root: Edge | undefined;
  /** Every vertex the root needs, each once, before the vertices it takes as input: the root is first. */
  readonly vertices: readonly Vertex[];
}

export interface GraphLimits {
  /** Ops in one definition. */
  readonly maxVertices: number;
}

interface Parsed {
  readonly digest: VertexDigest;
  readonly op: Op;
  readonly bytes: Uint8Array;
  readonly inputs: readonly Input[];
}
interface Input {
  readonly digest: VertexDigest;
  readonly output: number;
}

const EMPTY: Graph = { root: undefined, vertices: [] };

/**
 * Parses and links a definition. Works in one pass over a list, never by recursion: a chain may be as long as the limit allows.
 * @throws BuildError `invalid-input` for an op that does not decode or lacks what its kind needs, an input nobody defines, an
 *   output its vertex does not have, a cycle, a missing terminator, or more ops than `limits` allow.
 */
export function parseDefinition(definition: Definition, limits: GraphLimits = { maxVertices: MAX_VERTICES }): Graph {
  const { def } = definition;
  if (def.length === 0) return EMPTY;
  // The terminator is no vertex, so a graph of the allowed size has one entry more.
  if (def.length > limits.maxVertices + 1) {
    throw new BuildError('invalid-input', `invalid LLB with ${def.length} vertexes, at most ${limits.maxVertices} are allowed`);
  }
  if (def.length < 2) throw new BuildError('invalid-input', `invalid LLB with ${def.length} vertexes`);
  const parsed = def.map(parseOp);
  const target = targetOf(parsed.at(-1));
  const byDigest = new Map<VertexDigest, Parsed>();
  for (const entry of parsed.slice(0, -1)) byDigest.set(entry.digest, entry);
  for (const { inputs } of byDigest.values()) for (const input of inputs) lookUp(byDigest, input.digest);
  return link(definition, byDigest, target);
}

/** Where a step stands in the user's input, for the excerpt under an error. */
export function sourceOf(graph: Graph | Definition, digest: string): ErrorSource | undefined {
  if ('vertices' in graph) return graph.vertices.find((vertex) => vertex.digest === digest)?.sources[0];
  return sourcesOf(graph, digest)[0];
}

function parseOp(bytes: Uint8Array): Parsed {
  let op: Op;
  try {
    op = fromBinary(OpSchema, bytes);
  } catch (cause) {
    throw new BuildError('invalid-input', 'failed to parse llb proto op', {}, { cause });
  }
  const inputs = op.inputs.map((input, i) => {
    if (input.index < 0n || input.index > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new BuildError('invalid-input', `invalid input ${i} output index ${input.index}`);
    }
    return { digest: parseVertexDigest(input.digest), output: Number(input.index) };
  });
  return { digest: vertexDigestOf(bytes), op, bytes, inputs };
}

/** The last entry is no step: its only input names the result that is wanted. */
function targetOf(terminator: Parsed | undefined): Input {
  const target = terminator?.inputs[0];
  if (target === undefined) throw new BuildError('invalid-input', 'invalid LLB with no inputs on last vertex');
  return target;
}

function lookUp(byDigest: ReadonlyMap<VertexDigest, Parsed>, digest: VertexDigest): Parsed {
  const found = byDigest.get(digest);
  if (found === undefined) throw new BuildError('invalid-input', `invalid missing input digest ${digest}`);
  return found;
}

/** Depth first with a stack of our own; a vertex is made once all its inputs are. */
function link(definition: Definition, byDigest: ReadonlyMap<VertexDigest, Parsed>, target: Input): Graph {
  const made = new Map<VertexDigest, Vertex>();
  const open = new Set<VertexDigest>();
  const stack: { readonly parsed: Parsed; next: number }[] = [];
  const enter = (digest: VertexDigest): void => {
    if (made.has(digest)) return;
    if (open.has(digest)) throw new BuildError('invalid-input', `invalid LLB: vertex ${digest} depends on itself`);
    const parsed = lookUp(byDigest, digest);
    checkOp(parsed.op);
    open.add(digest);
    stack.push({ parsed, next: 0 });
  };
  const edgeTo = ({ digest, output }: Input): Edge => {
    const vertex = made.get(digest);
    if (vertex === undefined) throw new BuildError('internal', `vertex ${digest} was linked before it was made`);
    const count = outputCountOf(vertex.op);
    if (output >= count) {
      throw new BuildError('invalid-input', `invalid LLB: output ${output} of vertex ${digest} is wanted, it has ${count}`);
    }
    return { vertex, output };
  };
  enter(target.digest);
  for (let frame = stack.at(-1); frame !== undefined; frame = stack.at(-1)) {
    const input = frame.parsed.inputs[frame.next];
    if (input !== undefined) {
      frame.next += 1;
      enter(input.digest);
      continue;
    }
    stack.pop();
    open.delete(frame.parsed.digest);
    made.set(frame.parsed.digest, vertexOf(definition, frame.parsed, frame.parsed.inputs.map(edgeTo)));
  }
  return { root: edgeTo(target), vertices: [...made.values()].reverse() };
}

function vertexOf(definition: Definition, parsed: Parsed, inputs: readonly Edge[]): Vertex {
  const { digest, op, bytes } = parsed;
  const options = optionsOf(definition.metadata[digest]);
  const inputNames = inputs.map(({ vertex }) => vertex.name);
  return {
    digest,
    op,
    bytes,
    inputs,
    name: options.description['llb.customname'] ?? nameOf(op, inputNames),
    options,
    platform: op.platform,
    sources: sourcesOf(definition, digest),
  };
}

function optionsOf(metadata: OpMetadata | undefined): VertexOptions {
  return {
    ignoreCache: metadata?.ignoreCache ?? false,
    description: metadata?.description ?? {},
    exportCache: metadata?.exportCache?.Value,
    progressGroup: metadata?.progressGroup,
    linuxResources: metadata?.linuxResources,
  };
}

function sourcesOf(definition: Definition, digest: string): ErrorSource[] {
  const locations = definition.Source?.locations[digest]?.locations ?? [];
  return locations.map((location) => sourceAt(definition, location)).filter((source) => source !== undefined);
}

function sourceAt(definition: Definition, location: Location): ErrorSource | undefined {
  const info = definition.Source?.infos[location.sourceIndex];
  if (info === undefined) return undefined;
  const { filename, language, data, definition: loaded } = info;
  const ranges = location.ranges.map(rangeOf);
  return { filename, language, data, ranges, ...(loaded === undefined ? {} : { definition: definitionJson(loaded) }) };
}

function rangeOf(range: Range): SourceRange {
  const { start, end } = range;
  return {
    start: { line: start?.line ?? 0, character: start?.character ?? 0 },
    end: { line: end?.line ?? 0, character: end?.character ?? 0 },
  };
}
