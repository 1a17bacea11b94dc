/** `npm run loadtest`: a load run with the settings of the environment; prints the table and exits 1 when a threshold is broken. */
import { join } from 'node:path';
import { runLoad } from './run-load.ts';

const NAMES = ['DURATION', 'RUN_RATE', 'NOOP_RATE', 'RUN_P95', 'NOOP_P95'];

const summaryDir = process.env.SUMMARY_DIR || join(import.meta.dirname, '..', '.state', 'loadtest');
const settings = Object.fromEntries(NAMES.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])));
const { ok, output } = await runLoad({ settings, summaryDir });
console.log(output);
console.log(`${ok ? 'passed' : 'failed'}; summary.json and summary.md are in ${summaryDir}`);
process.exitCode = ok ? 0 : 1;
