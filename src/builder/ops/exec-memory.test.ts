/** Steps that are killed for lack of memory: what the user is told, and whose fault it is. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { BuildError, GRPC } from '../../core/errors.ts';
import { Cgroups, removeGroup } from '../worker/cgroups.ts';
import { cannotRun } from '../worker/sandbox.test-rig.ts';
import { openOpsRig, sh } from './ops.test-rig.ts';

const { layout } = new Cgroups({ tag: 'unused' });
const skip = cannotRun || (layout === 'none' ? 'no control group can be written here' : false);
const MIB = 1024n * 1024n;
const HUNGRY = 'exec tail -c 300000000 /dev/zero';

test("at the step's own limit the error names process, peak and limit, and it is the user's", { skip }, async (t) => {
  const rig = await openOpsRig(t);
  await assert.rejects(rig.run(sh(HUNGRY), [rig.base], { memoryBytes: 32n * MIB }), (error) => {
    assert.ok(error instanceof BuildError);
    assert.match(
      error.message,
      /did not complete successfully: cannot allocate memory: killed: out of memory \((process tail, )?peak 3[12]\.\d MiB, limit 32\.0 MiB\)$/,
    );
    assert.deepEqual([error.kind, error.fault, error.detail.grpcCode], ['step-failed', 'user', GRPC.UNKNOWN]);
    return true;
  });
});

/** A group for all steps of a daemon, with a limit. */
function parentGroup(name: string, limitBytes: bigint): Disposable {
  const dir = layout === 'v1' ? `/sys/fs/cgroup/memory/${name}` : `/sys/fs/cgroup/${name}`;
  mkdirSync(dir);
  const dispose = (): void => removeGroup(dir);
  try {
    if (layout === 'v1') {
      writeFileSync(`${dir}/memory.limit_in_bytes`, String(limitBytes));
      writeFileSync(`${dir}/memory.memsw.limit_in_bytes`, String(limitBytes), { flag: 'r+' });
    } else {
      writeFileSync(`${dir}/memory.max`, String(limitBytes));
      writeFileSync(`${dir}/memory.swap.max`, '0', { flag: 'r+' });
    }
  } catch {
    // swap is not counted here
  }
  return { [Symbol.dispose]: dispose };
}

test("memory of the builder that is used up is the system's fault", { skip }, async (t) => {
  const name = `cooper-oom-${process.pid}`;
  const group = parentGroup(name, 48n * MIB);
  const rig = await openOpsRig(t);
  t.after(() => group[Symbol.dispose]()); // after those of the rig, whose groups are below it
  await assert.rejects(rig.run(sh(HUNGRY, [], { cgroupParent: name }), [rig.base]), (error) => {
    assert.ok(error instanceof BuildError);
    assert.match(error.message, /killed: out of memory of the builder \(/);
    assert.deepEqual([error.kind, error.fault, error.detail.grpcCode], ['exhausted', 'system', GRPC.UNKNOWN]);
    assert.match(error.detail.hint ?? '', /max-parallelism/);
    return true;
  });
});
