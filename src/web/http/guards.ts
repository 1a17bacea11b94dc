/**
 * What every request must pass before it is looked at: the Host header (a page of another site that rebinds its name to this address
 * arrives with its own name) and, for calls that change something, the browser's word on where the call comes from.
 */
import { isIP } from 'node:net';
import type { NextFunction, Request, Response } from 'express';
import { Refusal } from './refusal.ts';

/** Nothing of this port may be framed, sniffed, cached or sent elsewhere; the page takes script, style and data from here only. */
export function securityHeaders(_request: Request, response: Response, next: NextFunction): void {
  response.setHeader(
    'content-security-policy',
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  );
  response.setHeader('x-content-type-options', 'nosniff');
  response.setHeader('x-frame-options', 'DENY');
  response.setHeader('referrer-policy', 'no-referrer');
  response.setHeader('cross-origin-resource-policy', 'same-origin');
  response.setHeader('cross-origin-opener-policy', 'same-origin');
  response.setHeader('cache-control', 'no-store');
  next();
}

const LOOPBACK = new Set(['localhost', '127.0.0.1', '::1']);
export const isLoopback = (host: string): boolean => LOOPBACK.has(host) || host.startsWith('127.');

/**
 * Checks the Host header. Literal addresses pass: a name is what can be rebound. Other names pass when they are configured, and all
 * of them when the port is not on a loopback address and none is configured, because then only the operator knows its names.
 */
export function hostGuard(
  listenHost: string,
  allowed: readonly string[],
): (request: Request, _: Response, next: NextFunction) => void {
  const names = new Set(allowed.map((name) => name.toLowerCase()));
  const anyName = names.size === 0 && !isLoopback(listenHost);
  return (request, _response, next) => {
    const host = hostNameOf(request.headers.host);
    if (anyName || host === undefined || LOOPBACK.has(host) || isIP(host) !== 0 || names.has(host)) return next();
    throw new Refusal(421, 'denied', `this port does not answer to the name "${host}"`, {
      hint: 'use 127.0.0.1 or localhost, or add the name to cooper.ops.allowed-hosts',
    });
  };
}

/** The name in a Host header, without port and brackets; undefined when there is none (HTTP/1.0). */
function hostNameOf(header: string | undefined): string | undefined {
  if (header === undefined || header === '') return undefined;
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:]*))(?::\d+)?$/.exec(header);
  return (match?.[1] ?? match?.[2] ?? header).toLowerCase();
}

/** @throws Refusal when a browser says that a page of another origin makes this call. */
export function refuseCrossOrigin(request: Request): void {
  const { origin, host, 'sec-fetch-site': site } = request.headers;
  const crossSite = site !== undefined && site !== 'same-origin' && site !== 'none';
  const crossOrigin = origin !== undefined && originHost(origin) !== host;
  if (!crossSite && !crossOrigin) return;
  throw new Refusal(403, 'denied', 'a page of another origin may not change anything here', {
    hint: 'call the API from a program, or from the page at / of this port',
  });
}
function originHost(origin: string): string | undefined {
  return URL.canParse(origin) ? new URL(origin).host : undefined;
}
