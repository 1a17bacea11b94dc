/** `cooper cache check` and `cooper cache warm`. */
import { BuildError } from '../../core/errors.ts';

const USAGE = `Usage: cooper cache COMMAND [flags]

  check       compare blobs, records, snapshots and keys with one another; --repair makes it good
  warm        build a list of targets, so that their cache is here before it is needed`;

export async function run(argv: readonly string[]): Promise<number> {
  const [act, ...rest] = argv;
  if (act === 'check') return await (await import('./cache-check.ts')).run(rest);
  if (act === 'warm') return await (await import('./cache-warm.ts')).run(rest);
  if (act === undefined || act === 'help' || act === '--help' || act === '-h') {
    console.log(USAGE);
    return act === undefined ? 2 : 0;
  }
  throw new BuildError('invalid-input', `unknown command "cache ${act}"`, { hint: 'cooper cache help lists the commands' });
}
