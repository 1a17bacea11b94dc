/** Golden cases: folders with a Dockerfile and what must come of it. `npm run golden:update` writes them anew; the diff is reviewed. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { runCase } from './golden.test-rig.ts';

const root = new URL('../../../../test/golden/dockerfile/', import.meta.url).pathname;
const update = process.env.GOLDEN_UPDATE === '1';

for (const entry of readdirSync(root, { withFileTypes: true })) {
  if (!entry.isDirectory()) continue;
  test(`golden case ${entry.name}`, async () => {
    const dir = join(root, entry.name);
    const { kind, text } = await runCase(dir);
    const [wanted, other] = kind === 'graphs' ? ['llb.json', 'error.txt'] : ['error.txt', 'llb.json'];
    if (update) {
      writeFileSync(join(dir, wanted), text);
      rmSync(join(dir, other), { force: true });
      return;
    }
    assert.ok(existsSync(join(dir, wanted)), `${entry.name}: expected ${other}, the frontend gave ${wanted}:\n${text}`);
    assert.equal(text, readFileSync(join(dir, wanted), 'utf8'));
  });
}
