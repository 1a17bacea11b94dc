/** Main module of a session worker thread: serves any number of sessions, each on a port of its own. */
import { parentPort } from 'node:worker_threads';
import { BuildError } from '../../../core/errors.ts';
import type { OpenSession } from './protocol.ts';
import { serveSession } from './serve-session.ts';

if (parentPort === null) throw new BuildError('internal', 'session-worker.ts runs only inside a worker thread');
parentPort.on('message', (session: OpenSession) => serveSession(session));
