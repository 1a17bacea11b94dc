/** The objectives a daemon judges. */
import { OBJECTIVES } from '../../slo/objectives.ts';
import type { Objective } from '../../slo/spec.ts';

/**
 * The shipped objectives, replaced and extended by those of `file`. Its reader, and YAML with it, is loaded only where a file is named.
 * @throws BuildError `invalid-input` with every error of the file, `not-found` for one that cannot be read.
 */
export async function objectivesOf(file: string | undefined, onWarning: (text: string) => void): Promise<readonly Objective[]> {
  return file === undefined ? OBJECTIVES : (await import('../slo-files.ts')).objectivesWith(file, onWarning);
}
