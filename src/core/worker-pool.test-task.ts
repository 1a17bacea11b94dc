/** Tasks for worker-pool.test.ts. */
import { BuildError } from './errors.ts';
import type { TaskContext } from './worker-pool.ts';

export const double = (n: number): number => n * 2;
export function fail(message: string): never {
  throw new BuildError('corrupt', message);
}
export async function untilAborted(_: null, context: TaskContext): Promise<string> {
  context.progress(1);
  while (!context.aborted()) await new Promise((resolve) => setImmediate(resolve));
  throw new BuildError('internal', 'stopped because it was aborted');
}
export function die(): never {
  process.exit(1);
}
