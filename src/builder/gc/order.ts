/** How old records are and in which order they go, whatever the clock did meanwhile. */
import { type Breather, sortedInSlices } from '../../core/breather.ts';
import type { SnapshotUsage } from '../snapshot/ports.ts';

/** Clocks of one machine differ by less; what is further ahead was stamped before the clock was set back. */
const SLACK_NS = 300_000_000_000n;

export const usedAt = ({ lastUsedAtNs, createdAtNs }: SnapshotUsage): bigint => lastUsedAtNs ?? createdAtNs;

/**
 * The time of last use as seen from now. Stamps from the future are of a clock that was set back since: their order and distances hold,
 * so the newest of them counts as used at `setBackAtNs`, the moment this was first noticed. Without this nothing of that time would
 * ever be old enough; were such a stamp taken as no stamp, everything would be.
 */
export async function ageFrame(
  records: readonly SnapshotUsage[],
  nowNs: bigint,
  breather: Breather,
  setBackAtNs = nowNs,
): Promise<{ readonly setBack: boolean; readonly usedAtNs: (record: SnapshotUsage) => bigint }> {
  const limitNs = nowNs + SLACK_NS;
  let newestNs = limitNs;
  for (const record of records) {
    if (usedAt(record) > newestNs) newestNs = usedAt(record);
    if (breather.due) await breather.pause();
  }
  if (newestNs === limitNs) return { setBack: false, usedAtNs: usedAt };
  return {
    setBack: true,
    usedAtNs: (record) => (usedAt(record) > limitNs ? setBackAtNs - (newestNs - usedAt(record)) : usedAt(record)),
  };
}

interface Ranked {
  readonly record: SnapshotUsage;
  readonly used: number;
  score: number;
}

/** What was used long ago and seldom goes first: both ranks count the same, each from 0 to 1. Equal records share a rank. */
export async function orderOf(
  records: readonly SnapshotUsage[],
  usedAtNs: (record: SnapshotUsage) => bigint,
  breather: Breather,
): Promise<SnapshotUsage[]> {
  const ranked: Ranked[] = [];
  const seen = new Set<number>();
  for (const record of records) {
    seen.add(record.usageCount);
    ranked.push({ record, used: Number(usedAtNs(record)), score: 0 });
    if (breather.due) await breather.pause();
  }
  const byTime = await sortedInSlices(ranked, (a, b) => a.used - b.used, breather);
  const counts = [...seen].sort((a, b) => a - b);
  const rankOfCount = new Map(counts.map((count, at) => [count, at / Math.max(1, counts.length - 1)]));
  let rank = 0;
  let before: Ranked | undefined;
  for (const entry of byTime) {
    if (before !== undefined && before.used !== entry.used) rank += 1;
    entry.score = rank;
    before = entry;
    if (breather.due) await breather.pause();
  }
  for (const entry of byTime) {
    entry.score = entry.score / Math.max(1, rank) + (rankOfCount.get(entry.record.usageCount) ?? 0);
    if (breather.due) await breather.pause();
  }
  const ordered = await sortedInSlices(byTime, (a, b) => a.score - b.score || a.used - b.used, breather);
  return ordered.map(({ record }) => record);
}
