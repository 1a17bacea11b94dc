/** What a promtool test of alerts is made of: a history, and what fires at some of its minutes. */
import { SITE } from './config.ts';

/** Series name with labels to values in promtool's notation. */
export type History = Readonly<Record<string, string>>;
export interface Scenario {
  readonly name: string;
  readonly history: History;
  /** Minutes after the start, and which pairs (`severity long`) or symptom alerts (`Name` or `Name severity`) fire then. */
  readonly at: readonly { readonly minute: number; readonly fires: readonly string[] }[];
}

export const target = `job="${SITE.job}",instance="a:8470"`;
/** A series of the one daemon that scenarios are about; `labels` begins with a comma. */
export const series = (name: string, labels = ''): string => `${name}{${target}${labels}}`;
