/**
 * What toxiproxy cannot say, because it knows only bytes: answers with a status, bodies cut off or with another digest than promised.
 * Both sides speak plain HTTP/1.1. Requests the fault is not about pass untouched.
 */
import http from 'node:http';
import { splitAddress } from './fault-proxy-address.ts';

export const HTTP_FAULT_KINDS = ['status', 'truncate', 'wrong-digest'] as const;
export interface HttpFault {
  readonly kind: (typeof HTTP_FAULT_KINDS)[number];
  /** Of `status`. */
  readonly status?: number;
  /** Seconds in Retry-After. */
  readonly retryAfterS?: number;
  /** Only requests whose `METHOD /path` matches. */
  readonly match?: string;
}

export function httpFaultHandler(upstream: string, faultNow: () => HttpFault | undefined): http.RequestListener {
  return (request, response) => {
    const fault = faultNow();
    const concerned = fault !== undefined && new RegExp(fault.match ?? '').test(`${request.method} ${request.url}`);
    if (concerned && fault.kind === 'status') return answerStatus(request, response, fault);
    forward(upstream, request, response, concerned ? fault : undefined);
  };
}

function answerStatus(request: http.IncomingMessage, response: http.ServerResponse, fault: HttpFault): void {
  request.resume();
  const status = fault.status ?? 503;
  response.writeHead(status, {
    'content-type': 'application/json',
    ...(fault.retryAfterS !== undefined && { 'retry-after': String(fault.retryAfterS) }),
  });
  const code = { 401: 'UNAUTHORIZED', 403: 'DENIED', 429: 'TOOMANYREQUESTS' }[status] ?? 'UNKNOWN';
  response.end(JSON.stringify({ errors: [{ code, message: `answered ${status} by a fault that was asked for` }] }));
}

function forward(
  upstream: string,
  request: http.IncomingMessage,
  response: http.ServerResponse,
  fault: HttpFault | undefined,
): void {
  const [host, port] = splitAddress(upstream);
  const { method = 'GET', url = '/', headers } = request;
  const onward = http.request({ host, port: Number(port), method, path: url, headers, agent: false }, (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    if (fault === undefined) answer.pipe(response);
    else void spoil(answer, response, fault);
    answer.once('error', () => response.destroy());
  });
  onward.once('error', () => response.destroy());
  request.pipe(onward);
}

/** `truncate` sends half of what the headers promise and drops the connection; `wrong-digest` turns one bit. */
async function spoil(answer: http.IncomingMessage, response: http.ServerResponse, fault: HttpFault): Promise<void> {
  const promised = Number(answer.headers['content-length'] ?? 0);
  let sent = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    if (fault.kind === 'wrong-digest' && sent === 0 && chunk.byteLength > 0) chunk[0] = (chunk[0] ?? 0) ^ 1;
    const last = fault.kind === 'truncate' && sent + chunk.byteLength > promised / 2;
    response.write(last ? chunk.subarray(0, Math.floor(chunk.byteLength / 2)) : chunk);
    sent += chunk.byteLength;
    if (last) return void setTimeout(() => response.destroy(), 20);
  }
  response.end();
}
