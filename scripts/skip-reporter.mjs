/** A node:test reporter that lists skipped tests by name: a test that did not run must not look like one that passed. */
import { appendFileSync } from 'node:fs';

/** @param {AsyncIterable<import('node:test').TestEvent>} source */
export default async function* skipReporter(source) {
  const skipped = [];
  for await (const event of source) {
    if (event.type !== 'test:pass' || event.data.skip === undefined) continue;
    const reason = typeof event.data.skip === 'string' ? `: ${event.data.skip}` : '';
    skipped.push(`${event.data.name}${reason}`);
  }
  if (skipped.length === 0) return;
  if (process.env.COOPER_SKIPPED_FILE) appendFileSync(process.env.COOPER_SKIPPED_FILE, `${skipped.join('\n')}\n`);
  yield `skipped ${skipped.length}:\n${skipped.map((name) => `  ${name}\n`).join('')}`;
}
