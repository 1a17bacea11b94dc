/** How a build ended, of records that do not tell: those of an older daemon, and what clients are sent. */
import { GRPC } from '../../core/errors.ts';
import type { BuildResult } from '../events.ts';
import type { BuildHistoryRecord } from '../proto/gen/moby/buildkit/v1/control_pb.ts';

/** Never `error`: in the status that clients see, a fault of ours looks like theirs. */
export function resultOfStatus(error: BuildHistoryRecord['error']): BuildResult {
  if (error === undefined || error.code === GRPC.OK) return 'success';
  if (error.code === GRPC.CANCELLED || error.message.includes('context canceled')) return 'cancellation';
  return error.code === GRPC.DEADLINE_EXCEEDED ? 'timeout' : 'failure';
}
