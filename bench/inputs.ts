/** What the scenarios build from, made the same way each time from public tools: a busybox base, a Debian base in a registry on loopback, contexts. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { busyboxRootfs, pushImage } from '../test/fixtures/images.ts';

export interface Inputs extends AsyncDisposable {
  /** Folder for contexts and outputs. */
  readonly dir: string;
  /** `127.0.0.1:port/busybox:latest` and `/debian:latest`. */
  readonly busybox: string;
  readonly debian: string;
  /** A context with this Dockerfile; made anew when the text differs. */
  context(name: string, dockerfile: string): string;
}

const PORT = 5099;
const SMALL_FILES = 20_000;
const BIG_BYTES = 512 * 1024 * 1024;

export async function makeInputs(given: string): Promise<Inputs> {
  const dir = resolve(given);
  const registry = await startRegistry(dir);
  const host = `127.0.0.1:${PORT}`;
  await pushImage(host, 'busybox', 'latest', [await busyboxRootfs()]);
  const tar = join(dir, 'debian.tar');
  if (!existsSync(tar)) check('mmdebstrap', ['--variant=minbase', 'bookworm', tar], { SOURCE_DATE_EPOCH: '1700000000' });
  await pushImage(host, 'debian', 'latest', [readFileSync(tar)]);
  const context = (name: string, dockerfile: string): string => {
    const path = join(dir, 'contexts', name);
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, 'Dockerfile'), dockerfile);
    return path;
  };
  smallFiles(context('small', 'FROM scratch\nCOPY files /files\n'));
  bigFile(context('big', 'FROM scratch\nCOPY big /big\n'));
  return {
    dir,
    busybox: `${host}/busybox:latest`,
    debian: `${host}/debian:latest`,
    context,
    [Symbol.asyncDispose]: registry.stop,
  };
}

function check(command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): void {
  const { status, stderr } = spawnSync(command, args, { encoding: 'utf8', env: { ...process.env, ...env } });
  if (status !== 0) throw new Error(`${command}: ${stderr}`);
}

async function startRegistry(dir: string): Promise<{ stop(): Promise<void> }> {
  const config = join(dir, 'registry.yml');
  mkdirSync(dir, { recursive: true });
  writeFileSync(
    config,
    `version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: ${join(dir, 'registry')}}}\nhttp: {addr: '127.0.0.1:${PORT}'}\n`,
  );
  const child = spawn('docker-registry', ['serve', config], { stdio: 'ignore' });
  const exit = once(child, 'exit');
  for (let tries = 0; tries < 200; tries++) {
    if (
      await fetch(`http://127.0.0.1:${PORT}/v2/`).then(
        ({ ok }) => ok,
        () => false,
      )
    ) {
      return {
        stop: async () => {
          child.kill();
          await exit;
        },
      };
    }
    await new Promise((wake) => setTimeout(wake, 50));
  }
  throw new Error('docker-registry does not answer');
}

/** Text that compresses as text does; the same for the same seed. */
function* words(seed: number): Generator<string> {
  const list =
    'build layer cache stage copy file digest graph mount source export image remote session vertex edge result worker lease blob'.split(
      ' ',
    );
  for (let state = seed || 1; ; ) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    yield list[state % list.length] ?? '';
  }
}

function smallFiles(context: string): void {
  if (existsSync(join(context, 'files', 'done'))) return;
  for (let n = 0; n < SMALL_FILES; n++) {
    const sub = join(context, 'files', String(n % 200));
    mkdirSync(sub, { recursive: true });
    const text = words(n);
    writeFileSync(join(sub, `${n}.txt`), Array.from({ length: 150 + (n % 200) }, () => text.next().value).join(' '));
  }
  writeFileSync(join(context, 'files', 'done'), '');
}

function bigFile(context: string): void {
  const path = join(context, 'big');
  if (existsSync(path)) return;
  const block = Buffer.alloc(1024 * 1024);
  const fd = openSync(path, 'w');
  for (let n = 0; n < BIG_BYTES / block.byteLength; n++) {
    for (let i = 0; i < block.byteLength; i += 4) block.writeUInt32LE(Math.imul(i + n, 2_654_435_761) >>> 0, i);
    writeSync(fd, block);
  }
  closeSync(fd);
}
