/** The `cooper` command: finds the subcommand, loads only what it needs, turns failures into one clear message and an exit status. */

import { BuildError, ERROR_KINDS } from '../core/errors.ts';
import { nearest } from '../core/nearest.ts';

interface Command {
  readonly summary: string;
  readonly load: () => Promise<{ readonly run: (argv: readonly string[]) => Promise<number> }>;
}

const COMMANDS: Readonly<Record<string, Command>> = {
  daemon: { summary: 'run the builder', load: () => import('./daemon-command.ts') },
  build: { summary: 'build an image from a Dockerfile', load: () => import('./client/build-command.ts') },
  builds: { summary: 'list builds', load: () => import('./client/builds-command.ts') },
  explain: { summary: 'say why steps of a build were not cached', load: () => import('./client/explain-command.ts') },
  reproduce: {
    summary: 'make the image of a finished build again and compare',
    load: () => import('./client/reproduce-command.ts'),
  },
  trace: { summary: 'show the trace of a build as a waterfall', load: () => import('./client/trace-command.ts') },
  du: { summary: 'show disk usage', load: () => import('./client/du-command.ts') },
  prune: { summary: 'remove build cache', load: () => import('./client/prune-command.ts') },
  audit: { summary: 'who used which secret, what administrators did', load: () => import('./client/audit-command.ts') },
  gc: { summary: 'garbage collection: `gc plan`, `gc run`', load: () => import('./client/gc-command.ts') },
  cache: { summary: 'the cache: `cache check`, `cache warm`', load: () => import('./client/cache-command.ts') },
  slo: {
    summary: 'service level objectives: status, lint, rules, report, backtest, gate, adjust',
    load: () => import('./client/slo-command.ts'),
  },
  doctor: {
    summary: 'what is wrong with this machine, configuration or daemon, and what to do',
    load: () => import('./client/doctor-command.ts'),
  },
  chaos: { summary: 'faults: `chaos list`, `chaos run`, `chaos proxy`', load: () => import('./chaos-command.ts') },
  runbook: {
    summary: 'runbooks: `runbook list`, `runbook show`, `runbook test`',
    load: () => import('./client/runbook-command.ts'),
  },
  load: { summary: 'load scenarios: `load list`, `load run`, `load compare`', load: () => import('./load/load-command.ts') },
  gameday: { summary: 'game days: `gameday list`, `gameday show`, `gameday run`', load: () => import('./gameday-command.ts') },
  config: { summary: 'configuration: `config check`', load: () => import('./config-command.ts') },
  quickstart: { summary: 'start a daemon, build the example, show what there is to see', load: () => import('./quickstart.ts') },
};

async function main(argv: readonly string[]): Promise<number> {
  const [name = 'help', ...rest] = argv;
  if (name === 'help' || name === '--help' || name === '-h') {
    console.log(usage());
    return 0;
  }
  if (name === 'version' || name === '--version') {
    const { VERSION } = await import('./version.ts');
    console.log(`cooper ${VERSION}`);
    return 0;
  }
  const command = COMMANDS[name];
  if (command === undefined) {
    const near = nearest(name, Object.keys(COMMANDS));
    throw new BuildError('invalid-input', `unknown command "${name}"`, {
      hint: near === undefined ? 'cooper help lists the commands' : `did you mean "${near}"?`,
    });
  }
  return await (await command.load()).run(rest);
}

function usage(): string {
  const lines = Object.entries(COMMANDS).map(([name, { summary }]) => `  ${name.padEnd(12)}${summary}`);
  return `cooper builds container images and is run like a production service.\n\nUsage: cooper COMMAND [arguments]\n\n${lines.join('\n')}\n\ncooper COMMAND --help tells the flags of a command.`;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (thrown) {
  const error = BuildError.from(thrown);
  console.error(`cooper: ${error.message}${error.detail.hint === undefined ? '' : `\n  ${error.detail.hint}`}`);
  if (error.kind === 'internal' && process.env.COOPER_DEBUG !== undefined) console.error((thrown as Error).stack);
  process.exitCode = ERROR_KINDS[error.kind].exit;
}
