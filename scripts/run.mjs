/**
 * Set-up and entry point of every npm script. Plain JavaScript that runs on Node 20 and newer: it brings Node 24 when the machine's is
 * older, installs the locked packages, finds or installs the OCI runtime, and then hands over.
 *
 *   node scripts/run.mjs start [arguments of `cooper quickstart`]
 *   node scripts/run.mjs test  [test files]
 *   node scripts/run.mjs check
 *   node scripts/run.mjs gameday GAME [flags of `cooper gameday run`]
 *   node scripts/run.mjs exec FILE [arguments]     any TypeScript file, after set-up
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const NODE_MAJOR = 24;
const NODE_VERSION = '24.21.0';
/** More failures than this are no accident of a busy machine. */
const MAX_RETRIED_FILES = 5;
const RUNTIME_PACKAGES = ['runc', 'busybox-static'];

process.chdir(ROOT);

/** Stops with one clear sentence and what to do next. */
function stop(message, hint) {
  console.error(`cooper: ${message}${hint ? `\n  ${hint}` : ''}`);
  process.exit(1);
}

/** Runs a command with its output shown only when it fails. */
function runQuietly(what, command, args, env = process.env) {
  const result = spawnSync(command, args, { cwd: ROOT, env, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
  if (result.status === 0) return;
  stop(
    `${what} failed: ${command} ${args.join(' ')}`,
    `${result.error?.message ?? ''}${result.stdout ?? ''}${result.stderr ?? ''}`.trim(),
  );
}

/** npm's own script when npm started us, so that it can run on another Node; otherwise the npm on PATH. */
function npm(node, args, cwd = ROOT) {
  const script = process.env.npm_execpath;
  const env = { ...process.env, PATH: `${dirname(node)}:${process.env.PATH}` };
  if (script?.endsWith('.js')) runQuietly('npm', node, [script, ...args, '--prefix', cwd], env);
  else runQuietly('npm', 'npm', [...args, '--prefix', cwd], env);
}

/** Path of a Node.js that runs TypeScript and has what the daemon needs. */
function ensureNode() {
  if (Number(process.versions.node.split('.')[0]) >= NODE_MAJOR) return process.execPath;
  if (process.platform !== 'linux')
    stop(`Node.js ${NODE_MAJOR} or newer is needed, this is ${process.version}`, 'install it from your package manager');
  const name = `node-linux-${process.arch}`;
  const home = join(ROOT, '.node', NODE_VERSION);
  const binary = join(home, 'node_modules', name, 'bin', 'node');
  if (!existsSync(binary)) {
    console.error(`cooper: this machine has Node.js ${process.version}; fetching ${NODE_VERSION} into .node/ (once)`);
    mkdirSync(home, { recursive: true });
    writeFileSync(join(home, 'package.json'), '{"private":true}');
    npm(process.execPath, ['install', '--no-save', '--no-package-lock', '--ignore-scripts', `${name}@${NODE_VERSION}`], home);
  }
  return binary;
}

/** Installs exactly what package-lock.json says, once per lock file. */
function ensurePackages(node) {
  const lock = createHash('sha256').update(readFileSync('package-lock.json')).digest('hex');
  const stamp = join('node_modules', '.cooper-lock');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) return;
  console.error('cooper: installing packages');
  // Not `npm ci`: it refuses a lock file without the entries of every other platform's optional binaries. This takes the locked versions too.
  npm(node, ['install', '--no-save', '--ignore-scripts']);
  writeFileSync(stamp, lock);
}

function onPath(program) {
  const dirs = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'];
  return dirs.some((dir) => dir !== '' && existsSync(join(dir, program)));
}

/** runc or crun to run steps, busybox for the example. Root on Debian: installed; otherwise: the command to run. */
function ensureRuntime() {
  if ((onPath('runc') || onPath('crun')) && onPath('busybox')) return;
  ensurePackagesOfDebian(RUNTIME_PACKAGES, 'an OCI runtime (runc or crun) and busybox are needed');
}

/** A game day plays on a real Prometheus, Alertmanager and registry. */
function ensureGameTools() {
  const tools = ['prometheus', 'prometheus-alertmanager', 'docker-registry'];
  if (tools.every(onPath)) return;
  // Debian starts what it installs; a game needs the programs only.
  ensurePackagesOfDebian(tools, 'a game day needs Prometheus, Alertmanager and a registry', { RUNLEVEL: '1' });
}

function ensurePackagesOfDebian(packages, why, more = {}) {
  const command = `apt-get install -y ${packages.join(' ')}`;
  if (process.getuid?.() !== 0 || !onPath('apt-get')) {
    stop(why, `run: sudo ${command}   (or your distribution's packages of the same names)`);
  }
  console.error(`cooper: installing ${packages.join(', ')}`);
  const env = { ...process.env, ...more, DEBIAN_FRONTEND: 'noninteractive' };
  runQuietly('apt-get', 'apt-get', ['update', '-qq'], env);
  runQuietly('apt-get', 'apt-get', ['install', '-y', '-qq', ...packages], env);
}

/** Runs a child in the foreground; signals go to it, and its exit status becomes ours. */
function handOver(node, args) {
  const env = {
    ...process.env,
    PATH: `${dirname(node)}:${join(ROOT, 'node_modules', '.bin')}:${process.env.PATH}:/usr/sbin:/sbin`,
  };
  const child = spawn(node, args, { cwd: ROOT, env, stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  return new Promise((resolve) => {
    child.on('exit', (code, signal) => resolve(code ?? (signal === 'SIGINT' ? 130 : 1)));
    child.on('error', (error) => stop(`cannot start ${node}: ${error.message}`));
  });
}

/**
 * node:test over the whole tree. Skipped tests are listed by name; with COOPER_TEST_NO_SKIP=1 (CI) they fail the run. With
 * COOPER_TEST_RETRY=1 (CI) a few files that failed are run once more, each alone: what fails because two cores were busy passes then and
 * is named, what is broken fails again.
 */
async function test(node, files) {
  const below = (dir) => readdirSync(dir, { recursive: true }).map((file) => join(dir, file));
  const all = files.length > 0 ? files : [...below('src'), ...below('test')].filter((file) => file.endsWith('.test.ts')).sort();
  const first = await runTests(node, all, 2);
  const again = first.failedFiles.map((file) => relative(ROOT, file));
  let { status } = first;
  if (status !== 0 && process.env.COOPER_TEST_RETRY === '1' && again.length > 0 && again.length <= MAX_RETRIED_FILES) {
    console.log(`\ncooper: once more, each alone: ${again.join(', ')}`);
    status = (await runTests(node, again, 1)).status;
    if (status === 0) console.log(`cooper: failed beside others and passed alone: ${again.join(', ')}`);
  }
  if (status === 0 && first.skipped.length > 0 && process.env.COOPER_TEST_NO_SKIP === '1')
    stop(`${first.skipped.length} tests were skipped, and here none may be`);
  return status;
}

/** One run of node:test: its exit status, what it skipped, and the files with failures. */
async function runTests(node, files, concurrency) {
  const outcomeFile = join(ROOT, '.state', `tests-${process.pid}.json`);
  mkdirSync(dirname(outcomeFile), { recursive: true });
  process.env.COOPER_TEST_OUTCOME = outcomeFile;
  const reporters = [
    '--test-reporter=spec',
    '--test-reporter-destination=stdout',
    `--test-reporter=${join(ROOT, 'scripts/outcome-reporter.mjs')}`,
    '--test-reporter-destination=stderr',
  ];
  const status = await handOver(node, [
    '--test',
    `--test-concurrency=${concurrency}`,
    '--test-timeout=300000',
    ...reporters,
    ...files,
  ]);
  const outcome = existsSync(outcomeFile) ? JSON.parse(readFileSync(outcomeFile, 'utf8')) : { skipped: [], failedFiles: [] };
  rmSync(outcomeFile, { force: true });
  return { status, ...outcome };
}

/** Every static check, all of them even when one fails, so that one run shows everything. */
async function check(node) {
  const bin = (name) => join(ROOT, 'node_modules', name);
  const parts = [
    ['format and lint', [bin('@biomejs/biome/bin/biome'), 'check', '--error-on-warnings', '.']],
    ['import arrows', ['scripts/check-arrows.ts']],
    ['types', [bin('typescript/bin/tsc'), '--noEmit']],
    ['types of the page', [bin('typescript/bin/tsc'), '--noEmit', '-p', 'src/web/app']],
    ['generated protocol code', ['scripts/check-proto.ts']],
    ['generated files', ['scripts/generate.ts', '--check']],
  ];
  const failed = [];
  for (const [name, args] of parts) {
    console.log(`== ${name}`);
    if ((await handOver(node, args)) !== 0) failed.push(name);
  }
  if (failed.length > 0) console.error(`failed: ${failed.join(', ')}`);
  return failed.length === 0 ? 0 : 1;
}

const [command, ...rest] = process.argv.slice(2);
const node = ensureNode();
ensurePackages(node);
switch (command) {
  case 'start':
    ensureRuntime();
    process.exitCode = await handOver(node, ['src/cmd/main.ts', 'quickstart', ...rest]);
    break;
  case 'test':
    process.exitCode = await test(node, rest);
    break;
  case 'check':
    process.exitCode = await check(node);
    break;
  case 'gameday':
    ensureRuntime();
    ensureGameTools();
    process.exitCode = await handOver(node, ['src/cmd/main.ts', 'gameday', 'run', ...rest]);
    break;
  case 'exec':
    process.exitCode = await handOver(node, rest);
    break;
  default:
    stop(`unknown command "${command}"`, 'one of: start, test, check, gameday, exec');
}
