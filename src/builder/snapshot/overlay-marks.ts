/** Overlayfs's own marks. In a user namespace nobody may write `trusted.*`, and overlayfs is told to keep its marks in `user.*`. */
import { readFileSync } from 'node:fs';

/** True unless every id of the machine is mapped to itself. */
export const inUserNamespace: boolean = (() => {
  try {
    return !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'utf8'));
  } catch {
    return false;
  }
})();

/** Set to `y`: the directory hides what is below it. */
export const OPAQUE_XATTR = inUserNamespace ? 'user.overlay.opaque' : 'trusted.overlay.opaque';
