/** HTTP/2 settings for both ends. Every value here replaces a default that was measured to stall or to kill a real build. */
import type { ServerSessionOptions, Settings } from 'node:http2';

const MIB = 1024 * 1024;

/** Per stream. Node's 64 KiB stalls a context transfer once per round trip. */
export const STREAM_WINDOW_BYTES = 8 * MIB;
/** Per connection; set with `session.setLocalWindowSize` once it is connected. */
export const CONNECTION_WINDOW_BYTES = 32 * MIB;
/** Include and follow patterns of a context travel as headers: a thousand of them exceed Node's 64 KiB. */
const HEADER_BLOCK_BYTES = 16 * MIB;
const HEADER_PAIRS = 100_000;
/** Calls at once on one connection. A bake of 200 targets holds some 800. */
const CONCURRENT_STREAMS = 2_000;

export const SETTINGS: Settings = {
  initialWindowSize: STREAM_WINDOW_BYTES,
  maxHeaderListSize: HEADER_BLOCK_BYTES,
  enablePush: false,
  // Go servers inside the tunnel then send a 32 KiB message in one frame, which takes a tenth off the CPU of a transfer.
  maxFrameSize: MIB,
};

const SHARED = {
  maxHeaderListPairs: HEADER_PAIRS,
  maxSendHeaderBlockLength: HEADER_BLOCK_BYTES,
  // In MiB. Node refuses new streams above 10; streams are bounded by number and window here.
  maxSessionMemory: 32 * 1024,
};

export const SERVER_OPTIONS: ServerSessionOptions = {
  ...SHARED,
  settings: { ...SETTINGS, maxConcurrentStreams: CONCURRENT_STREAMS },
  // Cancelled calls per connection before Node answers GOAWAY and kills every build on it; its default is 1000 in all.
  streamResetBurst: 100_000,
  streamResetRate: 10_000,
};

export const CLIENT_OPTIONS = { ...SHARED, settings: SETTINGS, peerMaxConcurrentStreams: CONCURRENT_STREAMS };
