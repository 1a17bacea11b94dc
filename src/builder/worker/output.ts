/**
 * Collects the output of a process into pieces worth reporting: at most 64 KiB, at most 20 ms old. Bytes of one stream keep their order;
 * between the streams the order is the one they were read in.
 */

export interface OutputBuffer {
  push(stream: 1 | 2, data: Uint8Array): void;
  /** Hands over what is held; call it once more when the process has ended. */
  flush(): void;
}

const MAX_BYTES = 64 * 1024;
const MAX_AGE_MS = 20;

export function outputBuffer(deliver: (stream: 1 | 2, data: Uint8Array) => void): OutputBuffer {
  let held: Uint8Array[] = [];
  let heldBytes = 0;
  let heldStream: 1 | 2 = 1;
  let timer: NodeJS.Timeout | undefined;
  const flush = (): void => {
    clearTimeout(timer);
    timer = undefined;
    if (heldBytes === 0) return;
    const [first] = held;
    const data = held.length === 1 && first !== undefined ? first : Buffer.concat(held, heldBytes);
    held = [];
    heldBytes = 0;
    deliver(heldStream, data);
  };
  return {
    push(stream, data) {
      if (data.byteLength === 0) return;
      if (heldBytes > 0 && (stream !== heldStream || heldBytes + data.byteLength > MAX_BYTES)) flush();
      heldStream = stream;
      held.push(data);
      heldBytes += data.byteLength;
      if (heldBytes >= MAX_BYTES) flush();
      else timer ??= setTimeout(flush, MAX_AGE_MS);
    },
    flush,
  };
}
