/** A step may run several times (a source: once for its key, once for the transfer); its time is the union of its intervals. */
import type { Timestamp } from '@bufbuild/protobuf/wkt';
import type { Vertex } from '../../builder/proto/gen/moby/buildkit/v1/control_pb.ts';

export interface Interval {
  readonly startMs: number;
  endMs: number | undefined;
}

export const millisOf = (at: Timestamp): number => Number(at.seconds) * 1000 + at.nanos / 1e6;
/** The daemon marks what was stopped, rather than what failed, by how its text ends. */
export const isCancelled = (error: string): boolean => error.endsWith('context canceled');

export function updateIntervals(intervals: Interval[], vertex: Vertex): void {
  if (vertex.started === undefined) return;
  const startMs = millisOf(vertex.started);
  const endMs = vertex.completed === undefined ? undefined : millisOf(vertex.completed);
  const known = intervals.find((interval) => interval.startMs === startMs);
  if (known === undefined) intervals.push({ startMs, endMs });
  else known.endMs = endMs;
}

/** Seconds covered, overlaps counted once; an open interval ends at `nowMs`. */
export function intervalSeconds(intervals: readonly Interval[], nowMs = 0): number {
  let total = 0;
  let covered = Number.NEGATIVE_INFINITY;
  for (const { startMs, endMs = nowMs } of [...intervals].sort((a, b) => a.startMs - b.startMs)) {
    total += Math.max(0, endMs - Math.max(startMs, covered));
    covered = Math.max(covered, endMs);
  }
  return total / 1000;
}
