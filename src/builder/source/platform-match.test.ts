import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '../../core/digest.ts';
import type { Descriptor } from '../content/ports.ts';
import { parsePlatform } from '../llb/platform.ts';
import { matchingManifests } from './platform-match.ts';

const host = { os: 'linux', architecture: 'amd64', variant: '', osVersion: '', osFeatures: [] };
const manifest = (text: string): Descriptor => {
  const [os = '', architecture = '', variant] = text.split('/');
  const platform = { os, architecture, ...(variant === undefined ? {} : { variant }) };
  return { mediaType: 'm', digest: digestOf(text), size: 1, ...(text === '' ? {} : { platform }) };
};

for (const [wanted, offered, chosen] of [
  ['linux/amd64', 'linux/arm64 linux/amd64 linux/386', 'linux/amd64 linux/386'],
  ['linux/amd64', 'linux/amd64/v3 linux/386', 'linux/386'],
  ['linux/amd64/v3', 'linux/amd64 linux/amd64/v2 linux/amd64/v4', 'linux/amd64/v2 linux/amd64'],
  ['linux/arm64', 'linux/arm/v6 linux/arm/v7 linux/arm64/v8', 'linux/arm64/v8 linux/arm/v7 linux/arm/v6'],
  ['linux/arm64/v9', 'linux/arm64 linux/arm64/v8.5 linux/arm64/v8.6', 'linux/arm64/v8.5 linux/arm64'],
  ['linux/arm/v7', 'linux/arm/v8 linux/arm/v5 linux/arm linux/arm/v6', 'linux/arm linux/arm/v6 linux/arm/v5'],
  ['linux/s390x', 'linux/amd64 unknown/unknown', ''],
  ['linux/riscv64', 'linux/riscv64', 'linux/riscv64'],
] as const)
  test(`${wanted} chooses ${chosen || 'nothing'} from ${offered}`, () => {
    const found = matchingManifests(offered.split(' ').map(manifest), parsePlatform(wanted, host));
    assert.deepEqual(
      found.map(({ digest }) => digest),
      chosen
        .split(' ')
        .filter(Boolean)
        .map((text) => digestOf(text)),
    );
  });

test('a manifest without a platform is the last choice', () => {
  const found = matchingManifests([manifest(''), manifest('linux/amd64')], host);
  assert.deepEqual(
    found.map(({ digest }) => digest),
    [digestOf('linux/amd64'), digestOf('')],
  );
});
