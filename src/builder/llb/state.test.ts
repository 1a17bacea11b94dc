import assert from 'node:assert/strict';
import { test } from 'node:test';
import { vertexDigestOf } from '../../core/digest.ts';
import { parseDefinition } from './definition.ts';
import { Env } from './env.ts';
import { run } from './exec.ts';
import { file, parseOwner } from './file.ts';
import { importedState, merge } from './merge.ts';
import type { Platform } from './platform.ts';
import { imageSource, localSource } from './source.ts';
import { deferredOutput, headOf, marshal, type State, scratch, stateOf } from './state.ts';

const amd64: Platform = { os: 'linux', architecture: 'amd64', variant: '', osVersion: '', osFeatures: [] };
const defaults = { platform: amd64 };
const base = (): State => imageSource('docker.io/library/busybox:latest', { platform: amd64, name: '[1/2] FROM busybox' });
const nothing = { mounts: [], secrets: [], ssh: [], extraHosts: [], ulimits: [] };
const sh = (state: State, command: string): State => run(state, { ...nothing, args: ['/bin/sh', '-c', command] });

test('a marshalled graph parses back to the steps it was made of', () => {
  const state = sh(file(base(), [{ kind: 'mkdir', path: '/app', mode: 0o755, makeParents: true }]), 'make');
  const graph = parseDefinition(marshal(state, defaults));
  assert.deepEqual(
    graph.vertices.map((vertex) => vertex.name),
    ['/bin/sh -c make', 'mkdir /app', '[1/2] FROM busybox'],
  );
});

test('the same steps give the same bytes', () => {
  const make = () => marshal(sh(base(), 'make'), defaults);
  assert.deepEqual(make().def, make().def);
});

test('scratch is the empty definition, and steps on it have no base', () => {
  assert.deepEqual(marshal(scratch(), defaults).def, []);
  const made = file(scratch(), [{ kind: 'mkfile', path: 'a', mode: 0o644, data: new Uint8Array([1]) }]);
  const { op } = parseDefinition(marshal(made, defaults)).root?.vertex.op ?? {};
  assert.equal(op?.case === 'file' && op.value.actions[0]?.input, -1n);
});

test('several actions of one step build on each other and share inputs', () => {
  const context = localSource('context', { sessionId: 's' });
  const copied = file(base(), [
    { kind: 'copy', from: context, src: '/a', dest: '/x/' },
    { kind: 'copy', from: context, src: '/b', dest: '/y/.' },
  ]);
  const { op, inputs } = parseDefinition(marshal(copied, defaults)).root?.vertex.op ?? {};
  assert.equal(inputs?.length, 2);
  assert.ok(op?.case === 'file');
  assert.deepEqual(
    op.value.actions.map((action) => [action.input, action.secondaryInput, action.output]),
    [
      [0n, 1n, -1n],
      [2n, 1n, 0n],
    ],
  );
  assert.deepEqual(
    op.value.actions.map(({ action }) => action.case === 'copy' && action.value.dest),
    ['/x/', '/y/.'],
  );
});

test('a writable bind mount has an output of its own and the root keeps its place in target order', () => {
  const from = localSource('context', { sessionId: 's' });
  const state = run(base(), {
    ...nothing,
    args: ['true'],
    mounts: [
      { kind: 'bind', target: '/b', from, readonly: false },
      { kind: 'cache', target: '/a', from: scratch(), readonly: false, id: '/a', sharing: 'locked' },
    ],
  });
  const { op } = parseDefinition(marshal(state, defaults)).root?.vertex.op ?? {};
  assert.ok(op?.case === 'exec');
  assert.deepEqual(
    op.value.mounts.map((mount) => [mount.dest, mount.input, mount.output]),
    [
      ['/', 0n, 0n],
      ['/a', -1n, -1n],
      ['/b', 1n, 1n],
    ],
  );
});

test('a deferred output takes its place when the graph is marshalled', () => {
  const context = deferredOutput();
  const state = file(base(), [{ kind: 'copy', from: stateOf(context.output), src: '/', dest: '/' }]);
  context.resolve(localSource('context', { sessionId: 's', followPaths: ['a'] }).output);
  const names = parseDefinition(marshal(state, defaults)).vertices.map((vertex) => vertex.name);
  assert.ok(names.includes('local://context'));
});

test('merging leaves scratch out and one layer alone is itself', () => {
  const one = base();
  assert.equal(merge([scratch(), one]), one);
  const both = parseDefinition(marshal(merge([one, sh(scratch(), 'true')]), defaults));
  assert.equal(both.root?.vertex.op.op.case, 'merge');
  assert.equal(both.root?.vertex.platform, undefined);
});

test('an imported graph keeps its bytes and grows on top', () => {
  const inner = marshal(sh(base(), 'make'), defaults);
  const outer = marshal(sh(importedState(inner), 'install'), defaults);
  assert.deepEqual(outer.def.slice(0, 2), inner.def.slice(0, 2));
  assert.equal(outer.metadata[vertexDigestOf(inner.def[0] as Uint8Array)]?.description['llb.customname'], '[1/2] FROM busybox');
  assert.equal(headOf(inner), vertexDigestOf(inner.def[1] as Uint8Array));
});

test('a chain of 10 000 steps is marshalled without a deep stack', () => {
  let state = base();
  for (let i = 0; i < 10_000; i++) state = sh(state, `${i}`);
  assert.equal(marshal(state, defaults).def.length, 10_002);
});

test('a graph that would not fit into a message is refused', () => {
  let state = base();
  state = { ...state, env: state.env.set('LONG', 'x'.repeat(1 << 20)) };
  for (let i = 0; i < 20; i++) state = sh(state, `${i}`);
  assert.throws(() => marshal(state, defaults), /the build graph is larger than/);
});

test('a variable assigned again moves to the end, however long the list', () => {
  let env = Env.of(['A=1', 'B=2']);
  for (let i = 0; i < 1000; i++) env = env.set(`V${i}`, `${i}`);
  env = env.set('A', '3');
  assert.equal(env.get('A'), '3');
  assert.equal(env.get('V500'), '500');
  assert.equal(env.keys()[0], 'B');
  assert.equal(env.toArray().at(-1), 'A=3');
  assert.equal(env.delete('A').get('A'), undefined);
});

test('owners: names stay names, numbers and root become ids', () => {
  assert.deepEqual(parseOwner('app:0'), { user: 'app', group: '0' });
  const owned = file(base(), [{ kind: 'mkdir', path: '/a', mode: 0o755, owner: parseOwner('app:root') }]);
  const { op } = parseDefinition(marshal(owned, defaults)).root?.vertex.op ?? {};
  const action = op?.case === 'file' ? op.value.actions[0]?.action : undefined;
  const owner = action?.case === 'mkdir' ? action.value.owner : undefined;
  assert.deepEqual([owner?.user?.user.case, owner?.group?.user], ['byName', { case: 'byID', value: 0 }]);
});
