/** Merge steps: filesystems laid over one another without copying, and graphs taken over as they came. */
import type { Definition } from '../proto/gen/pb/ops_pb.ts';
import { type Edge, type Graph, parseDefinition, type Vertex } from './definition.ts';
import {
  type Output,
  type SourceLocation,
  type State,
  type StepOptions,
  scratch,
  stateOf,
  type VertexBuilder,
  withOutput,
} from './state.ts';

/** The later a state, the higher its layer; scratch adds nothing. The surroundings are those of the first. */
export function merge(states: readonly State[], options: StepOptions = {}): State {
  const layers = states.filter((state) => state.output !== undefined);
  const [first, ...others] = layers;
  if (first === undefined) return scratch();
  if (others.length === 0) return first;
  const outputs = layers.map(({ output }) => output).filter((output) => output !== undefined);
  const builder: VertexBuilder = {
    inputs: outputs,
    options,
    caps: ['mergeop'],
    // One entry per layer, even when two layers are the same input.
    encode: (inputOf) => ({ op: { case: 'merge', value: { inputs: outputs.map((output) => ({ input: inputOf(output) })) } } }),
  };
  return withOutput(first, { vertex: () => builder, index: 0 });
}

/** A graph that someone else marshalled (`input:` contexts): ops, metadata and locations are kept byte for byte. */
export function importedState(definition: Definition): State {
  const graph: Graph = parseDefinition(definition);
  if (graph.root === undefined) return scratch();
  const builders = new Map<Vertex, VertexBuilder>();
  const builderOf = (vertex: Vertex): VertexBuilder => {
    const known = builders.get(vertex);
    if (known !== undefined) return known;
    const made = importedVertex(definition, vertex, outputOf);
    builders.set(vertex, made);
    return made;
  };
  const outputOf = ({ vertex, output }: Edge): Output => ({ vertex: () => builderOf(vertex), index: output });
  return stateOf(outputOf(graph.root));
}

function importedVertex(definition: Definition, vertex: Vertex, outputOf: (edge: Edge) => Output): VertexBuilder {
  const source = vertex.sources[0];
  const { filename = '', language = '', data = new Uint8Array(), ranges = [] } = source ?? {};
  const location: SourceLocation | undefined = source === undefined ? undefined : { map: { filename, language, data }, ranges };
  return {
    inputs: vertex.inputs.map(outputOf), // names them only; the vertices behind are made when marshalling asks
    options: { location },
    caps: [],
    encode: () => ({}),
    raw: { bytes: vertex.bytes, metadata: definition.metadata[vertex.digest] },
  };
}
