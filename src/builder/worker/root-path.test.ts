import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fc } from '../../../test/fixtures/property.ts';
import { BuildError } from '../../core/errors.ts';
import { resolveInRoot, resolveLinks } from './root-path.ts';

test('paths are resolved as a process inside the root would', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'cooper-root-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  mkdirSync(join(root, 'a/b'), { recursive: true });
  writeFileSync(join(root, 'file'), '');
  for (const [target, path] of [
    ['/a', 'abs'],
    ['../../../../a', 'up'],
    ['b', 'a/rel'],
    ['/nowhere/x', 'dangling'],
    ['loop', 'loop'],
    ['/', 'top'],
  ] as const)
    symlinkSync(target, join(root, path));
  for (const [path, expected] of [
    ['', ''],
    ['/', ''],
    ['..', ''],
    ['/a/../../etc', 'etc'],
    ['abs/b/', 'a/b'],
    ['/up/b', 'a/b'],
    ['/a/rel', 'a/b'],
    ['top/abs', 'a'],
    ['dangling', 'nowhere/x'],
    ['dangling/y', 'nowhere/x/y'],
    ['file/below', 'file/below'],
    ['./a//b/.', 'a/b'],
  ] as const)
    assert.equal(resolveInRoot(root, path), expected === '' ? root : join(root, expected), path);
  assert.equal(resolveInRoot(root, 'abs', { followLast: false }), join(root, 'abs'));
  assert.equal(resolveInRoot(root, 'up/rel', { followLast: false }), join(root, 'a/rel'));
  assert.throws(
    () => resolveInRoot(root, 'loop'),
    (error) => error instanceof BuildError && /too many links/.test(error.message),
  );
});

test('whatever the links of a tree say, no path leaves it', () => {
  const part = fc.constantFrom('a', 'b', '..', '.', '');
  const path = fc.array(part, { maxLength: 6 }).map((parts) => parts.join('/'));
  const target = fc.tuple(fc.boolean(), path).map(([absolute, rest]) => (absolute ? `/${rest}` : rest));
  fc.assert(
    fc.property(path, fc.dictionary(path, target), (wanted, links) => {
      let resolved: string;
      try {
        resolved = resolveLinks(wanted, (inside) => (Object.hasOwn(links, inside) ? links[inside] : undefined));
      } catch (error) {
        return error instanceof BuildError;
      }
      return !resolved.startsWith('/') && !resolved.split('/').includes('..');
    }),
  );
});
