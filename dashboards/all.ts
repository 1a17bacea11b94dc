/** The shipped boards, by file name. */
import { DEBUG } from './debug.ts';
import { EXECUTIVE } from './executive.ts';
import type { Dashboard } from './grafana.ts';
import { ONCALL } from './oncall.ts';
import { SLO } from './slo.ts';

export const DASHBOARDS: readonly Dashboard[] = [EXECUTIVE, ONCALL, SLO, DEBUG];
