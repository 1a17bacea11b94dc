/** Writes the page at / to dist/web, for installations without esbuild; a clone bundles it in memory when it is first opened. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bundled } from '../src/web/page/bundle.ts';

const OUT = join(import.meta.dirname, '..', 'dist', 'web');
const files = await bundled();
if (files === undefined) throw new Error('esbuild is not installed: npm install');
rmSync(OUT, { recursive: true, force: true });
mkdirSync(OUT, { recursive: true });
for (const [name, bytes] of files) {
  writeFileSync(join(OUT, name), bytes);
  console.log(`${String(bytes.byteLength).padStart(8)} ${name}`);
}
