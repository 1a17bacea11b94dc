/** Removes directories in a thread; a big tree takes seconds. */
import { rmSync } from 'node:fs';

export interface RemoveArgs {
  readonly dirs: readonly string[];
}

/** Safe to repeat: what is gone is gone. Tries every directory, then throws the first failure. */
export function removeTrees({ dirs }: RemoveArgs): null {
  const failures: unknown[] = [];
  for (const dir of dirs) {
    try {
      rmSync(dir, { recursive: true, force: true });
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
  return null;
}
