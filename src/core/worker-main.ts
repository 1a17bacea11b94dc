/** Runs inside a thread of the WorkerPool: loads the module a task names, calls it, answers. */
import { parentPort } from 'node:worker_threads';
import { BuildError } from './errors.ts';
import type { Task, TaskMessage, TaskReply } from './worker-pool.ts';

const port = parentPort;
if (port === null) throw new BuildError('internal', 'worker-main.ts runs only inside a worker thread');

const reply = (message: TaskReply): void => port.postMessage(message);

async function runTask(message: TaskMessage): Promise<void> {
  const { id, abortFlag } = message;
  const flag = new Int32Array(abortFlag);
  try {
    const module = (await import(message.module)) as Record<string, Task<unknown, unknown> | undefined>;
    const task = module[message.name];
    if (task === undefined) throw new BuildError('internal', `${message.module} exports no task "${message.name}"`);
    const output = await task(message.args, {
      aborted: () => Atomics.load(flag, 0) === 1,
      progress: (bytes) => reply({ id, type: 'progress', bytes }),
    });
    reply({ id, type: 'done', output });
  } catch (thrown) {
    const error = BuildError.from(thrown);
    const cause = error.cause instanceof Error ? `\ncaused by ${error.cause.stack}` : '';
    reply({
      id,
      type: 'failed',
      kind: error.kind,
      message: error.message,
      detail: error.detail,
      stack: `${error.stack}${cause}`,
    });
  }
}

port.on('message', (message: TaskMessage) => void runTask(message));
