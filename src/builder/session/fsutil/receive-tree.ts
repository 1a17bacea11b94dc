/** Runs a Receiver on a stream of packets, to the end of the stream. */
import { BuildError } from '../../../core/errors.ts';
import { decodePacketPieces, encodeErrorPacket } from './packet.ts';
import { Receiver, type ReceiverOptions } from './receiver.ts';
import type { PacketStream } from './sender.ts';

export interface ReceivedCounts {
  /** Entries in the listing. */
  readonly files: number;
  /** Bytes of all packets. */
  readonly bytes: number;
  /** Paths written or removed. */
  readonly changed: number;
}

/**
 * Resolves when the destination equals the listing and the sender has ended the stream. When it rejects, the destination holds some of
 * the old and some of the new, nothing half written, and is as good a base for the next transfer as any.
 */
export async function receiveTree(
  stream: PacketStream,
  options: ReceiverOptions & { readonly onProgress: (bytes: number) => void },
): Promise<ReceivedCounts> {
  using receiver = new Receiver(options, (packet) => void stream.send(packet).catch(() => {})); // a lost stream ends the iteration
  const packets = stream.pieces(); // not for-await: leaving that would cancel the call before the sender learns why
  let bytes = 0;
  for (let next = await packets.next(); next.done !== true; next = await packets.next()) {
    const size = next.value.reduce((sum, piece) => sum + piece.byteLength, 0);
    bytes += size;
    options.onProgress(size);
    if (receiver.complete) continue;
    try {
      receiver.receive(decodePacketPieces(next.value));
    } catch (error) {
      const failure = BuildError.from(error);
      await tellSender(stream, packets, failure.message);
      throw failure;
    }
  }
  if (!receiver.complete) throw new BuildError('cancelled', 'the client ended the file transfer before it was complete');
  return { ...receiver.counts, bytes };
}

const FAREWELL_MS = 1_000;

/** Sends ERR and waits, not for long, until the sender has ended the stream, so that its user sees the reason and not a lost stream. */
async function tellSender(stream: PacketStream, packets: AsyncIterator<unknown>, text: string): Promise<void> {
  const ended = async (): Promise<void> => {
    await stream.send(encodeErrorPacket(text));
    while ((await packets.next()).done !== true);
  };
  let timer: NodeJS.Timeout | undefined;
  const enough = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, FAREWELL_MS);
  });
  await Promise.race([ended().catch(() => {}), enough]);
  clearTimeout(timer);
}
