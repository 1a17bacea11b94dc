/** Our encoders against what BuildKit's own exporter wrote: the same bytes, so the same digests. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { DiffId } from '../../core/digest.ts';
import { encodeManifest, parseManifest } from '../registry/manifest.ts';
import { parseGoTime } from './go-time.ts';
import { completeConfig } from './image-config.ts';

const golden = (name: string): Buffer => readFileSync(join(import.meta.dirname, '../../../test/golden/image-config', name));

test('a manifest is encoded as BuildKit encodes it', () => {
  const parsed = parseManifest(golden('manifest.json'), 'golden');
  assert.ok(parsed.kind === 'manifest');
  assert.equal(Buffer.from(encodeManifest(parsed.manifest)).toString(), golden('manifest.json').toString());
});

test('a config is completed as BuildKit completes it: what the frontend leaves open is filled from the layers', () => {
  const wanted = JSON.parse(golden('config.json').toString());
  const times: string[] = wanted.history
    .filter((h: { empty_layer?: true }) => h.empty_layer !== true)
    .map((h: { created: string }) => h.created);
  const fromFrontend = golden('config.json')
    .toString()
    .replaceAll(/"created":"[^"]*",/g, '')
    .replace(/"rootfs":\{.*\}\}$/, '"rootfs": { "type": "layers", "diff_ids": null } }');
  const config = completeConfig({
    config: new TextEncoder().encode(fromFrontend),
    baseConfig: undefined,
    epochSeconds: undefined,
    layers: wanted.rootfs.diff_ids.map((diffId: DiffId, at: number) => ({
      diffId,
      description: 'not used: the history names it',
      createdAtNs: parseGoTime(times[at] ?? '').ns,
    })),
  });
  assert.equal(Buffer.from(config).toString(), golden('config.json').toString());
});
