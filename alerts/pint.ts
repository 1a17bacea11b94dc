/**
 * Remarks for cloudflare's pint in the generated rule files. What pint is right about is mended in the rules; what is left, and why it
 * stays, is written beside the rule it is about, so that a site that lints these files with its own rules sees no warning.
 */
import type { RuleGroup } from '../src/slo/rules.ts';

type Rule = RuleGroup['rules'][number];
interface Remark {
  readonly check: string;
  readonly because: string;
  readonly about: (rule: Rule, group: RuleGroup) => boolean;
}

const REMARKS: readonly Remark[] = [
  {
    check: 'alerts/comparison',
    because: 'It must always fire: the receiver outside raises an alarm when it stops.',
    about: (rule) => 'alert' in rule && rule.alert === 'CooperWatchdog',
  },
  {
    check: 'rule/dependency',
    because:
      'Slices are recorded every 30 s by the group of short windows; over a day and more, that they are 30 s old changes nothing.',
    about: ({ expr }, { name }) => name === 'cooper-slo-long-windows' && /cooper:slo_(slice|state)_good/.test(expr),
  },
];

/** The file `text` of `groups`, with a comment below the name of each rule that has one. */
export function withPintComments(text: string, groups: readonly RuleGroup[]): string {
  const comments = groups.flatMap((group) =>
    group.rules.map((rule) => REMARKS.filter(({ about }) => about(rule, group)).flatMap(commentLines)),
  );
  let rule = -1;
  return text
    .split('\n')
    .flatMap((line) => {
      if (!/^ {6}- (record|alert): /.test(line)) return [line];
      rule += 1;
      return [line, ...(comments[rule] ?? [])];
    })
    .join('\n');
}

const commentLines = ({ check, because }: Remark): string[] => [`        # ${because}`, `        # pint disable ${check}`];
