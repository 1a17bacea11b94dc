/**
 * Looks for the values of secrets in what a step leaves behind. A secret that is copied into a file of the image is published with it, and
 * nobody sees it until somebody else does. Only steps that were given secrets are searched, and of them only what they changed.
 */
import { BuildError } from '../../core/errors.ts';
import { taskRef } from '../../core/worker-pool.ts';
import type { OpContext } from '../solver/ports.ts';
import type { OpDeps } from './deps.ts';
import { needlesOf, type SecretValue } from './redact.ts';
import type { findInTree } from './secret-scan-task.ts';

const MIN_VALUE_BYTES = 8; // shorter ones stand in files by chance
const SCAN = taskRef<Parameters<typeof findInTree>[0], ReturnType<typeof findInTree>>(
  new URL('./secret-scan-task.ts', import.meta.url),
  'findInTree',
);

/** @throws BuildError `denied` when a value is found and leaks are to fail the step. */
export async function lookForSecrets(
  trees: readonly string[],
  secrets: readonly SecretValue[],
  context: OpContext,
  deps: Pick<OpDeps, 'pool' | 'secretLeaks'>,
): Promise<void> {
  if (deps.secretLeaks === 'off') return;
  const needles = secrets.flatMap(({ id, value }) => needlesOf([value], MIN_VALUE_BYTES).map((bytes) => ({ id, bytes })));
  if (needles.length === 0) return;
  const refused = deps.secretLeaks === 'fail';
  for (const tree of trees) {
    const leaks = await deps.pool.run(SCAN, { tree, needles }, { signal: context.signal });
    for (const { id, path } of leaks) context.progress.leaked(id, path, refused);
    const [first] = leaks;
    if (first !== undefined && refused) {
      throw new BuildError('denied', `the step leaves the value of secret ${first.id} in ${first.path}`, {
        hint: 'use the secret where it is mounted and do not copy it; remove files that tools write it to in the same step',
      });
    }
  }
}
