/** Writes docs/screenshots/*.png: the page of a real daemon after real builds, in light and dark. Run by hand when the page changes. */
import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { openBrowser } from '../test/fixtures/browser.ts';
import { TestDaemon } from '../test/fixtures/daemon.ts';
import { playScene, SCENE_TOML, startSlowBuild } from '../test/fixtures/page-scene.ts';

const OUT = process.argv[2] ?? join(import.meta.dirname, '..', 'docs', 'screenshots');
const SLOW_SECONDS = 60;

mkdirSync(OUT, { recursive: true });
await using daemon = await TestDaemon.start({ toml: SCENE_TOML });
await using scene = await playScene(daemon);
const slow = startSlowBuild(daemon, scene.context, SLOW_SECONDS);
await setTimeout(16_000); // the daemon looks at its disk every 15 seconds
const [cold = '', changed = '', failed = ''] = scene.refs;

const views: readonly (readonly [name: string, path: string, ready: string])[] = [
  ['overview', '#/', '.progress .meter'],
  ['build', `#/builds/${changed}`, '.waterfall .row.chosen'],
  ['build-failed', `#/builds/${failed}`, '.log pre'],
  ['compare', `#/compare/${cold}/${changed}`, 'table'],
  ['steps', '#/steps', 'table'],
  ['cache', '#/cache', '#records'],
  ['runbook', '#/runbooks/CooperBuildSuccessBurn', '.runbook h2'],
  ['objective', '#/slo/build-success', '.chart canvas'],
];
for (const dark of [false, true]) {
  await using browser = await openBrowser(daemon.opsUrl, { dark });
  for (const [name, path, ready] of views) {
    if (dark && !['overview', 'build'].includes(name)) continue;
    await browser.page.goto(`${daemon.opsUrl}/${path}`);
    await browser.page.reload();
    await browser.page.waitForSelector(ready);
    await browser.page.waitForTimeout(1_500); // logs and charts come after the frame
    const file = join(OUT, `${name}${dark ? '-dark' : ''}.png`);
    await browser.page.screenshot({ path: file, fullPage: process.argv[2] !== undefined });
    console.log(`${Math.round(statSync(file).size / 1000)} kB ${file}`);
  }
  for (const trouble of browser.trouble) console.error(trouble);
}
await daemon.kill('SIGTERM');
await slow;
