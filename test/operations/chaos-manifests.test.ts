import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';

const DIR = join(import.meta.dirname, '..', '..', 'deploy', 'chaos');
/** What each kind cannot do without: https://chaos-mesh.org/docs/ */
const REQUIRED: Readonly<Record<string, readonly string[]>> = {
  NetworkChaos: ['action', 'mode', 'selector', 'duration'],
  PodChaos: ['action', 'mode', 'selector'],
  StressChaos: ['mode', 'selector', 'stressors', 'duration'],
  IOChaos: ['action', 'mode', 'selector', 'volumePath', 'duration'],
  TimeChaos: ['mode', 'selector', 'timeOffset', 'duration'],
};

test('every Chaos Mesh manifest has what its kind needs and belongs to a game', () => {
  const files = readdirSync(DIR).filter((file) => file.endsWith('.yaml'));
  for (const file of files) {
    const manifest = parse(readFileSync(join(DIR, file), 'utf8')) as { apiVersion: string; kind: string; spec: object };
    assert.equal(manifest.apiVersion, 'chaos-mesh.org/v1alpha1', file);
    for (const key of REQUIRED[manifest.kind] ?? assert.fail(`${file}: ${manifest.kind}`))
      assert.ok(key in manifest.spec, `${file}: ${key}`);
    if (file !== 'clock-jump.yaml') assert.ok(existsSync(join(DIR, '..', '..', 'gamedays', file)), `${file} has no game`);
  }
});
