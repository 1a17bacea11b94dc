import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { vertexDigestOf } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import { type Definition, DefinitionSchema, OpSchema } from '../proto/gen/pb/ops_pb.ts';
import { parseDefinition, sourceOf } from './definition.ts';

type OpInit = MessageInitShape<typeof OpSchema>;

const encode = (op: OpInit): Uint8Array => toBinary(OpSchema, create(OpSchema, op));
const inputOf = (bytes: Uint8Array, index = 0n) => ({ digest: vertexDigestOf(bytes), index });
const source = (identifier: string): Uint8Array => encode({ op: { case: 'source', value: { identifier } } });
const mkfile = (path: string, ...on: Uint8Array[]): Uint8Array =>
  encode({
    inputs: on.map((bytes) => inputOf(bytes)),
    op: {
      case: 'file',
      value: {
        actions: [{ input: on.length > 0 ? 0n : -1n, secondaryInput: -1n, action: { case: 'mkfile', value: { path } } }],
      },
    },
  });
const definitionOf = (ops: Uint8Array[], target = ops.at(-1)): Definition =>
  create(DefinitionSchema, { def: [...ops, encode({ inputs: target === undefined ? [] : [inputOf(target)] })] });
const refuses = (definition: Definition, message: RegExp): void =>
  assert.throws(
    () => parseDefinition(definition),
    (error) => error instanceof BuildError && error.kind === 'invalid-input' && message.test(error.message),
  );

test('the digest of the received bytes names a vertex and the terminator names the root', () => {
  const base = source('docker-image://docker.io/library/busybox:latest');
  const step = mkfile('/a', base);
  const graph = parseDefinition(definitionOf([base, step]));
  assert.equal(graph.root?.vertex.digest, vertexDigestOf(step));
  assert.deepEqual(
    graph.vertices.map((vertex) => vertex.name),
    ['mkfile /a', 'docker-image://docker.io/library/busybox:latest'],
  );
  assert.equal(graph.root?.vertex.inputs[0]?.vertex, graph.vertices[1]);
});

test('an empty definition is scratch', () => {
  assert.deepEqual(parseDefinition(create(DefinitionSchema)), { root: undefined, vertices: [] });
});

test('a vertex that two others take is made once, after both in the list', () => {
  const base = source('local://context');
  const [left, right] = [mkfile('/l', base), mkfile('/r', base)];
  const both = encode({
    inputs: [inputOf(left), inputOf(right)],
    op: { case: 'merge', value: { inputs: [{ input: 0n }, { input: 1n }] } },
  });
  const graph = parseDefinition(definitionOf([base, left, right, both]));
  assert.deepEqual(
    graph.vertices.map((vertex) => vertex.name),
    ['merge (mkfile /l, mkfile /r)', 'mkfile /r', 'mkfile /l', 'local://context'],
  );
});

test('a chain of 100 000 vertices is parsed without a deep stack', () => {
  const ops = [source('local://context')];
  for (let i = 1; i < 100_000; i++) ops.push(mkfile(`/${i}`, ops.at(-1) as Uint8Array));
  assert.equal(parseDefinition(definitionOf(ops)).vertices.length, 100_000);
});

test('a tower of merges whose names would double at every level keeps short names', () => {
  const ops = [source('local://context')];
  for (let i = 0; i < 60; i++) {
    const below = inputOf(ops.at(-1) as Uint8Array);
    ops.push(encode({ inputs: [below, below], op: { case: 'merge', value: { inputs: [{ input: 0n }, { input: 1n }] } } }));
  }
  const name = parseDefinition(definitionOf(ops)).root?.vertex.name ?? '';
  assert.ok(name.startsWith('merge (merge (') && name.length < 5000);
});

