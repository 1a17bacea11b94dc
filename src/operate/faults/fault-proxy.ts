/**
 * A proxy for one upstream that breaks what passes: toxiproxy's verbs on bytes, and faults of HTTP for what speaks it without TLS.
 * Without a fault it is a pipe. A change of faults closes open connections where they could not notice it otherwise.
 */
import { once } from 'node:events';
import http from 'node:http';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { splitAddress } from './fault-proxy-address.ts';
import { type HttpFault, httpFaultHandler } from './http-faults.ts';
import { carry, type Toxic } from './toxics.ts';

export class FaultProxy implements AsyncDisposable {
  readonly name: string;
  readonly upstream: string;
  #listen: string;
  #server: Server | undefined;
  #toxics: readonly Toxic[] = [];
  #httpFault: HttpFault | undefined;
  readonly #http: http.Server;
  readonly #sockets = new Set<Socket>();

  private constructor(name: string, listen: string, upstream: string) {
    this.name = name;
    this.upstream = upstream;
    this.#listen = listen;
    this.#http = http.createServer(httpFaultHandler(upstream, () => this.#httpFault));
    this.#http.keepAliveTimeout = 1_000;
  }

  /** `listen` and `upstream` are `host:port`; port 0 takes a free one. Rejects when the address is taken. */
  static async start(name: string, listen: string, upstream: string): Promise<FaultProxy> {
    const proxy = new FaultProxy(name, listen, upstream);
    await proxy.setEnabled(true);
    return proxy;
  }

  get listen(): string {
    return this.#listen;
  }
  get enabled(): boolean {
    return this.#server !== undefined;
  }
  get toxics(): readonly Toxic[] {
    return this.#toxics;
  }
  get httpFault(): HttpFault | undefined {
    return this.#httpFault;
  }

  /** Down: nobody listens and what was open is closed. Up again: on the same port. */
  async setEnabled(enabled: boolean): Promise<void> {
    if (enabled === this.enabled) return;
    if (!enabled) {
      const server = this.#server;
      this.#server = undefined;
      const closed = server === undefined ? undefined : once(server, 'close');
      server?.close();
      this.#cut();
      await closed;
      return;
    }
    const [host = '127.0.0.1', port = '0'] = splitAddress(this.#listen);
    const server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
    server.listen(Number(port), host);
    await once(server, 'listening');
    this.#listen = `${host}:${(server.address() as AddressInfo).port}`;
    this.#server = server;
  }

  setToxics(toxics: readonly Toxic[]): void {
    const gone = this.#toxics.some(({ name }) => !toxics.some((toxic) => toxic.name === name));
    const resets = toxics.some(({ type }) => type === 'reset_peer');
    this.#toxics = toxics;
    if (gone || resets) this.#cut();
  }

  setHttpFault(fault: HttpFault | undefined): void {
    this.#httpFault = fault;
    this.#cut();
  }

  /** No fault any more. */
  async reset(): Promise<void> {
    if (this.#toxics.length > 0) this.setToxics([]);
    if (this.#httpFault !== undefined) this.setHttpFault(undefined);
    await this.setEnabled(true);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.setEnabled(false);
    this.#http.close();
  }

  #cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #accept(client: Socket): void {
    this.#track(client);
    if (this.#httpFault !== undefined) {
      this.#http.emit('connection', client);
      return;
    }
    const chance = Math.random();
    const of = (stream: Toxic['stream']) => (): Toxic[] =>
      this.#toxics.filter((toxic) => toxic.stream === stream && chance < toxic.toxicity);
    const reset = this.#toxics.find(({ type, toxicity }) => type === 'reset_peer' && chance < toxicity);
    if (reset !== undefined) {
      setTimeout(() => client.resetAndDestroy(), reset.attributes.timeout ?? 0).unref();
      return;
    }
    const [host = '', port = ''] = splitAddress(this.upstream);
    const server = connect({ host, port: Number(port), allowHalfOpen: true });
    this.#track(server);
    server.once('error', () => client.destroy());
    client.once('error', () => server.destroy());
    client.once('close', () => server.destroy());
    void carry(client, server, of('upstream'));
    void carry(server, client, of('downstream')).then(() => undefined);
  }

  #track(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => this.#sockets.delete(socket));
  }
}
