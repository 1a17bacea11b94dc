import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildError } from '../../core/errors.ts';
import { familiarNameOf, nameOf, parseReference, withDefaultTag, withDigest } from './reference.ts';

const HEX = 'a'.repeat(64);

for (const [text, normalised] of [
  ['busybox', 'docker.io/library/busybox'],
  ['busybox:1', 'docker.io/library/busybox:1'],
  ['moby/buildkit', 'docker.io/moby/buildkit'],
  ['index.docker.io/library/busybox', 'docker.io/library/busybox'],
  ['docker.io/busybox', 'docker.io/library/busybox'],
  ['localhost/app', 'localhost/app'],
  ['localhost:5000/app:v1', 'localhost:5000/app:v1'],
  ['127.0.0.1:5000/a/b__c/d--e:V_1.x', '127.0.0.1:5000/a/b__c/d--e:V_1.x'],
  ['[::1]:5000/app', '[::1]:5000/app'],
  [`ghcr.io/o/r:t@sha256:${HEX}`, `ghcr.io/o/r:t@sha256:${HEX}`],
  ['REG/app', 'REG/app'],
] as const)
  test(`the reference ${text} normalises to ${normalised}`, () => assert.equal(parseReference(text).text, normalised));

for (const [text, message] of [
  ['', 'repository name must have at least one component'],
  ['Busybox', 'repository name (library/Busybox) must be lowercase'],
  ['ghcr.io/Org/x', 'repository name (Org/x) must be lowercase'],
  ['a..b/c!', 'is not a registry host'],
  ['busy box', '"library/busy box" is not a repository name'],
  ['busybox:', '"" is not a tag'],
  ['busybox:-x', '"-x" is not a tag'],
  ['busybox@sha256:abc', '"sha256:abc" is not a digest'],
  [`busybox@${HEX}`, 'is not a digest'],
  [HEX, 'cannot specify 64-byte hexadecimal strings'],
  [`docker.io/${'a/'.repeat(130)}a`, 'must not be more than 255 characters'],
] as const)
  test(`the reference "${text.slice(0, 40)}" is refused because: ${message}`, () => {
    assert.throws(
      () => parseReference(text),
      (error: unknown) => error instanceof BuildError && error.kind === 'invalid-input' && error.message.includes(message),
    );
  });

test('a default tag is added only when neither tag nor digest is given', () => {
  assert.equal(withDefaultTag(parseReference('busybox')).text, 'docker.io/library/busybox:latest');
  assert.equal(withDefaultTag(parseReference('busybox:1')).text, 'docker.io/library/busybox:1');
  const pinned = parseReference(`busybox@sha256:${HEX}`);
  assert.equal(withDefaultTag(pinned), pinned);
  assert.equal(
    withDigest(parseReference('busybox:1'), pinned.digest ?? assert.fail()).text,
    `docker.io/library/busybox:1@sha256:${HEX}`,
  );
  assert.equal(nameOf(pinned), 'docker.io/library/busybox');
});

for (const [text, familiar] of [
  ['busybox:1', 'busybox:1'],
  ['moby/buildkit:x', 'moby/buildkit:x'],
  ['docker.io/library/a/b', 'library/a/b'],
  ['ghcr.io/o/r:t', 'ghcr.io/o/r:t'],
] as const)
  test(`the familiar name of ${text} is ${familiar}`, () => assert.equal(familiarNameOf(parseReference(text)), familiar));
