import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { BuildError } from '../../core/errors.ts';
import { parseMode } from './chmod-mode.ts';

const MODES = [
  '755',
  '0644',
  '4711',
  'u+x',
  'go-w',
  'a=r',
  '+X',
  'a+rX',
  'u=rwx,go=rx',
  'u=rwx,go=u-w',
  'go=',
  'go=u',
  'g=u',
  '+t',
  'u+s,g+s',
  'a-x',
  'u-s',
  'o+w,g=o',
];

test('modes mean what chmod makes of them, for files and directories', {
  skip: process.platform === 'linux' ? false : 'needs GNU chmod',
}, (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'cooper-mode-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const [file, folder] = [join(dir, 'file'), join(dir, 'folder')];
  writeFileSync(file, '');
  mkdirSync(folder);
  for (const text of MODES) {
    for (const before of [0o000, 0o640, 0o755, 0o6711]) {
      for (const path of [file, folder]) {
        if (path === folder && before > 0o777) continue; // GNU chmod keeps a directory's setgid bit, which is its own idea
        chmodSync(path, before);
        execFileSync('sh', ['-c', 'umask 0; chmod "$1" "$2"', 'sh', text, path]);
        const expected = statSync(path).mode & 0o7777;
        assert.equal(
          parseMode(text)(before, path === folder),
          expected,
          `${text} on ${before.toString(8)} ${path === folder ? 'directory' : 'file'}`,
        );
      }
    }
  }
});

for (const text of ['', 'x', 'u', 'u+q', '888', '77777', 'u+x,', '=,', 'u~x'])
  test(`${JSON.stringify(text)} is no mode`, () => {
    assert.throws(
      () => parseMode(text),
      (error) => error instanceof BuildError && error.kind === 'invalid-input',
    );
  });
