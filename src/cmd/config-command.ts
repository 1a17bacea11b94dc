/** `cooper config check [FILE]`: reads a configuration as the daemon would and says everything that is wrong or without effect. */
import { BuildError } from '../core/errors.ts';
import { parseArguments } from './args.ts';
import { loadConfig, SETTING_FLAGS } from './config/load.ts';

/** Exit status 0: clean; 1: unknown keys or keys without effect; 2: a value that would stop the start. */
export async function run(argv: readonly string[]): Promise<number> {
  const [action, ...rest] = argv;
  if (action !== 'check') throw new BuildError('invalid-input', 'usage: cooper config check [FILE]');
  const args = parseArguments(rest, [
    ...SETTING_FLAGS,
    { name: 'config', kind: 'text', value: 'FILE', doc: 'configuration file' },
  ]);
  const [file] = args.operands;
  const loaded = loadConfig(
    file === undefined ? args : { ...args, texts: new Map([...args.texts, ['config', [file]]]) },
    process.env,
  );
  for (const warning of loaded.warnings) console.log(`warning: ${warning}`);
  console.log(
    `${loaded.file ?? 'no configuration file, defaults only'}: ${loaded.warnings.length === 0 ? 'ok' : `${loaded.warnings.length} warnings`}`,
  );
  return loaded.warnings.length === 0 ? 0 : 1;
}
