/** The game of the cache outage on a real stand in compressed time, and the same game on systems broken on purpose, which must fail as named. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { GameReport } from '../../src/operate/gameday/report.ts';
import { run, unableTo } from '../fixtures/daemon.ts';

const skip = unableTo('runc', 'busybox', 'docker-registry', 'prometheus', 'prometheus-alertmanager');
const MAIN = join(import.meta.dirname, '..', '..', 'src', 'cmd', 'main.ts');

async function play(
  ...args: readonly string[]
): Promise<{ readonly status: number | null; readonly shown: string; readonly report: GameReport; readonly junit: string }> {
  const dir = await mkdtemp(join(tmpdir(), 'cooper-games-'));
  try {
    const { status, stdout, stderr } = await run(process.execPath, [
      MAIN,
      'gameday',
      'run',
      'cache-outage',
      '--report-dir',
      dir,
      ...args,
    ]);
    const name = args[1] === undefined ? 'cache-outage' : `cache-outage-${args[1]}`;
    const [report, junit] = await Promise.all([
      readFile(join(dir, `${name}.json`), 'utf8'),
      readFile(join(dir, `${name}.junit.xml`), 'utf8'),
    ]);
    return { status, shown: stdout + stderr, report: JSON.parse(report) as GameReport, junit };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

test('the cache goes away: one ticket, no failed build, and it is over when the cache is back', { skip }, async () => {
  const { status, shown, report, junit } = await play();
  assert.equal(status, 0, shown);
  assert.equal(report.outcome, 'passed');
  assert.equal(report.score.passed, report.score.total);
  assert.ok((report.times.mttdMs ?? 0) > 0 && (report.times.mttrMs ?? 0) > (report.times.mttdMs ?? 0), shown);
  assert.match(junit, /failures="0" errors="0"/);
});

for (const mutation of ['fallback-disabled', 'route-broken']) {
  test(`on a system with ${mutation} the game fails with the expectation it names`, { skip }, async () => {
    const { status, shown, report } = await play('--mutate', mutation);
    assert.equal(status, 0, shown);
    assert.match(shown, new RegExp(`caught: ${mutation}`));
    assert.equal(report.outcome, 'failed');
  });
}
