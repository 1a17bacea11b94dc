/** The figure an alert compares with, read from the rule itself: a line on a board can then never differ from the alert. */
import { ALERTS } from '../alerts/rules.ts';

/** The number behind the first `sign` of the rule that is not 0. Throws when there is no such alert or comparison. */
export function boundOf(alertName: string, sign: '<' | '>'): number {
  const rule = ALERTS.find(({ alert }) => alert === alertName);
  const [bound] = [...(rule?.expr ?? '').matchAll(/([<>]) (-?[\d.]+)/g)]
    .filter(([, found, value]) => found === sign && Number(value) !== 0)
    .map(([, , value]) => Number(value));
  if (bound === undefined) throw new Error(`${alertName} compares nothing with ${sign}`);
  return bound;
}
