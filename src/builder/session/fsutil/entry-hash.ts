/** Digest of one directory entry as the content cache keys it: a header of its metadata, then its bytes (buildkit-wire.md 7.4). */
import { createHash, type Hash, hash } from 'node:crypto';
import { type Digest, digestFromHex } from '../../../core/digest.ts';
import { permissionsOf } from './mode.ts';
import type { Stat } from './packet.ts';

type Hashed = Pick<Stat, 'mode' | 'uid' | 'gid' | 'size' | 'xattrs'>;

/** Digest of a regular file whose bytes are all here. */
export function fileDigest(stat: Hashed, content: Uint8Array): Digest {
  const header = headerOf(stat);
  const whole = Buffer.allocUnsafe(header.length + content.byteLength);
  header.copy(whole);
  whole.set(content, header.length);
  return digestFromHex(hash('sha256', whole, 'hex'));
}

/** A hash that has taken the header of a regular file; update it with the file's bytes. */
export function startFileDigest(stat: Hashed): Hash {
  return createHash('sha256').update(headerOf(stat));
}

export const finishFileDigest = (started: Hash): Digest => digestFromHex(started.digest('hex'));

/** Times, names and owners' names stay out, so that they never break a cache key. */
function headerOf(stat: Hashed): Buffer {
  const fixed = `namemode${permissionsOf(stat.mode)}uid${stat.uid}gid${stat.gid}size${stat.size}typeflag0linknameunamegnamedevmajor0devminor0`;
  const xattrs = stat.xattrs.filter(([name]) => isHashedXattr(name));
  if (xattrs.length === 0) return Buffer.from(fixed, 'latin1');
  xattrs.sort(([a], [b]) => (a < b ? -1 : 1));
  return Buffer.concat([
    Buffer.from(fixed, 'latin1'),
    ...xattrs.flatMap(([name, value]) => [Buffer.from(name, 'latin1'), value]),
  ]);
}

const isHashedXattr = (name: string): boolean =>
  name === 'security.capability' || !(name.startsWith('security.') || name.startsWith('system.'));
