import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { BuildError } from '../../core/errors.ts';
import { SSH } from '../proto/gen/moby/sshforward/v1/ssh_pb.ts';
import { decodeBytesMessage } from '../rpc/bytes-message.ts';
import { raw, type Service, service } from '../rpc/handlers.ts';
import { connectClient, openStubDaemon } from './session.test-rig.ts';
import { findAgent, openAgentSocket } from './ssh.ts';

const signal = new AbortController().signal;

/** Answers each request with the agent's name and the request, then with `bye` when the step has finished writing. */
const agent = (name: string): Service =>
  service(SSH, {
    checkAgent: ({ ID }) => {
      if (ID !== name) throw new BuildError('not-found', `unset ssh forward key ${ID}`);
      return {};
    },
    forwardAgent: raw(async (stream, { headers }) => {
      for await (const message of stream) {
        await stream.sendData(Buffer.from(`${headers.get('buildkit.ssh.id')}:${Buffer.from(decodeBytesMessage(message))} `));
      }
      await stream.sendData(Buffer.from('bye'));
    }),
  });

test('a step talks to the agent of the client that has it, over a socket that is gone afterwards', async () => {
  await using daemon = await openStubDaemon();
  await using plain = await connectClient(daemon, []);
  await using one = await connectClient(daemon, [agent('one')]);
  await using two = await connectClient(daemon, [agent('two')]);
  const ids = [plain, one, two].map(({ session }) => session.id);
  const session = await findAgent(daemon.manager, ids, 'two', signal);
  assert.equal(session, two.session);
  assert.equal(await findAgent(daemon.manager, ids, 'three', signal), undefined);

  const path = join(daemon.dir, 'agent.sock');
  {
    await using _ = await openAgentSocket(two.session, { id: 'two', path, uid: 0, gid: 0, mode: 0o600 }, signal);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const answers = await Promise.all(
      ['a', 'b'].map((request) => {
        const connection = connect({ path, allowHalfOpen: true });
        connection.end(request);
        return text(connection);
      }),
    );
    assert.deepEqual(answers, ['two:a bye', 'two:b bye']);
  }
  assert.equal(statSync(path, { throwIfNoEntry: false }), undefined);
});

test('connections end with the session', async () => {
  await using daemon = await openStubDaemon();
  const client = await connectClient(daemon, [agent('one')]);
  const path = join(daemon.dir, 'agent.sock');
  await using _ = await openAgentSocket(client.session, { id: 'one', path, uid: 0, gid: 0, mode: 0o600 }, signal);
  const connection = connect({ path, allowHalfOpen: true });
  connection.write('hello');
  await new Promise((resolve) => connection.once('data', resolve));
  const ended = new Promise((resolve) => connection.once('close', resolve));
  connection.resume().on('end', () => connection.end());
  await client[Symbol.asyncDispose]();
  await ended;
});
