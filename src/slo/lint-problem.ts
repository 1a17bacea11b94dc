/** What a lint says. */

export type LintRule =
  | 'target'
  | 'window'
  | 'unreachable-pair'
  | 'factor-below-1'
  | 'pair-windows'
  | 'bucket-edge'
  | 'unknown-metric'
  | 'unknown-label'
  | 'no-denominator'
  | 'retention'
  | 'floor'
  | 'cardinality'
  | 'budgeting'
  | 'calendar'
  | 'composite'
  | 'gate'
  | 'policy';

export interface Problem {
  readonly objective: string;
  /** Path in the spec: `pairs[0].budgetPercent`. */
  readonly field: string;
  readonly rule: LintRule;
  /** An error fails validation: the objective could not work. A warning is worth a look. */
  readonly level: 'error' | 'warning';
  readonly message: string;
  readonly fix: string;
}

/** Says what is wrong with a field; an error unless told otherwise. */
export type Report = (field: string, rule: LintRule, message: string, fix: string, level?: Problem['level']) => void;
