/** Where recorded counts live between two starts of the daemon: one table, one row per objective and slot that held events. */
import type { SlotRow } from './count-history.ts';

/** The part of a SQL store this needs; the daemon's metadata store has this shape. */
export interface SqlStore {
  define(statements: readonly string[]): Promise<void>;
  write(sql: string, params: readonly (string | number)[]): void;
  read(sql: string, params: readonly (string | number)[]): Promise<readonly Readonly<Record<string, unknown>>[]>;
}

export interface CountStore {
  /** Rows from `sinceS` on, in order of time; older ones are deleted. */
  load(sinceS: number): Promise<SlotRow[]>;
  /** Adds to a slot; durable soon, not at once: a crash costs at most the last sample. */
  add(row: SlotRow): void;
}

export async function openCountStore(sql: SqlStore): Promise<CountStore> {
  await sql.define([
    'create table if not exists slo_counts (slo text not null, slot_s integer not null, good real not null, total real not null, primary key (slo, slot_s)) without rowid',
  ]);
  return {
    async load(sinceS) {
      sql.write('delete from slo_counts where slot_s < ?', [sinceS]);
      const rows = await sql.read('select slo, slot_s, good, total from slo_counts where slot_s >= ? order by slot_s', [sinceS]);
      return rows.map((row) => ({
        slo: String(row.slo),
        slotS: Number(row.slot_s),
        good: Number(row.good),
        total: Number(row.total),
      }));
    },
    add({ slo, slotS, good, total }) {
      sql.write(
        'insert into slo_counts (slo, slot_s, good, total) values (?, ?, ?, ?) on conflict (slo, slot_s) do update set good = good + excluded.good, total = total + excluded.total',
        [slo, slotS, good, total],
      );
    },
  };
}

/** For tests and for a daemon without a state directory: counts live as long as the process. */
export const noCountStore: CountStore = { load: () => Promise.resolve([]), add: () => {} };
