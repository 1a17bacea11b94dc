/** What every remote cache store promises (ports.ts), run against each of them with a real server behind it. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type Digest, digestOf } from '../../../core/digest.ts';
import { BuildError } from '../../../core/errors.ts';
import type { Descriptor } from '../../content/ports.ts';
import type { BlobContent, CacheStore, StoreBackend, StoreDeps } from './ports.ts';

export interface ContractServer extends AsyncDisposable {
  readonly attributes: Readonly<Record<string, string>>;
  /** Attributes with credentials that the server refuses. */
  readonly refused: Readonly<Record<string, string>>;
  /** Texts of the attributes above that no message may hold. */
  readonly secrets: readonly string[];
  stop(): Promise<void>;
  pause(): void;
  resume(): void;
}

const NEVER = new AbortController().signal;
const MiB = 1024 * 1024;

export const TEST_DEPS: StoreDeps = { sessions: () => [], nowMs: () => Date.now(), userAgent: 'cooper/test', env: {} };
export const openStore = (backend: StoreBackend, attributes: Readonly<Record<string, string>>): CacheStore =>
  backend.open(new Map(Object.entries(attributes)), TEST_DEPS);

export const readAll = async (chunks: AsyncIterable<Uint8Array>): Promise<Buffer> => {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  return Buffer.concat(parts);
};

export interface TestBlob extends AsyncDisposable {
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly descriptor: Descriptor;
  readonly content: BlobContent;
}
export async function blobOf(bytes: Buffer): Promise<TestBlob> {
  const dir = await mkdtemp(join(tmpdir(), 'cooper-blob-'));
  const path = join(dir, 'blob');
  await writeFile(path, bytes);
  const digest = digestOf(bytes);
  const read: BlobContent['read'] = ({ offset = 0, length = 0 } = {}) =>
    createReadStream(path, { start: offset, ...(length === 0 ? {} : { end: offset + length - 1 }) });
  return {
    bytes,
    digest,
    descriptor: { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest, size: bytes.byteLength },
    content: { path, sizeBytes: bytes.byteLength, read },
    [Symbol.asyncDispose]: async () => await rm(dir, { recursive: true, force: true }),
  };
}

export const kindOf = async (promise: Promise<unknown>): Promise<string> =>
  await promise.then(
    () => 'resolved',
    (error: unknown) => (error instanceof BuildError ? error.kind : `not a BuildError: ${String(error)}`),
  );

