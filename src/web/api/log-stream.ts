/** The output of a build: as text to keep, or as events to follow. Whoever does not read for ten seconds is dropped, not waited for. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { abortable } from '../../core/abort.ts';
import { sendEvent } from './live-feed.ts';
import type { LogLine } from './model.ts';

const STALLED_MS = 10_000;
const BATCH = 200;

/** False when the client has stopped reading, and is gone. */
export async function readsOn(response: ServerResponse, signal: AbortSignal): Promise<boolean> {
  if (!response.writableNeedDrain) return !response.destroyed;
  try {
    await abortable(once(response, 'drain'), AbortSignal.any([signal, AbortSignal.timeout(STALLED_MS)]));
    return true;
  } catch {
    response.destroy();
    return false;
  }
}

export interface LogChoice {
  /** Only this step; undefined: all of them. */
  readonly step?: string | undefined;
  /** Undefined: output and warnings. */
  readonly kind?: LogLine['kind'] | undefined;
}

/** Text as the steps printed it. Ends with the build. */
export async function sendLogText(
  lines: AsyncIterable<LogLine>,
  response: ServerResponse,
  { step }: LogChoice,
  signal: AbortSignal,
): Promise<void> {
  response.setHeader('content-type', 'text/plain; charset=utf-8');
  for await (const line of lines) {
    if (line.kind !== 'log' || (step !== undefined && line.step !== step)) continue;
    response.write(line.text);
    if (!(await readsOn(response, signal))) return;
  }
  response.end();
}

/** Events `lines` with an array of log lines, then one `end`. The stream must be open. */
export async function sendLogEvents(
  lines: AsyncIterable<LogLine>,
  response: ServerResponse,
  { step, kind }: LogChoice,
  signal: AbortSignal,
): Promise<void> {
  const batch: LogLine[] = [];
  let timer: NodeJS.Timeout | undefined;
  const flush = (): void => {
    clearTimeout(timer);
    timer = undefined;
    if (batch.length > 0) sendEvent(response, 'lines', batch.splice(0));
  };
  try {
    for await (const line of lines) {
      if ((step !== undefined && line.step !== step) || (kind !== undefined && line.kind !== kind)) continue;
      batch.push(line);
      if (batch.length >= BATCH) flush();
      else timer ??= setTimeout(flush, 50);
      if (!(await readsOn(response, signal))) return;
    }
  } finally {
    flush();
  }
  sendEvent(response, 'end', {});
  response.end();
}