test('malformed graphs are refused with what is wrong', () => {
  const base = source('local://context');
  const step = mkfile('/a', base);
  refuses(create(DefinitionSchema, { def: [base] }), /invalid LLB with 1 vertexes/);
  refuses(create(DefinitionSchema, { def: [base, new Uint8Array([0xff, 0xff])] }), /failed to parse llb proto op/);
  refuses(create(DefinitionSchema, { def: [base, encode({})] }), /no inputs on last vertex/);
  refuses(definitionOf([step]), /invalid missing input digest sha256:/);
  refuses(definitionOf([base], step), /invalid missing input digest sha256:/);
  refuses(definitionOf([encode({ inputs: [{ digest: 'sha256:xyz' }] })]), /is not a digest/);
  refuses(definitionOf([base, encode({ inputs: [inputOf(base, -1n)] })]), /invalid input 0 output index -1/);
  refuses(create(DefinitionSchema, { def: [base, encode({ inputs: [inputOf(base, 1n)] })] }), /output 1 of vertex .* it has 1$/);
});

test('too many vertices are refused before any of them is decoded', () => {
  const broken = Array.from({ length: 12 }, () => new Uint8Array([0xff]));
  assert.throws(
    () => parseDefinition(create(DefinitionSchema, { def: broken }), { maxVertices: 10 }),
    /invalid LLB with 12 vertexes, at most 10 are allowed/,
  );
});

for (const [what, op, message] of [
  ['no op at all', { inputs: [] }, /invalid nil op/],
  ['exec without meta', { op: { case: 'exec', value: {} } }, /exec op with no meta/],
  ['exec without args', { op: { case: 'exec', value: { meta: {} } } }, /exec op with no args/],
  ['exec without mounts', { op: { case: 'exec', value: { meta: { args: ['a'] } } } }, /exec op with no mounts/],
  [
    'exec without root',
    { op: { case: 'exec', value: { meta: { args: ['a'] }, mounts: [{ dest: '/x', input: -1n }] } } },
    /exec op with no rootfs/,
  ],
  [
    'exec mount of an input that is not there',
    { op: { case: 'exec', value: { meta: { args: ['a'] }, mounts: [{ dest: '/', input: 3n }] } } },
    /invalid mount input index 3/,
  ],
  ['file without actions', { op: { case: 'file', value: {} } }, /file op with no actions/],
  [
    'file action on a later action',
    { op: { case: 'file', value: { actions: [{ input: 0n, secondaryInput: -1n }] } } },
    /invalid input index 0 of file action 0/,
  ],
  ['diff without sides', { op: { case: 'diff', value: {} } }, /diff op with nil lower or upper input/],
  ['merge of nothing there', { op: { case: 'merge', value: { inputs: [{ input: 0n }] } } }, /invalid merge input index 0/],
  ['passthrough without id', { op: { case: 'passthrough', value: { outputs: [0n] } } }, /passthrough op with no id/],
] as const satisfies readonly (readonly [string, OpInit, RegExp])[]) {
  test(`an op is refused: ${what}`, () => refuses(definitionOf([encode(op)]), message));
}

test('description, options and source locations travel with the vertex', () => {
  const base = source('docker-image://busybox');
  const digest = vertexDigestOf(base);
  const definition = definitionOf([base]);
  Object.assign(
    definition,
    create(DefinitionSchema, {
      def: definition.def,
      metadata: {
        [digest]: { ignoreCache: true, description: { 'llb.customname': '[1/2] FROM busybox' }, exportCache: { Value: false } },
      },
      Source: {
        infos: [{ filename: 'Dockerfile', language: 'Dockerfile', data: new TextEncoder().encode('FROM busybox\n') }],
        locations: { [digest]: { locations: [{ sourceIndex: 0, ranges: [{ start: { line: 1 }, end: { line: 1 } }] }] } },
      },
    }),
  );
  const graph = parseDefinition(definition);
  const vertex = graph.root?.vertex;
  assert.equal(vertex?.name, '[1/2] FROM busybox');
  assert.equal(vertex?.options.ignoreCache, true);
  assert.equal(vertex?.options.exportCache, false);
  assert.equal(sourceOf(graph, digest)?.filename, 'Dockerfile');
  assert.deepEqual(sourceOf(definition, digest)?.ranges, [{ start: { line: 1, character: 0 }, end: { line: 1, character: 0 } }]);
  assert.equal(sourceOf(graph, 'sha256:none'), undefined);
});
