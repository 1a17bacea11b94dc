/** The page at / in a real Chromium, over a real daemon with real builds. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import type { Page } from 'playwright-core';
import { type Browser, noBrowser, openBrowser } from '../fixtures/browser.ts';
import { TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { playScene, SCENE_TOML, type Scene, startSlowBuild } from '../fixtures/page-scene.ts';

const skip = noBrowser || unableTo('buildctl', 'runc', 'busybox');
const TOKEN = randomBytes(24).toString('hex');
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const WAIT_MS = 60_000;

let dir: string;
let daemon: TestDaemon;
let scene: Scene;
let browser: Browser;
let page: Page;

before(async () => {
  if (skip !== false) return;
  dir = await mkdtemp(join(tmpdir(), 'cooper-page-'));
  writeFileSync(join(dir, 'tokens'), `tester ${TOKEN}\n`, { mode: 0o600 });
  daemon = await TestDaemon.start({
    toml: `${SCENE_TOML}[cooper.ops]\ntoken-file = "${join(dir, 'tokens')}"\n[cooper.admission]\nmax-builds = 1\n`,
  });
  scene = await playScene(daemon);
  browser = await openBrowser(daemon.opsUrl);
  page = browser.page;
  page.setDefaultTimeout(WAIT_MS);
});
after(async () => {
  await browser?.[Symbol.asyncDispose]();
  await scene?.[Symbol.asyncDispose]();
  await daemon?.[Symbol.asyncDispose]();
  if (dir !== undefined) await rm(dir, { recursive: true, force: true });
});
afterEach(() => {
  if (skip !== false) return;
  const trouble = browser.trouble.splice(0);
  assert.deepEqual(trouble, [], 'nothing was logged as an error, thrown or refused by the content security policy');
  assert.deepEqual(browser.foreign, [], 'no other host was asked for anything');
});

/** Runs in the page; text, because the DOM's types are none of this program's. */
const inPage = <T>(expression: string): Promise<T> => page.evaluate<T>(expression);
const ref = (at: number): string => scene.refs[at] ?? '';
async function open(path: string): Promise<void> {
  await page.goto(`${daemon.opsUrl}/${path}`);
  await page.waitForSelector('main h1');
}
/** Views with something each must show. */
const VIEWS: readonly (readonly [name: string, path: () => string, selector: string])[] = [
  ['overview', () => '#/', '.objective svg.burn'],
  ['builds', () => '#/builds', 'tbody tr:nth-child(4)'],
  ['build', () => `#/builds/${ref(1)}`, '.waterfall .row.chosen'],
  ['failed build', () => `#/builds/${ref(2)}`, '.waterfall .row.failed'],
  ['compare', () => `#/compare/${ref(0)}/${ref(1)}`, '.delta'],
  ['steps', () => '#/steps', 'svg.columns'],
  ['one step', () => `#/steps?name=${encodeURIComponent('[deps 1/2] COPY lock.txt .')}`, '.lengthbar'],
  ['cache', () => '#/cache', '#records ~ * tbody tr, [aria-labelledby=records] tbody tr'],
  ['alerts and a runbook', () => '#/runbooks/CooperBuildSuccessBurn', '.runbook h2'],
  ['objective', () => '#/slo/build-success', '.chart canvas'],
];

test('the first view takes less than 100 kB of script, style included', { skip }, async () => {
  const sizes: Promise<number>[] = [];
  page.on('response', (response) => {
    if (/\/assets\//.test(response.url())) sizes.push(response.body().then((body) => body.byteLength));
  });
  await open('#/');
  await page.waitForSelector('.objective svg.burn');
  const bytes = (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
  assert.ok(bytes > 10_000 && bytes < 100_000, `${bytes} bytes, unpacked`);
  page.removeAllListeners('response');
});

for (const [name, path, selector] of VIEWS) {
  test(`the view "${name}" shows its subject, passes axe in light and dark, and fits a telephone`, { skip }, async () => {
    await open(path());
    await page.waitForSelector(selector);
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme });
      assert.deepEqual(await axe(), [], colorScheme);
    }
    await page.emulateMedia({ colorScheme: 'light' });
    await page.setViewportSize({ width: 380, height: 800 });
    const over = await inPage<number>('document.documentElement.scrollWidth - innerWidth');
    assert.ok(over <= 0, `${over} px wider than the screen`);
    await page.setViewportSize({ width: 1360, height: 900 });
  });
}

