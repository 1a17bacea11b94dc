/** The shipped boards, by file name. */
import { DEBUG } from './debug.ts';
import { EXECUTIVE } from './executive.ts';
import type { Dashboard } from './grafana.ts';
import { ONCALL } from './oncall.ts';

export const DASHBOARDS: readonly Dashboard[] = [EXECUTIVE, ONCALL, DEBUG];
