/**
 * A node:test reporter that lists skipped tests by name (a test that did not run must not look like one that passed), and hands
 * scripts/run.mjs what was skipped and which files had failures, as lines of JSON in the file that COOPER_TEST_OUTCOME names.
 */
import { writeFileSync } from 'node:fs';

/** @param {AsyncIterable<import('node:test').TestEvent>} source */
export default async function* outcomeReporter(source) {
  const skipped = [];
  const failedFiles = new Set();
  for await (const event of source) {
    if (event.type === 'test:fail' && event.data.file !== undefined) failedFiles.add(event.data.file);
    if (event.type !== 'test:pass' || event.data.skip === undefined) continue;
    const reason = typeof event.data.skip === 'string' ? `: ${event.data.skip}` : '';
    skipped.push(`${event.data.name}${reason}`);
  }
  if (process.env.COOPER_TEST_OUTCOME)
    writeFileSync(process.env.COOPER_TEST_OUTCOME, JSON.stringify({ skipped, failedFiles: [...failedFiles] }));
  if (skipped.length > 0) yield `skipped ${skipped.length}:\n${skipped.map((name) => `  ${name}\n`).join('')}`;
}
