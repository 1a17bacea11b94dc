/** The real daemon, in a process of its own, with an empty state folder. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Buildkitd extends AsyncDisposable {
  readonly address: string;
}

const READY_MS = 30_000;

/** @throws Error with the daemon's log when it does not come up. */
export async function startBuildkitd(program: string): Promise<Buildkitd> {
  const dir = await mkdtemp(join(tmpdir(), 'cooper-buildkitd-'));
  const address = `unix://${join(dir, 'd.sock')}`;
  const log = join(dir, 'log');
  const output = openSync(log, 'w');
  const child = spawn(program, ['--root', join(dir, 'root'), '--addr', address, '--oci-worker-binary', 'runc'], {
    stdio: ['ignore', output, output],
  });
  closeSync(output);
  const buildkitd = {
    address,
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGTERM');
        await once(child, 'exit');
      }
      await rm(dir, { recursive: true, force: true });
    },
  };
  for (const untilMs = Date.now() + READY_MS; ; ) {
    if (spawnSync('buildctl', ['--addr', address, 'debug', 'workers']).status === 0) return buildkitd;
    if (child.exitCode !== null || Date.now() > untilMs) {
      await buildkitd[Symbol.asyncDispose]();
      throw new Error(`${program} did not start:\n${readFileSync(log, 'utf8')}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
