/** docs/verify.md is a promise: every command in it runs something that exists. */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';

const text = readFileSync('docs/verify.md', 'utf8');
const SCRIPTS = Object.keys((JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: object }).scripts);

test('every command of docs/verify.md names files that are there', () => {
  const paths = [...text.matchAll(/(?:^|[\s(`])((?:src|test|bench|dashboards|alerts|docs)\/[\w./*-]+)/gm)].map(
    ([, path = '']) => path,
  );
  assert.ok(paths.length > 30);
  for (const path of paths) assert.ok(globSync(path).length > 0, path);
  for (const [, link = ''] of text.matchAll(/\]\(([^)#]+)\)/g))
    assert.ok(existsSync(join(dirname('docs/verify.md'), link)), link);
  for (const [, script = ''] of text.matchAll(/npm run ([\w:]+)/g)) assert.ok(SCRIPTS.includes(script), script);
});
