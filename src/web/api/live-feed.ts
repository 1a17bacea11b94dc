/**
 * Server-sent events of a document that changes: the whole of it first, then what changed, key by key. One feed is computed once for
 * everybody who watches it, only while somebody does, and less often when computing it is dear. A client that does not read is dropped.
 */
import type { ServerResponse } from 'node:http';

export interface FeedDocument {
  readonly values: ReadonlyMap<string, unknown>;
  /** It will not change any more: clients are told so and the streams end. */
  readonly isLast?: boolean;
}

export interface FeedOptions {
  readonly compute: () => Promise<FeedDocument | undefined>;
  readonly intervalMs: number;
  readonly onError: (error: unknown) => void;
  /** Nobody watches any more. */
  readonly onIdle: () => void;
}

const MAX_UNREAD_BYTES = 1024 * 1024; // a client this far behind is not watching
const MAX_SHARE = 20; // computing takes at most one part in this many of the time
const BEAT_MS = 15_000; // proxies close what is silent for a minute

/** Headers of an event stream; nothing on the way may hold it back. */
export function openEventStream(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'x-accel-buffering': 'no' });
  response.write('retry: 2000\n\n');
}

/** Writes one event. False, and the connection is gone, when the client has stopped reading. */
export function sendEvent(response: ServerResponse, event: string, data: unknown): boolean {
  return sendText(response, `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
}
function sendText(response: ServerResponse, text: string): boolean {
  if (response.destroyed || response.writableEnded) return false;
  response.write(text);
  if (response.writableLength <= MAX_UNREAD_BYTES) return true;
  response.destroy();
  return false;
}

export class LiveFeed {
  readonly #options: FeedOptions;
  readonly #clients = new Set<ServerResponse>();
  /** JSON by key, as the clients have it. */
  #sent = new Map<string, string>();
  #timer: NodeJS.Timeout | undefined;
  #computing = false;
  #lastBeatMs = performance.now();

  constructor(options: FeedOptions) {
    this.#options = options;
  }

  get clients(): number {
    return this.#clients.size;
  }

  /** The stream must be open. Ends when the client goes, is too slow, or the document is gone. */
  add(response: ServerResponse): void {
    this.#clients.add(response);
    response.once('close', () => this.#leave(response));
    if (this.#sent.size > 0) sendText(response, eventOf('all', this.#sent, []));
    else if (!this.#computing) void this.#tick();
  }

  /** Ends every stream. */
  close(): void {
    clearTimeout(this.#timer);
    for (const client of this.#clients) {
      sendEvent(client, 'end', {});
      client.end();
    }
  }

  #leave(response: ServerResponse): void {
    if (!this.#clients.delete(response) || this.#clients.size > 0) return;
    clearTimeout(this.#timer);
    this.#sent = new Map();
    this.#options.onIdle();
  }

  async #tick(): Promise<void> {
    const startedMs = performance.now();
    this.#computing = true;
    try {
      const document = await this.#options.compute();
      if (document !== undefined) this.#publish(document.values);
      if (document === undefined || document.isLast === true) return this.close();
    } catch (error) {
      this.#options.onError(error);
    } finally {
      this.#computing = false;
    }
    if (this.#clients.size === 0) return;
    const tookMs = performance.now() - startedMs;
    this.#timer = setTimeout(() => void this.#tick(), Math.max(this.#options.intervalMs, tookMs * MAX_SHARE));
  }

  #publish(document: ReadonlyMap<string, unknown>): void {
    if (this.#clients.size === 0) return;
    const isFirst = this.#sent.size === 0;
    const now = new Map([...document].map(([key, value]) => [key, JSON.stringify(value)]));
    const changed = new Map([...now].filter(([key, json]) => this.#sent.get(key) !== json));
    const gone = [...this.#sent.keys()].filter((key) => !now.has(key));
    this.#sent = now;
    const nowMs = performance.now();
    const hasNews = changed.size > 0 || gone.length > 0;
    if (!hasNews && nowMs - this.#lastBeatMs < BEAT_MS) return;
    this.#lastBeatMs = nowMs;
    const text = hasNews || isFirst ? eventOf(isFirst ? 'all' : 'change', changed, gone) : ': beat\n\n';
    for (const client of this.#clients) sendText(client, text);
  }
}

/** The values are JSON already. */
function eventOf(event: 'all' | 'change', set: ReadonlyMap<string, string>, gone: readonly string[]): string {
  const values = [...set].map(([key, json]) => `${JSON.stringify(key)}:${json}`).join(',');
  return `event: ${event}\ndata: {"set":{${values}},"gone":${JSON.stringify(gone)}}\n\n`;
}
