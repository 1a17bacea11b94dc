/** Generated code must be what the .proto files say: regenerates into a temp dir and compares. `npm run proto` repairs a difference. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const GENERATED = 'src/builder/proto/gen';
const bin = resolve('node_modules/.bin');
const dir = mkdtempSync(join(tmpdir(), 'cooper-proto-'));
try {
  // `out` of buf.gen.yaml is relative to -o, so the whole tree lands below the temp dir
  execFileSync(join(bin, 'buf'), ['generate', '-o', dir], {
    stdio: 'inherit',
    env: { ...process.env, PATH: `${bin}:${process.env.PATH}` },
  });
  const wanted = filesBelow(join(dir, GENERATED));
  const present = filesBelow(GENERATED);
  const problems = [
    ...wanted.filter((file) => !present.includes(file)).map((file) => `${file} is missing`),
    ...present.filter((file) => !wanted.includes(file)).map((file) => `${file} has no .proto file any more`),
    ...wanted.filter((file) => present.includes(file) && !same(file)).map((file) => `${file} is not what its .proto file says`),
  ];
  for (const problem of problems) console.error(`${GENERATED}/${problem}; run npm run proto`);
  console.log(`${wanted.length} generated files, ${problems.length} problems`);
  process.exitCode = problems.length === 0 ? 0 : 1;
} finally {
  rmSync(dir, { recursive: true });
}

function same(file: string): boolean {
  return readFileSync(join(dir, GENERATED, file)).equals(readFileSync(join(GENERATED, file)));
}

function filesBelow(root: string): string[] {
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .sort();
}
