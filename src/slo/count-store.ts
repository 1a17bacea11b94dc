/**
 * What the evaluator keeps between two starts of the daemon: counts (one row per objective and slot that held events), the stretches
 * in which it looked, and the verdicts that were firing.
 */
import type { SlotRow } from './count-history.ts';
import type { Stretch } from './coverage.ts';

/** The part of a SQL store this needs; the daemon's metadata store has this shape. */
export interface SqlStore {
  define(statements: readonly string[]): Promise<void>;
  write(sql: string, params: readonly (string | number)[]): void;
  read(sql: string, params: readonly (string | number)[]): Promise<readonly Readonly<Record<string, unknown>>[]>;
}

/** A pair that fires, and since when. */
export interface FiringRow {
  readonly slo: string;
  /** `severity long/short`. */
  readonly pair: string;
  readonly sinceS: number;
}

export interface CountStore {
  /** Rows from `sinceS` on, in order of time; older ones are deleted. */
  load(sinceS: number): Promise<SlotRow[]>;
  /** Adds to a slot; durable soon, not at once: a crash costs at most the last sample. */
  add(row: SlotRow): void;
  /** Stretches that ended after `sinceS`, in order of time; older ones are deleted. */
  loadStretches(sinceS: number): Promise<Stretch[]>;
  /** Keeps a stretch, or its new end. */
  keepStretch(stretch: Stretch): void;
  loadFiring(): Promise<FiringRow[]>;
  /** Keeps what fires now, all of it. */
  keepFiring(rows: readonly FiringRow[]): void;
}

const TABLES = [
  'create table if not exists slo_counts (slo text not null, slot_s integer not null, good real not null, total real not null, primary key (slo, slot_s)) without rowid',
  'create table if not exists slo_stretches (from_s real primary key, to_s real not null) without rowid',
  'create table if not exists slo_firing (slo text not null, pair text not null, since_s real not null, primary key (slo, pair)) without rowid',
];

export async function openCountStore(sql: SqlStore): Promise<CountStore> {
  await sql.define(TABLES);
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
    async loadStretches(sinceS) {
      sql.write('delete from slo_stretches where to_s < ?', [sinceS]);
      const rows = await sql.read('select from_s, to_s from slo_stretches order by from_s', []);
      return rows.map((row) => ({ fromS: Number(row.from_s), toS: Number(row.to_s) }));
    },
    keepStretch({ fromS, toS }) {
      sql.write(
        'insert into slo_stretches (from_s, to_s) values (?, ?) on conflict (from_s) do update set to_s = excluded.to_s',
        [fromS, toS],
      );
    },
    async loadFiring() {
      const rows = await sql.read('select slo, pair, since_s from slo_firing', []);
      return rows.map((row) => ({ slo: String(row.slo), pair: String(row.pair), sinceS: Number(row.since_s) }));
    },
    keepFiring(rows) {
      sql.write('delete from slo_firing', []);
      for (const { slo, pair, sinceS } of rows) {
        sql.write('insert into slo_firing (slo, pair, since_s) values (?, ?, ?)', [slo, pair, sinceS]);
      }
    },
  };
}

/** Keeps nothing: objectives begin anew with the daemon. */
export const noCountStore: CountStore = {
  load: async () => [],
  add: () => {},
  loadStretches: async () => [],
  keepStretch: () => {},
  loadFiring: async () => [],
  keepFiring: () => {},
};
