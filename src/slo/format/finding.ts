/** What a file of objectives has wrong, and where: file, line, field, the rule that is broken, and what to write instead. */
import type { LintRule } from '../lint-problem.ts';

/** Rules of files; the others are those of objectives (lint-problem.ts). */
export type FileRule =
  | 'syntax'
  | 'unknown-format'
  | 'required'
  | 'type'
  | 'value'
  | 'unknown-field'
  | 'query'
  | 'reference'
  | 'duplicate'
  | 'unsupported'
  | 'too-many';

export interface Place {
  readonly file: string;
  /** From 1. */
  readonly line: number;
  readonly column: number;
  /** Path in the file as it is written there: `spec.objectives[0].target`. */
  readonly field: string;
}
export interface Finding extends Place {
  /** The objective it is about, once that is known. */
  readonly objective?: string;
  readonly rule: FileRule | LintRule;
  /** An error: nothing of the objective is used. A warning is worth a look. */
  readonly level: 'error' | 'warning';
  readonly message: string;
  readonly fix: string;
}

/** `slo.yaml:12:11: error: spec.target: 1.5 is not …; write 99 % as 0.99 [target]`. */
export function findingText({ file, line, column, level, field, message, fix, rule }: Finding): string {
  return `${file}:${line}:${column}: ${level}: ${field === '' ? '' : `${field}: `}${message}; ${fix} [${rule}]`;
}

export const hasErrors = (findings: readonly Finding[]): boolean => findings.some(({ level }) => level === 'error');

/** By place, each once; the order in which a person goes through a file. */
export function inOrder(findings: readonly Finding[]): Finding[] {
  const known = new Map(findings.map((finding) => [findingText(finding), finding]));
  return [...known.values()].sort((a, b) => a.file.localeCompare(b.file) || a.line - b.line || a.column - b.column);
}