/** Violations as `rule: element`. */
async function axe(): Promise<string[]> {
  await page.evaluate(AXE); // by the debugger, which the page's policy does not bind
  const { violations } = await inPage<{
    readonly violations: readonly {
      readonly id: string;
      readonly nodes: readonly { readonly html: string; readonly failureSummary: string }[];
    }[];
  }>('axe.run()');
  return violations.flatMap(({ id, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id}: ${html.slice(0, 160)} ${failureSummary.slice(0, 300)}`),
  );
}

test('a build says why its steps ran, what failed and what it printed', { skip }, async () => {
  await open(`#/builds/${ref(1)}`);
  await page.waitForSelector('#why');
  await page.getByText('src/main.c').first().waitFor();
  await open(`#/builds/${ref(2)}`);
  await page.locator('[role=log]', { hasText: 'check 17 failed: totals differ' }).waitFor();
  await page.locator('.problem', { hasText: 'exit code: 3' }).first().waitFor();
});

test('what fires is told on every view, with the runbook a click away', { skip }, async () => {
  await open('#/steps');
  await page.locator('nav .count').filter({ hasText: '1' }).waitFor();
  assert.equal(await page.locator('p[role=status]').first().textContent(), '1 alert firing: CooperConfigUnknownKeys');
  await open('#/');
  await page.getByRole('link', { name: 'CooperConfigUnknownKeys' }).click();
  await page.locator('.runbook h2', { hasText: 'Meaning' }).waitFor();
});

test('the keyboard alone reaches the views, walks the waterfall and sees where it is', { skip }, async () => {
  await open('#/');
  await page.reload(); // a new document: nothing has the focus yet
  await page.waitForSelector('.objective svg.burn');
  await page.keyboard.press('Tab');
  assert.equal(await inPage('document.activeElement?.textContent'), 'Skip to content');
  await page.keyboard.press('Enter');
  assert.equal(await inPage('document.activeElement?.tagName'), 'H1');
  await open(`#/builds/${ref(0)}`);
  const grid = page.getByRole('grid', { name: 'Steps of the build' });
  await grid.waitFor();
  await grid.focus();
  const chosen = async (): Promise<string> => (await page.locator('.row.chosen .name').textContent()) ?? '';
  await page.keyboard.press('Home');
  const first = await chosen();
  await page.keyboard.press('ArrowDown');
  const second = await chosen();
  assert.notEqual(second, first);
  await page.keyboard.press('End');
  assert.match(await chosen(), /exporting to image/);
  await page.keyboard.press('ArrowUp');
  const active = await grid.getAttribute('aria-activedescendant');
  assert.equal(await page.locator(`[id="${active}"]`).getAttribute('aria-selected'), 'true');
  assert.equal(await inPage("document.activeElement?.getAttribute('role')"), 'grid', 'the grid stays the one tab stop');
  const outline = await inPage('getComputedStyle(document.activeElement).outlineStyle');
  assert.equal(outline, 'solid', 'the focus can be seen');
});

test('colours follow the system until somebody chooses, and the choice is kept', { skip }, async () => {
  await open('#/');
  const background = (): Promise<string> => inPage<string>('getComputedStyle(document.body).backgroundColor');
  const light = await background();
  await page.emulateMedia({ colorScheme: 'dark' });
  const dark = await background();
  assert.notEqual(dark, light);
  await page.getByLabel('Colours').selectOption('light');
  assert.equal(await background(), light);
  await page.reload();
  await page.waitForSelector('main h1');
  assert.equal(await background(), light);
  await page.getByLabel('Colours').selectOption('system');
  await page.emulateMedia({ colorScheme: 'light' });
});

test('a running build is followed line by line, the next waits at its place, and an operator with a token cancels both', {
  skip,
}, async () => {
  const ended = startSlowBuild(daemon, scene.context, 300);
  await open('#/');
  const row = page.locator('tbody tr', { hasText: 'nightly' });
  await row.locator('.state.busy').waitFor();
  const waits = startSlowBuild(daemon, scene.context, 300, 'later');
  await page.locator('tbody tr', { hasText: 'shop/later' }).getByText('place 1 in the queue').waitFor();
  await row.getByRole('link').click();
  const log = page.locator('[role=log]');
  await log.filter({ hasText: 'line 2' }).waitFor();
  await log.filter({ hasText: 'line 9' }).waitFor();
  await page.getByRole('button', { name: 'Cancel build' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel(/Token/).fill(TOKEN);
  assert.deepEqual(await axe(), [], 'the dialog');
  await dialog.getByRole('button', { name: 'Cancel build' }).click();
  await dialog.getByText('Cancelled.').waitFor();
  await dialog.getByRole('button', { name: 'Close' }).click();
  await page.locator('.title .state', { hasText: 'cancellation' }).waitFor();
  assert.notEqual((await ended).status, 0);
  const { builds } = JSON.parse((await daemon.ops('/api/v1/builds?text=shop/later')).body) as { builds: { ref: string }[] };
  const cancelled = await fetch(`${daemon.opsUrl}/api/v1/builds/${builds[0]?.ref}/cancel`, {
    method: 'POST',
    headers: { authorization: `Bearer ${TOKEN}` },
  });
  assert.equal(cancelled.status, 200);
  assert.match((await waits).stderr, /by an operator/);
});

test('a build of 2 000 steps is drawn and scrolled without long pauses, with only the rows in sight in the document', {
  skip,
}, async () => {
  const steps = Array.from({ length: 2000 }, (_, at) => bigStep(at));
  const set = {
    build: {
      ref: 'big',
      name: 'big',
      startedAt: '2026-01-01T00:00:00Z',
      endedAt: '2026-01-01T00:10:00Z',
      state: 'success',
      frontend: '',
      options: {},
      exporters: [],
      response: {},
    },
    totals: { startedAt: '2026-01-01T00:00:00Z', durationMs: 600_000, criticalMs: 1, accumulatedMs: 1, complete: true },
    ...Object.fromEntries(steps.map((step) => [step.id, step])),
  };
  const body = `event: all\ndata: ${JSON.stringify({ set, gone: [] })}\n\nevent: end\ndata: {}\n\n`;
  await page.route('**/api/v1/builds/big/live', (route) => route.fulfill({ contentType: 'text/event-stream', body }));
  await page.route('**/api/v1/builds/big', (route) => route.fulfill({ json: set.build }));
  await page.route('**/api/v1/builds/big/explain', (route) =>
    route.fulfill({ json: { ref: 'big', startedAt: '', totals: {}, causes: [], steps: [] } }),
  );
  await page.route('**/api/v1/builds/big/logs/**', (route) =>
    route.fulfill({ contentType: 'text/event-stream', body: 'event: end\ndata: {}\n\n' }),
  );
  await open('#/builds/big');
  await page.waitForSelector('.waterfall .all .row');
  const measured = await inPage<{ readonly rows: number; readonly worst: number; readonly count: string }>(`(async () => {
    const pauses = [];
    new PerformanceObserver((list) => pauses.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: 'longtask' });
    const box = document.querySelector('.waterfall .rows');
    let rows = 0;
    for (let frame = 0; frame < 60; frame++) {
      box.scrollTop += 800;
      await new Promise(requestAnimationFrame);
      rows = Math.max(rows, document.querySelectorAll('.waterfall .all .row').length);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
    return { rows, worst: Math.max(0, ...pauses), count: document.querySelector('[role=grid]').getAttribute('aria-rowcount') };
  })()`);
  assert.equal(measured.count, '2001');
  assert.ok(measured.rows > 10 && measured.rows < 120, `${measured.rows} rows in the document`);
  assert.ok(measured.worst < 2_500, `the worst pause took ${measured.worst} ms`); // tens of ms alone; CI has two busy cores
  await page.unrouteAll();
});

function bigStep(at: number) {
  const startMs = at * 290;
  return {
    id: `s${at}`,
    digest: `sha256:${at.toString(16).padStart(64, '0')}`,
    name: `[stage ${at % 40}/40] RUN step ${at}`,
    op: 'exec',
    state: at % 3 === 0 ? 'cached' : 'done',
    startMs,
    endMs: startMs + 4_000,
    inputs: at === 0 ? [] : [`s${at - 1}`],
    critical: at % 5 === 0,
    cacheable: true,
    phases: [{ name: 'run', startMs, endMs: startMs + 3_900 }],
    facts: {},
    events: [],
  };
}

test('the page says when the daemon is gone, and is live again by itself when it is back', { skip }, async () => {
  await open('#/');
  await page.locator('header .state', { hasText: 'Ready' }).waitFor();
  await page.route('**/api/v1/live', (route) => route.abort());
  await page.reload();
  await page.locator('header .state', { hasText: 'No answer' }).waitFor();
  await page.unrouteAll();
  await page.locator('header .state', { hasText: 'Ready' }).waitFor();
  browser.trouble.splice(0); // the browser logs what the test broke
});
