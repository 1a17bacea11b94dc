/**
 * Maintenance windows and corrections of the budget, kept across restarts. One that is removed stays in the list with who removed it
 * and why, and no longer counts: nothing about a budget happens silently.
 */
import { BuildError } from '../core/errors.ts';
import type { SqlStore } from './count-store.ts';
import type { BudgetAdjustment } from './spec.ts';

export interface AdjustmentRecord extends BudgetAdjustment {
  /** Seconds since the Unix epoch. */
  readonly createdS: number;
  readonly removed?: { readonly atS: number; readonly author: string; readonly reason: string };
}
export type NewAdjustment = Omit<BudgetAdjustment, 'id'>;

const MAX_KEPT = 1000;
const MAX_DAYS = 31;
const DAY_S = 86_400;
const TABLE = 'create table if not exists slo_adjustments (id text primary key, record text not null) without rowid';

export class Adjustments {
  readonly #sql: SqlStore;
  readonly #records: Map<string, AdjustmentRecord>;

  private constructor(sql: SqlStore, records: readonly AdjustmentRecord[]) {
    this.#sql = sql;
    this.#records = new Map(records.map((record) => [record.id, record]));
  }

  static async open(sql: SqlStore): Promise<Adjustments> {
    await sql.define([TABLE]);
    const rows = await sql.read('select record from slo_adjustments order by id', []);
    return new Adjustments(
      sql,
      rows.map((row) => JSON.parse(String(row.record)) as AdjustmentRecord),
    );
  }

  /** Those that count. */
  active(): BudgetAdjustment[] {
    return this.all().filter(({ removed }) => removed === undefined);
  }

  /** All, those that were removed as well, by beginning. */
  all(): AdjustmentRecord[] {
    return [...this.#records.values()].sort((a, b) => a.fromS - b.fromS);
  }

  /** @throws BuildError `invalid-input` for a stretch that cannot be, `exhausted` when there are too many. */
  add(wanted: NewAdjustment, nowS: number): AdjustmentRecord {
    const { fromS, toS } = wanted;
    const refuse = (what: string, hint: string): never => {
      throw new BuildError('invalid-input', what, { hint });
    };
    if (!(toS > fromS)) refuse('the end is not after the beginning', 'give --from and --to, or --from and --for');
    if (toS - fromS > MAX_DAYS * DAY_S) refuse(`the stretch is longer than ${MAX_DAYS} days`, 'lower the target instead');
    if (toS < nowS - 400 * DAY_S || fromS > nowS + 400 * DAY_S)
      refuse('the stretch is more than 400 days away', 'check the year');
    if (this.#records.size >= MAX_KEPT)
      throw new BuildError('exhausted', `${MAX_KEPT} adjustments are kept at most`, { hint: 'let old ones end first' });
    const record: AdjustmentRecord = { id: this.#freeId(nowS), ...wanted, createdS: nowS };
    this.#keep(record);
    return record;
  }

  /** @throws BuildError `not-found` for an id that is none, or was removed before. */
  remove(id: string, by: { readonly author: string; readonly reason: string }, nowS: number): AdjustmentRecord {
    const record = this.#records.get(id);
    if (record === undefined || record.removed !== undefined)
      throw new BuildError('not-found', `there is no adjustment ${id} that counts`, { hint: 'cooper slo adjust list' });
    const removed: AdjustmentRecord = { ...record, removed: { atS: nowS, ...by } };
    this.#keep(removed);
    return removed;
  }

  /** Forgets what ended before `sinceS`: no budget that is judged reaches that far. */
  forget(sinceS: number): void {
    for (const { id, toS } of this.all()) {
      if (toS >= sinceS) continue;
      this.#records.delete(id);
      this.#sql.write('delete from slo_adjustments where id = ?', [id]);
    }
  }

  #freeId(nowS: number): string {
    const day = new Date(nowS * 1000).toISOString().slice(0, 10).replaceAll('-', '');
    for (let number = 1; ; number++) if (!this.#records.has(`a${day}-${number}`)) return `a${day}-${number}`;
  }

  #keep(record: AdjustmentRecord): void {
    this.#records.set(record.id, record);
    this.#sql.write('insert or replace into slo_adjustments (id, record) values (?, ?)', [record.id, JSON.stringify(record)]);
  }
}
