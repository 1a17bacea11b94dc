import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatPlatform, normalizePlatform, type Platform, parsePlatform, platformId } from './platform.ts';

const host: Platform = { os: 'linux', architecture: 'amd64', variant: '', osVersion: '', osFeatures: [] };

for (const [text, printed, normal] of [
  ['linux/amd64', 'linux/amd64', 'linux/amd64'],
  ['linux', 'linux/amd64', 'linux/amd64'],
  ['arm64', 'linux/arm64', 'linux/arm64'],
  ['x86_64', 'linux/amd64', 'linux/amd64'],
  ['linux/arm', 'linux/arm', 'linux/arm/v7'],
  ['linux/arm/v7', 'linux/arm/v7', 'linux/arm/v7'],
  ['linux/arm/6', 'linux/arm/v6', 'linux/arm/v6'],
  ['linux/armhf', 'linux/arm', 'linux/arm/v7'],
  ['linux/arm64/v8', 'linux/arm64/v8', 'linux/arm64'],
  ['linux/amd64/v1', 'linux/amd64', 'linux/amd64'],
  ['macos/arm64', 'darwin/arm64', 'darwin/arm64'],
  ['windows(10.0.17763)/amd64', 'windows(10.0.17763)/amd64', 'windows(10.0.17763)/amd64'],
  ['windows(10.0.17763+win32k)/amd64', 'windows(10.0.17763+win32k)/amd64', 'windows(10.0.17763+win32k)/amd64'],
] as const)
  test(`platform ${text} prints as ${printed} and is ${normal}`, () => {
    const platform = parsePlatform(text, host);
    assert.equal(platformId(platform), printed);
    assert.equal(platformId(normalizePlatform(platform)), normal);
  });

for (const [text, message] of [
  ['*', /wildcards not yet supported/],
  ['toaster', /unknown operating system or architecture/],
  ['linux/amd64/v1/x', /cannot parse platform specifier/],
  ['linux/a b', /is an invalid component/],
  ['', /is an invalid OS component/],
] as const)
  test(`platform "${text}" is refused`, () => assert.throws(() => parsePlatform(text, host), message));

test('the short form leaves the OS version out', () => {
  assert.equal(formatPlatform(parsePlatform('windows(10.0.17763)/amd64', host)), 'windows/amd64');
  assert.equal(formatPlatform({ ...host, os: '' }), 'unknown');
});
