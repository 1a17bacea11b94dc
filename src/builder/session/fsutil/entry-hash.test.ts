import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileDigest, finishFileDigest, startFileDigest } from './entry-hash.ts';

const hi = { mode: 0o644, uid: 0, gid: 0, size: 3, xattrs: [] };

test('the digest of a file is the one BuildKit keys it by', () => {
  assert.equal(fileDigest(hi, Buffer.from('hi\n')), 'sha256:24c9567cfc17c5ccb6e4d178b04b9bb870ef90f3fb94f6b08fbc5b2a456769eb');
});

test('a file hashed in pieces has the digest of the whole', () => {
  assert.equal(finishFileDigest(startFileDigest(hi).update('h').update('i\n')), fileDigest(hi, Buffer.from('hi\n')));
});

for (const [what, change, same] of [
  ['permissions', { mode: 0o600 }, false],
  ['set-uid', { mode: (1 << 23) | 0o644 }, false],
  ['the owner', { uid: 1 }, false],
  ['a user attribute', { xattrs: [['user.a', Buffer.from('1')]] as const }, false],
  ['a capability', { xattrs: [['security.capability', Buffer.from('1')]] as const }, false],
  ['an SELinux label', { xattrs: [['security.selinux', Buffer.from('1')]] as const }, true],
] as const) {
  test(`${what} ${same ? 'is not' : 'is'} part of the digest`, () => {
    assert.equal(fileDigest({ ...hi, ...change }, Buffer.from('hi\n')) === fileDigest(hi, Buffer.from('hi\n')), same);
  });
}
