/** `cooper daemon`. The process replaces itself to enter its namespace, so it does that before anything more is loaded. */
import { enterNamespace } from './namespace.ts';

export async function run(argv: readonly string[]): Promise<number> {
  if (!argv.includes('--help') && !argv.includes('-h')) enterNamespace(process.getuid?.() ?? -1, process.env);
  const { runDaemon } = await import('./daemon/run.ts');
  return await runDaemon(argv);
}
