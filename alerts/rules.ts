/** All rules this project ships, in the shape of a Prometheus rule file. */
import { OBJECTIVES } from '../src/slo/objectives.ts';
import { type AlertingRule, type RuleGroup, sloRuleGroups } from '../src/slo/rules.ts';
import { SITE, sloLinksOf } from './config.ts';
import { SYMPTOM_ALERTS } from './symptoms.ts';

export const SYMPTOM_GROUP: RuleGroup = { name: 'cooper-symptoms', interval: '30s', rules: SYMPTOM_ALERTS };
export const RULE_GROUPS: readonly RuleGroup[] = [
  ...sloRuleGroups(OBJECTIVES, { job: SITE.job, links: sloLinksOf }),
  SYMPTOM_GROUP,
];

export const ALERTS: readonly AlertingRule[] = RULE_GROUPS.flatMap(({ rules }) => rules.filter((rule) => 'alert' in rule));
export const ALERT_NAMES: readonly string[] = [...new Set(ALERTS.map(({ alert }) => alert))];
