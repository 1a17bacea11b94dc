/** One session inside a worker thread: the nested connection to the client, and the calls that the main thread asks for. */
import { cancelled } from '../../../core/errors.ts';
import { openTunnel } from '../../rpc/client.ts';
import { Call } from './call.ts';
import { PortDuplex } from './port-duplex.ts';
import { type FromWorker, fromWireError, type OpenSession, type ToWorker, toWireError } from './protocol.ts';
import { runTask } from './tasks.ts';

/** Serves until the main thread closes the port. */
export function serveSession({ port, ring }: OpenSession): void {
  const tunnel = new PortDuplex(port, ring);
  const client = openTunnel(tunnel);
  const calls = new Map<number, Call>();
  const post = (message: FromWorker, transfer: ArrayBuffer[] = []): void => port.postMessage(message, transfer);

  const start = async (message: ToWorker & { type: 'start' }): Promise<void> => {
    const call = new Call(message.call, post);
    calls.set(message.call, call);
    try {
      const output = await runTask(client, message.task, call);
      post({ type: 'done', call: call.id, output });
    } catch (error) {
      post({ type: 'failed', call: call.id, error: toWireError(error) });
    } finally {
      calls.delete(call.id);
    }
  };

  port.on('message', (message: ToWorker) => {
    switch (message.type) {
      case 'filled':
      case 'sent':
        tunnel.receive(message);
        break;
      case 'start':
        void start(message);
        break;
      case 'abort':
        calls.get(message.call)?.abort(fromWireError(message.error));
        break;
      default:
        calls.get(message.call)?.channel.receive(message);
    }
  });
  port.on('close', () => {
    for (const call of calls.values()) call.abort(cancelled('the session has ended'));
    client.destroy();
    tunnel.destroy();
  });
}