/** Registers the suite. `bigBytes` is above the size at which the store writes in parts. */
export function storeContract(
  backend: StoreBackend,
  options: {
    readonly title?: string;
    readonly skip: string | false;
    readonly bigBytes: number;
    readonly start: () => Promise<ContractServer>;
  },
): void {
  const rule = (name: string, body: (server: ContractServer, t: TestContext) => Promise<void>): void => {
    test(`${options.title ?? backend.name}: ${name}`, { skip: options.skip, timeout: 60_000 }, async (t) => {
      await using server = await options.start();
      await body(server, t);
    });
  };

  rule('what was never written is undefined, and reading a blob that is not there is not-found', async (server) => {
    await using store = openStore(backend, server.attributes);
    const absent = digestOf('never written');
    for (const name of store.manifestNames) assert.equal(await store.readManifest(name, NEVER), undefined);
    assert.equal(await store.statBlob(absent, NEVER), undefined);
    await using present = await blobOf(randomBytes(10));
    await store.writeBlob(present.descriptor, present.content, NEVER);
    assert.equal(await store.statBlob(absent, NEVER), undefined);
    assert.equal(await kindOf(readAll(store.readBlob(absent, 0, NEVER))), 'not-found');
  });

  rule('a second store reads what the first wrote, blobs from any offset', async (server) => {
    await using writer = openStore(backend, server.attributes);
    await using small = await blobOf(randomBytes(70_001));
    await using big = await blobOf(randomBytes(options.bigBytes));
    for (const blob of [small, big]) await writer.writeBlob(blob.descriptor, blob.content, NEVER);
    const manifest = Buffer.from(JSON.stringify({ layers: [], records: [{ digest: small.digest }] }));
    for (const name of writer.manifestNames) await writer.writeManifest(name, manifest, NEVER);

    await using reader = openStore(backend, server.attributes);
    for (const blob of [small, big]) {
      const stat = await reader.statBlob(blob.digest, NEVER);
      assert.ok(stat !== undefined && (stat.sizeBytes === undefined || stat.sizeBytes === blob.bytes.byteLength));
      assert.ok((await readAll(reader.readBlob(blob.digest, 0, NEVER))).equals(blob.bytes));
      const tail = await readAll(reader.readBlob(blob.digest, blob.bytes.byteLength - 777, NEVER));
      assert.ok(tail.equals(blob.bytes.subarray(-777)));
    }
    const read = await reader.readManifest(reader.manifestNames[0] ?? '', NEVER);
    assert.deepEqual(JSON.parse(Buffer.from(read ?? []).toString()), JSON.parse(manifest.toString()));
  });

  rule('the last configuration written is the one that is read', async (server) => {
    await using store = openStore(backend, server.attributes);
    const name = store.manifestNames[0] ?? '';
    for (const digest of ['one', 'two', 'three'].map(digestOf)) {
      await store.writeManifest(name, Buffer.from(JSON.stringify({ records: [{ digest }] })), NEVER);
      const read = Buffer.from((await store.readManifest(name, NEVER)) ?? []).toString();
      assert.ok(read.includes(digest), read);
    }
  });

  rule('many writers of one blob and one name all succeed and leave it whole', async (server) => {
    const stores = Array.from({ length: 4 }, () => openStore(backend, server.attributes));
    await using blob = await blobOf(randomBytes(3 * MiB));
    const manifests = stores.map((_, at) => Buffer.from(JSON.stringify({ records: [{ digest: digestOf(`${at}`) }] })));
    await Promise.all(
      stores.map(async (store, at) => {
        await store.writeBlob(blob.descriptor, blob.content, NEVER);
        await store.writeManifest(store.manifestNames[0] ?? '', manifests[at] ?? Buffer.from(''), NEVER);
      }),
    );
    for (const store of stores) {
      assert.ok((await readAll(store.readBlob(blob.digest, 0, NEVER))).equals(blob.bytes));
      const read = Buffer.from((await store.readManifest(store.manifestNames[0] ?? '', NEVER)) ?? []).toString();
      assert.ok(
        manifests.some((manifest, at) => read === manifest.toString() || read.includes(digestOf(`${at}`))),
        read,
      );
      JSON.parse(read);
      await store[Symbol.asyncDispose]();
    }
  });

  rule('a write that was cut off leaves nothing that can be read, and can be repeated', async (server) => {
    await using store = openStore(backend, server.attributes);
    await using blob = await blobOf(randomBytes(2 * MiB));
    const failing: BlobContent = {
      ...blob.content,
      async *read(range) {
        yield* blob.content.read({ ...range, length: MiB });
        throw new BuildError('corrupt', 'the disk returned an error');
      },
    };
    assert.notEqual(await kindOf(store.writeBlob(blob.descriptor, failing, NEVER)), 'resolved');
    assert.equal(await store.statBlob(blob.digest, NEVER), undefined);
    await store.writeBlob(blob.descriptor, blob.content, NEVER);
    assert.ok((await readAll(store.readBlob(blob.digest, 0, NEVER))).equals(blob.bytes));
  });

  rule('touching makes the blob look new and keeps its bytes', async (server, t) => {
    await using store = openStore(backend, server.attributes);
    if (store.touchBlob === undefined) return t.diagnostic('this store has nothing to touch');
    await using blob = await blobOf(randomBytes(1000));
    await store.writeBlob(blob.descriptor, blob.content, NEVER);
    const before = await store.statBlob(blob.digest, NEVER);
    await store.touchBlob(blob.digest, blob.bytes.byteLength, NEVER);
    const after = await store.statBlob(blob.digest, NEVER);
    assert.ok((after?.modifiedAtMs ?? 0) >= (before?.modifiedAtMs ?? 0));
    assert.ok((await readAll(store.readBlob(blob.digest, 0, NEVER))).equals(blob.bytes));
  });

  rule('refused credentials are denied, and no message, cause or label holds a secret', async (server) => {
    await using blob = await blobOf(randomBytes(1000));
    await using store = openStore(backend, server.refused);
    const name = store.manifestNames[0] ?? '';
    const calls = [
      () => store.readManifest(name, NEVER),
      () => store.writeManifest(name, Buffer.from('{}'), NEVER),
      () => store.statBlob(blob.digest, NEVER),
      () => readAll(store.readBlob(blob.digest, 0, NEVER)),
      () => store.writeBlob(blob.descriptor, blob.content, NEVER),
    ];
    const said = [store.label, store.endpoint];
    for (const call of calls) {
      const error = await call().then(
        () => assert.fail('was let in'),
        (thrown: unknown) => thrown,
      );
      assert.ok(error instanceof BuildError && error.kind === 'denied', String(error));
      for (let cause: unknown = error; cause instanceof Error; cause = cause.cause)
        said.push(`${cause.stack}`, JSON.stringify({ ...cause, message: cause.message }));
    }
    for (const secret of server.secrets) assert.ok(!said.join('\n').includes(secret), `holds ${secret}:\n${said.join('\n')}`);
  });

  rule('a server that is gone is unavailable', async (server) => {
    await using store = openStore(backend, server.attributes);
    const name = store.manifestNames[0] ?? '';
    await store.readManifest(name, NEVER);
    await server.stop();
    await using blob = await blobOf(randomBytes(1000));
    assert.equal(await kindOf(store.readManifest(name, NEVER)), 'unavailable');
    assert.equal(await kindOf(store.statBlob(blob.digest, NEVER)), 'unavailable');
    assert.equal(await kindOf(readAll(store.readBlob(blob.digest, 0, NEVER))), 'unavailable');
    assert.equal(await kindOf(store.writeBlob(blob.descriptor, blob.content, NEVER)), 'unavailable');
  });

  rule('a server that hangs keeps no call longer than its signal, and the reason is what rejects', async (server) => {
    await using store = openStore(backend, server.attributes);
    const name = store.manifestNames[0] ?? '';
    await store.readManifest(name, NEVER);
    await using blob = await blobOf(randomBytes(MiB));
    server.pause();
    const calls: ((signal: AbortSignal) => Promise<unknown>)[] = [
      (signal) => store.readManifest(name, signal),
      (signal) => store.writeManifest(name, Buffer.from('{}'), signal),
      (signal) => store.statBlob(blob.digest, signal),
      (signal) => readAll(store.readBlob(blob.digest, 0, signal)),
      (signal) => store.writeBlob(blob.descriptor, blob.content, signal),
    ];
    const reason = new BuildError('timed-out', 'cache answer took longer than 100 ms');
    for (const call of calls) {
      const controller = new AbortController();
      setTimeout(() => controller.abort(reason), 100);
      await assert.rejects(call(controller.signal), (error) => error === reason);
      await assert.rejects(call(controller.signal), (error) => error === reason); // already aborted
    }
    server.resume();
    assert.equal(await store.statBlob(blob.digest, NEVER), undefined);
  });
}
