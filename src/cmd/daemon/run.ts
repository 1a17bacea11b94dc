/** The daemon as a process: reads the configuration, runs until a signal, drains. */
import { existsSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { formatFlags, isOn, parseArguments } from '../args.ts';
import { loadConfig, SETTING_FLAGS } from '../config/load.ts';
import { defaultsFor } from '../defaults.ts';
import { enterNamespace } from '../namespace.ts';

const FLAGS = [
  {
    name: 'config',
    kind: 'text',
    value: 'FILE',
    doc: 'configuration file (/etc/cooper/cooperd.toml, else /etc/buildkit/buildkitd.toml)',
  },
  ...SETTING_FLAGS,
  { name: 'help', short: 'h', kind: 'switch', doc: 'show this text' },
] as const;

export async function runDaemon(argv: readonly string[]): Promise<number> {
  const args = parseArguments(argv, FLAGS);
  if (isOn(args, 'help')) {
    console.log(`Usage: cooper daemon [flags]\n\n${formatFlags(FLAGS)}`);
    return 0;
  }
  const uid = process.getuid?.() ?? -1;
  enterNamespace(uid, process.env);
  const { daemonConfig } = await import('./daemon-config.ts');
  const loaded = loadConfig(args, process.env);
  const config = daemonConfig(loaded.values, defaultsFor(uid, process.env), diskSizeOf);
  const { startDaemon } = await import('./daemon.ts');
  await using daemon = await startDaemon(config, { texts: loaded.warnings, unknownKeys: loaded.unknownKeys });
  await stopSignal();
  await daemon.drain();
  return 0;
}

/** The folder may not exist yet; its nearest parent is on the same disk. */
function diskSizeOf(root: string): number {
  let path = root;
  while (!existsSync(path)) path = dirname(path);
  const { blocks, bsize } = statfsSync(path);
  return blocks * bsize;
}

function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
  });
}
