/** Chooses how the builder makes system calls: natively, or by commands where koffi cannot load. The interface is in ports.ts. */
import { openFallback } from './fallback.ts';
import { openNative } from './native.ts';
import type { Sys } from './ports.ts';

export type { Sys } from './ports.ts';

let shared: Sys | undefined;

/**
 * The system calls of this machine. One instance per thread, made on first use. `prefer: 'commands'` skips koffi (tests, or an
 * operator whose platform it breaks on).
 */
export function openSys(options: { readonly prefer?: 'commands' } = {}): Sys {
  if (options.prefer === 'commands') return openFallback();
  shared ??= openNative() ?? openFallback();
  return shared;
}
