/** The solver under every order of events that fast-check can think of. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fc } from '../../../test/fixtures/property.ts';
import { BuildError, cancelled } from '../../core/errors.ts';
import type { Edge, Vertex } from '../llb/definition.ts';
import { evaluate, graphOf, openRig, outputOf, type StepSpec, step, story } from './solver.test-rig.ts';

/** Nodes in order; an input is a number taken modulo the nodes before it, so every shape is a graph without cycles. */
interface NodePlan {
  readonly inputs: readonly { readonly from: number; readonly output: number; readonly byContent: boolean }[];
  readonly outputs: number;
  /** Hides its inputs from what reads it by content. */
  readonly opaque: boolean;
  readonly ephemeral: boolean;
}
const nodePlan: fc.Arbitrary<NodePlan> = fc.record({
  inputs: fc.array(fc.record({ from: fc.nat(20), output: fc.nat(1), byContent: fc.boolean() }), { maxLength: 3 }),
  outputs: fc.integer({ min: 1, max: 2 }),
  opaque: fc.boolean(),
  ephemeral: fc.boolean(),
});
const graphPlan = fc.array(nodePlan, { minLength: 2, maxLength: 9 });

/** Builds the plan's last node. `versions` are what the sources hold; `salt` tells the local sources of two sessions apart. */
function planned(plan: readonly NodePlan[], versions: readonly number[] = [], salt = '', ignored: readonly number[] = []): Edge {
  const edges: Edge[] = [];
  for (const [n, node] of plan.entries()) {
    const inputs = n === 0 ? [] : node.inputs.map(({ from, output }) => pick(edges, plan, from % n, output));
    const name = `n${n}${node.opaque ? '~' : ''}`;
    const common = { name, outputs: node.outputs, ignoreCache: ignored.includes(n) };
    const spec: StepSpec =
      inputs.length === 0
        ? {
            ...common,
            content: () => `v${versions[n % Math.max(1, versions.length)] ?? 0}`,
            ephemeral: node.ephemeral,
            salt: node.ephemeral ? salt : '',
          }
        : { ...common, inputs, byContent: node.inputs.flatMap(({ byContent }, at) => (byContent ? [at] : [])) };
    edges.push(step(spec));
  }
  return edges.at(-1) ?? assert.fail();
}
const pick = (edges: readonly Edge[], plan: readonly NodePlan[], n: number, output: number): Edge =>
  outputOf(edges[n] ?? assert.fail(), output % (plan[n]?.outputs ?? 1));
const verticesOf = (root: Edge): readonly Vertex[] => graphOf(root).vertices;

test('however steps interleave, builds of one graph run each vertex once and come to the same value', async () => {
  await fc.assert(
    fc.asyncProperty(graphPlan, fc.integer({ min: 1, max: 4 }), fc.scheduler(), async (plan, count, s) => {
      await using rig = openRig({
        gate: ({ name, what }) => s.schedule(Promise.resolve(), `${what} ${name}`),
        limits: { maxParallelism: 2, ioParallelism: 1 },
      });
      const root = planned(plan);
      const builds = await s.waitFor(Promise.all(Array.from({ length: count }, () => rig.build(root))));
      for (const { value } of builds) assert.equal(value, evaluate(root));
      for (const [name, runs] of rig.ops.runs) assert.equal(runs, 1, `${name} ran ${runs} times`);
      for (const { events } of builds) {
        for (const vertex of verticesOf(root)) {
          const lines = story(events, { vertex, output: 0 }).filter((line) => line === 'executed' || line === 'cached');
          assert.ok(lines.length <= 1, `${vertex.name}: ${lines}`);
        }
      }
    }),
    { numRuns: 150 },
  );
});

test('whatever was built, changed, collected or asked anew before, a build comes to what a build without cache would', async () => {
  const round = fc.record({
    versions: fc.array(fc.nat(2), { minLength: 1, maxLength: 4 }),
    salt: fc.constantFrom('a', 'b'),
    evict: fc.array(fc.nat(9), { maxLength: 3 }),
    ignored: fc.array(fc.nat(9), { maxLength: 2 }),
    together: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(graphPlan, fc.array(round, { minLength: 2, maxLength: 6 }), fc.scheduler(), async (plan, rounds, s) => {
      await using rig = openRig({ gate: ({ name, what }) => s.schedule(Promise.resolve(), `${what} ${name}`) });
      for (const [n, { versions, salt, evict, ignored, together }] of rounds.entries()) {
        const root = planned(plan, versions, `${salt}${versions}`, ignored);
        const other = planned(plan, versions, `${salt}${versions} other ${n}`);
        const built = await s.waitFor(Promise.all([rig.build(root), ...(together ? [rig.build(other)] : [])]));
        for (const { value } of built) assert.equal(value, evaluate(root));
        for (const at of evict) {
          const vertex = verticesOf(root)[at];
          if (vertex !== undefined) rig.values.evict(evaluate({ vertex, output: 0 }));
        }
      }
    }),
    { numRuns: 200 },
  );
});

test('builds cancelled at any moment, and steps that fail, leave nothing behind and hang nobody', async () => {
  const plans = fc.array(fc.record({ cancelAfter: fc.option(fc.nat(25)), salt: fc.constantFrom('', 'x') }), {
    minLength: 1,
    maxLength: 4,
  });
  await fc.assert(
    fc.asyncProperty(graphPlan, plans, fc.array(fc.nat(9), { maxLength: 2 }), fc.scheduler(), async (plan, builds, broken, s) => {
      let calls = 0;
      const aborts: { readonly at: number; readonly abort: () => void }[] = [];
      await using rig = openRig({
        limits: { maxParallelism: 1, ioParallelism: 2 },
        async gate({ name, what }) {
          await s.schedule(Promise.resolve(), `${what} ${name}`);
          calls += 1;
          for (const { at, abort } of aborts) if (at === calls) abort();
          if (what === 'run' && broken.some((n) => name.startsWith(`n${n}`)))
            throw new BuildError('step-failed', `${name} is broken`);
        },
      });
      const outcomes = builds.map(async ({ cancelAfter, salt }) => {
        const root = planned(plan, [], salt);
        const abort = new AbortController();
        if (cancelAfter !== null) aborts.push({ at: cancelAfter, abort: () => abort.abort(cancelled()) });
        await using watched = rig.job();
        watched.job.load(graphOf(root));
        try {
          await using result = await watched.job.build(root, abort.signal);
          assert.equal(rig.values.of(result), evaluate(root));
          return 'done';
        } catch (error) {
          assert.ok(error instanceof BuildError, String(error));
          assert.ok(
            error.kind === 'step-failed' || (error.kind === 'cancelled' && abort.signal.aborted),
            `${error.kind}: ${error.message}`,
          );
          return error.kind;
        }
      });
      await s.waitFor(Promise.all(outcomes));
    }),
    { numRuns: 300 },
  );
});
