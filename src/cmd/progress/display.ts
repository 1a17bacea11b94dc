/** What draws the progress of a build, and what it draws on. */
import type { StatusResponse } from '../../builder/proto/gen/moby/buildkit/v1/control_pb.ts';

export interface Display {
  update(status: StatusResponse): void;
  /** Prints what is still open; nothing may be written to the stream by others before. */
  end(): void;
}
export interface Output {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
}
