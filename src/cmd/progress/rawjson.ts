/** A StatusResponse in the JSON of BuildKit's client.SolveStatus: RFC 3339 times, base64 log data, empty fields left out. */
import type { Timestamp } from '@bufbuild/protobuf/wkt';
import type { StatusResponse } from '../../builder/proto/gen/moby/buildkit/v1/control_pb.ts';
import { rfc3339 } from '../../core/clock.ts';

const time = (at: Timestamp | undefined): string | undefined =>
  at === undefined ? undefined : rfc3339(at.seconds * 1_000_000_000n + BigInt(at.nanos));
const some = <T>(list: readonly T[]): readonly T[] | undefined => (list.length === 0 ? undefined : list);
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');

export function rawJson(status: StatusResponse): string {
  return JSON.stringify({
    vertexes: some(
      status.vertexes.map(({ digest, inputs, name, started, completed, cached, error, progressGroup }) => ({
        digest,
        inputs: some(inputs),
        name,
        started: time(started),
        completed: time(completed),
        cached: cached || undefined,
        error: error || undefined,
        progressGroup: progressGroup && { id: progressGroup.id, name: progressGroup.name, weak: progressGroup.weak || undefined },
      })),
    ),
    statuses: some(
      status.statuses.map(({ ID, vertex, name, total, current, timestamp, started, completed }) => ({
        id: ID,
        vertex,
        name: name || undefined,
        total: Number(total),
        current: Number(current),
        timestamp: time(timestamp),
        started: time(started),
        completed: time(completed),
      })),
    ),
    logs: some(
      status.logs.map(({ vertex, stream, msg, timestamp }) => ({
        vertex,
        stream: Number(stream),
        data: base64(msg),
        timestamp: time(timestamp),
      })),
    ),
    warnings: some(
      status.warnings.map(({ vertex, level, short, detail, url, info, ranges }) => ({
        vertex,
        level: Number(level),
        short: base64(short),
        detail: some(detail.map(base64)),
        url: url || undefined,
        sourceInfo: info && { filename: info.filename, data: base64(info.data), language: info.language || undefined },
        range: some(ranges),
      })),
    ),
  });
}
