/** Calls about objectives that reports, backtests and adjustments need. */
import * as z from 'zod';
import { BuildError } from '../../core/errors.ts';
import type { AdjustmentRecord, NewAdjustment } from '../../slo/adjustment-store.ts';
import { time } from './model.ts';
import { type Route, route } from './route.ts';

const name = z
  .string()
  .min(1)
  .max(128)
  .regex(/^[\w-]+$/, 'letters, digits, dash and underscore');
const words = (max: number): z.ZodString =>
  z
    .string()
    .trim()
    .min(1)
    .max(max)
    .regex(/^[^\p{Cc}]*$/u, 'no control characters');
const moment = z.iso.datetime({ offset: true });
const author = words(100).describe('who is responsible; the name of the token goes into the audit log beside it');
const reason = words(500);

const adjustment = z.object({
  id: z.string(),
  slos: z.array(z.string()).describe('names of objectives; `*`: all'),
  from: time,
  to: time.describe('exclusive'),
  kind: z.enum(['maintenance', 'correction']),
  effect: z.looseObject({ kind: z.enum(['exclude', 'forgive']) }),
  author: z.string(),
  reason: z.string(),
  createdAt: time,
  removed: z.optional(z.object({ at: time, author: z.string(), reason: z.string() })),
});

export const SLO_ROUTES: readonly Route[] = [
  route({
    path: '/slo-records',
    summary: 'Specifications and recorded counts: what `cooper slo report` and `backtest` work on.',
    query: z.strictObject({
      slo: z.optional(name),
      from: z.coerce.number().int().min(0).default(0).describe('seconds since the Unix epoch'),
      to: z.coerce.number().int().min(0).max(1e11).default(1e11).describe('exclusive'),
    }),
    answer: z.object({
      objectives: z.array(z.looseObject({ name: z.string() })),
      slots: z
        .record(z.string(), z.array(z.tuple([z.number(), z.number(), z.number()])))
        .describe('[start in seconds, good, total]'),
      adjustments: z.array(z.looseObject({ id: z.string() })),
    }),
    handle: ({ query }, { providers }) => providers.sloRecords(query.from, query.to, query.slo),
  }),
  route({
    path: '/slo-adjustments',
    summary: 'Maintenance windows and corrections of budgets, those that were removed as well.',
    answer: z.object({ adjustments: z.array(adjustment) }),
    handle: (_input, { providers }) => ({ adjustments: providers.sloAdjustments().map(shown) }),
  }),
  route({
    method: 'POST',
    path: '/slo-adjustments/:name',
    summary:
      'Sets a stretch of time aside for one objective, or for `all`: excludes its events, or forgives a number of bad ones.',
    params: z.strictObject({ name }),
    body: z.strictObject({
      from: moment,
      to: moment,
      kind: z.enum(['maintenance', 'correction']),
      forgive: z.optional(z.int().min(1).max(1e9)).describe('bad events that count as good; absent: the stretch does not count'),
      author,
      reason,
    }),
    act: 'slo.adjust',
    answer: adjustment,
    handle: ({ params, body }, { providers }) => {
      const { adjustSlo } = providers.writes;
      if (adjustSlo === undefined) throw new BuildError('unsupported', 'this daemon has no function for this call');
      const wanted: NewAdjustment = {
        slos: [params.name === 'all' ? '*' : params.name],
        fromS: seconds(body.from),
        toS: seconds(body.to),
        kind: body.kind,
        effect: body.forgive === undefined ? { kind: 'exclude' } : { kind: 'forgive', bad: body.forgive },
        author: body.author,
        reason: body.reason,
      };
      return shown(adjustSlo(wanted));
    },
  }),
  route({
    method: 'POST',
    path: '/slo-adjustments/:name/remove',
    summary: 'Lets a stretch count again. It stays in the list with who removed it and why.',
    params: z.strictObject({ name }),
    body: z.strictObject({ author, reason }),
    act: 'slo.unadjust',
    answer: adjustment,
    handle: ({ params, body }, { providers }) => {
      const { removeSloAdjustment } = providers.writes;
      if (removeSloAdjustment === undefined) throw new BuildError('unsupported', 'this daemon has no function for this call');
      return shown(removeSloAdjustment(params.name, body));
    },
  }),
];

const seconds = (text: string): number => Math.floor(Date.parse(text) / 1000);
const instant = (atS: number): string => new Date(atS * 1000).toISOString().replace('.000Z', 'Z');

function shown({ fromS, toS, createdS, removed, ...rest }: AdjustmentRecord): z.infer<typeof adjustment> {
  return {
    ...rest,
    slos: [...rest.slos],
    effect: { ...rest.effect },
    ...{ from: instant(fromS), to: instant(toS), createdAt: instant(createdS) },
    ...(removed && { removed: { at: instant(removed.atS), author: removed.author, reason: removed.reason } }),
  };
}
