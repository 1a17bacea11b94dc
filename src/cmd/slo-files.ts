/** Files of objectives, read for the daemon and for the commands. */
import { readFileSync } from 'node:fs';
import { BuildError } from '../core/errors.ts';
import { findingText, hasErrors } from '../slo/format/finding.ts';
import { mergedWith, readSpecs, type SpecFile, type Specs } from '../slo/format/read.ts';
import { OBJECTIVES } from '../slo/objectives.ts';
import type { Objective } from '../slo/spec.ts';
import { CATALOG } from '../telemetry/catalog.ts';

/** Contents of files; `-` is standard input. @throws BuildError `not-found` for one that cannot be read. */
export function specFilesOf(paths: readonly string[]): SpecFile[] {
  return paths.map((path) => {
    try {
      return { file: path === '-' ? 'stdin' : path, text: readFileSync(path === '-' ? 0 : path, 'utf8') };
    } catch (cause) {
      throw new BuildError('not-found', `cannot read ${path}: ${(cause as Error).message}`, {}, { cause });
    }
  });
}

export interface ReadOptions {
  /** Names of metrics and labels are not checked. */
  readonly anyMetrics?: boolean;
  readonly retentionSeconds?: number;
}

/** Reads files against the metrics of the daemon; composites may name the shipped objectives. */
export function specsOf(files: readonly SpecFile[], { anyMetrics = false, ...rest }: ReadOptions = {}): Specs {
  return readSpecs(files, { known: CATALOG, beside: OBJECTIVES, ...(!anyMetrics && { catalogue: CATALOG }), ...rest });
}

/**
 * The objectives a daemon judges: the shipped ones, replaced and extended by those of a file. Warnings are told to `onWarning`.
 * @throws BuildError `invalid-input` with every error of the file, a line each.
 */
export function objectivesWith(file: string, onWarning: (text: string) => void): readonly Objective[] {
  const { objectives, findings } = specsOf(specFilesOf([file]));
  if (hasErrors(findings)) {
    const errors = findings.filter(({ level }) => level === 'error').map(findingText);
    throw new BuildError('invalid-input', `cooper.slo.file: ${errors.join('\n')}`, { hint: `cooper slo lint ${file}` });
  }
  for (const finding of findings) onWarning(findingText(finding));
  return mergedWith(OBJECTIVES, objectives);
}
