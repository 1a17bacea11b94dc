/**
 * Files of objectives in any of the three formats, told apart by their version: our own (`apiVersion: cooper/v1`), OpenSLO
 * (`apiVersion: openslo/v1`) and Sloth (`version: prometheus/v1`). Everything wrong with all of them is found in one reading: the
 * shape by the readers, the sense by lint.ts, each said with its line.
 */
import type { MetricSpec } from '../../telemetry/catalog.ts';
import { type LintContext, problemsOf } from '../lint.ts';
import type { Objective } from '../spec.ts';
import { type Entry, Source } from './entry.ts';
import { type Finding, inOrder } from './finding.ts';
import type { Located } from './located.ts';
import { OPENSLO_VERSION, OpenSlo } from './openslo.ts';
import { OWN_VERSION, readOwn } from './own.ts';
import { readSloth, SLOTH_VERSION } from './sloth.ts';

export interface SpecFile {
  /** As it is named to the user. */
  readonly file: string;
  readonly text: string;
}
export interface SpecContext extends Omit<LintContext, 'others'> {
  /** Metrics that regular and negative matchers are resolved against, even when names are not checked (`catalogue`). */
  readonly known: readonly MetricSpec[];
  /** Objectives that are there beside those of the files: composites may name them, files may replace them. */
  readonly beside?: readonly Objective[];
}
export interface Specs {
  /** Of the files, in their order; empty of those with errors. */
  readonly objectives: readonly Objective[];
  /** By file and line. */
  readonly findings: readonly Finding[];
}

/** How many objectives one daemon may have: each has series of its own. */
export const MAX_OBJECTIVES = 32;

export function readSpecs(files: readonly SpecFile[], context: SpecContext): Specs {
  const findings: Finding[] = [];
  const openSlo = new OpenSlo(context.known);
  const located = files.flatMap(({ file, text }) =>
    new Source(file, findings).documents(text).flatMap((root) => readDocument(root, openSlo, context)),
  );
  const unique = withoutDuplicates([...located, ...openSlo.objectives()], findings);
  const own = unique.map(({ objective }) => objective);
  const all = [...(context.beside ?? []).filter(({ name }) => own.every((one) => one.name !== name)), ...own];
  const sound = unique.filter((one) => judge(one, all, context, findings));
  if (all.length > MAX_OBJECTIVES) {
    const place = unique.at(-1)?.places.of('name') ?? { file: files[0]?.file ?? '', line: 1, column: 1, field: '' };
    const message = `${all.length} objectives are more than the ${MAX_OBJECTIVES} that have series of their own`;
    findings.push({ ...place, rule: 'too-many', level: 'error', message, fix: 'merge some, or write fewer' });
  }
  return { objectives: sound.map(({ objective }) => objective), findings: inOrder(findings) };
}

function readDocument(root: Entry, openSlo: OpenSlo, { known }: SpecContext): Located[] {
  if (root.asMap() === undefined) return [];
  const version = root.text('apiVersion') ?? root.text('version');
  switch (version) {
    case OWN_VERSION:
      return readOwn(root, known);
    case SLOTH_VERSION:
      return readSloth(root, known);
    case OPENSLO_VERSION:
      openSlo.add(root);
      return [];
    default: {
      const said = version === undefined ? 'the document names no format' : `"${version}" is not a format that is read here`;
      root.error('unknown-format', said, `write apiVersion: ${OWN_VERSION} or ${OPENSLO_VERSION}, or version: ${SLOTH_VERSION}`);
      return [];
    }
  }
}

function withoutDuplicates(located: readonly Located[], findings: Finding[]): Located[] {
  const names = new Set<string>();
  return located.filter(({ objective: { name }, places }) => {
    const place = places.of('name');
    if (names.has(name) && place !== undefined) {
      findings.push({
        ...{ ...place, objective: name, rule: 'duplicate', level: 'error' },
        ...{ message: `there is an objective "${name}" already`, fix: 'give it another name' },
      });
      return false;
    }
    names.add(name);
    return true;
  });
}

/** Does the objective make sense? */
function judge({ objective, places }: Located, others: readonly Objective[], context: SpecContext, findings: Finding[]): boolean {
  const problems = problemsOf(objective, { ...context, others });
  for (const { field, rule, level, message, fix } of problems) {
    const place = places.of(field);
    if (place !== undefined) findings.push({ ...place, objective: objective.name, rule, level, message, fix });
  }
  return problems.every(({ level }) => level !== 'error');
}

/**
 * The objectives of a daemon: the shipped ones, of which those in the files take the place when they have the same name, and the others
 * of the files after them.
 */
export function mergedWith(shipped: readonly Objective[], own: readonly Objective[]): Objective[] {
  const byName = new Map(own.map((objective) => [objective.name, objective]));
  const replaced = shipped.map((objective) => byName.get(objective.name) ?? objective);
  return [...replaced, ...own.filter(({ name }) => shipped.every((objective) => objective.name !== name))];
}
