/** Files over HTTP from a server that the test holds. */
import assert from 'node:assert/strict';
import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { create } from '@bufbuild/protobuf';
import { type Script, startScriptedServer } from '../../../test/fixtures/registry.ts';
import { digestOf } from '../../core/digest.ts';
import { BuildError, type ErrorKind } from '../../core/errors.ts';
import { SourceOpSchema } from '../proto/gen/pb/ops_pb.ts';
import { needsRoot } from '../snapshot/snapshots.test-rig.ts';
import { describeHttpFile, fileName } from './http-source.ts';
import { createMetadataResolver } from './metadata-resolver.ts';
import { contextOf, LINUX, loadFrom, noSessions, openSourceRig } from './source.test-rig.ts';

const DATE = 'Tue, 14 Nov 2023 22:13:20 GMT';
const serving =
  (text: string, headers: Readonly<Record<string, string>> = {}): Script =>
  ({ method }, response) =>
    void response.writeHead(200, headers).end(method === 'HEAD' ? '' : text);

test("a file is fetched once for key and content, with the server's time and the default mode", needsRoot, async (t) => {
  const rig = await openSourceRig(t);
  await using server = await startScriptedServer(serving('hello', { 'last-modified': DATE }));
  const instance = rig.open(`http://${server.host}/dir/file.txt`);
  const { context } = contextOf([]);
  const { key } = await instance.cacheKey(context, 0);
  assert.equal(
    key,
    digestOf(`{"Filename":"file.txt","Perm":0,"UID":0,"GID":0,"Checksum":"${digestOf('hello')}","LastModTime":"${DATE}"}`),
  );
  await using snapshot = await instance.fetch(context);
  await using view = await snapshot?.view();
  const stat = lstatSync(join(view?.dir ?? '', 'file.txt'));
  assert.equal(stat.mode & 0o7777, 0o600);
  assert.equal(stat.mtime.toUTCString(), DATE);
  assert.equal(server.requests.length, 1);
  assert.equal(await rig.content.info(digestOf('hello')), undefined, 'the body stays only in the snapshot');
});

test('a server may compress the file for the way; one that lies about it fails the source', needsRoot, async (t) => {
  const rig = await openSourceRig(t);
  await using server = await startScriptedServer(({ path, headers }, response) => {
    assert.equal(headers['accept-encoding'], 'gzip');
    response.writeHead(200, { 'content-encoding': 'gzip' }).end(path === '/lie' ? 'plain' : gzipSync('hello'));
  });
  assert.deepEqual((await rig.load(`http://${server.host}/f`)).tree, { f: 'hello' });
  await assert.rejects(rig.load(`http://${server.host}/lie`), /incorrect header check/);
});

test('what a build was told of an address stays so for that build, and the next one asks anew', needsRoot, async (t) => {
  const rig = await openSourceRig(t);
  await using server = await startScriptedServer((request, response, number) => serving(`v${number}`)(request, response, number));
  const op = create(SourceOpSchema, { identifier: `http://${server.host}/f` });
  const described = async (): Promise<string[]> => {
    const resolver = createMetadataResolver({ ...rig.deps, defaultPlatform: LINUX });
    const { context } = contextOf([]);
    const files = [resolver.describeFile(op, context), resolver.describeFile(op, context)];
    return [...(await Promise.all(files)), await resolver.describeFile(op, context)].map(({ digest }) => digest);
  };
  assert.deepEqual(await described(), [digestOf('v1'), digestOf('v1'), digestOf('v1')]);
  assert.deepEqual(await described(), [digestOf('v2'), digestOf('v2'), digestOf('v2')]);
});

test('a file that was described is not fetched again by the build that wants it', needsRoot, async (t) => {
  const rig = await openSourceRig(t);
  await using server = await startScriptedServer(serving('hello', { 'last-modified': DATE, etag: '"e"' }));
  const identifier = `http://${server.host}/dir/file.txt`;
  const op = create(SourceOpSchema, { identifier });
  const described = await describeHttpFile(rig.deps, op, contextOf([]).context);
  assert.deepEqual(described, { digest: digestOf('hello'), filename: 'file.txt', lastModified: new Date(DATE) });
  assert.deepEqual((await rig.load(identifier)).tree, { 'file.txt': 'hello' });
  assert.deepEqual(
    server.requests.map(({ method }) => method),
    ['GET', 'HEAD'],
  );
});

test('name, mode and owner are as asked, and are part of the key', needsRoot, async (t) => {
  const rig = await openSourceRig(t);
  await using server = await startScriptedServer(serving('x'));
  const attrs = { 'http.filename': 'tool', 'http.perm': '0755', 'http.uid': '7', 'http.gid': '8' };
  const instance = rig.open(`http://${server.host}/a`, attrs);
  const { context } = contextOf([]);
  const { key } = await instance.cacheKey(context, 0);
  assert.equal(key, digestOf(`{"Filename":"tool","Perm":493,"UID":7,"GID":8,"Checksum":"${digestOf('x')}"}`));
  await using snapshot = await instance.fetch(context);
  await using view = await snapshot?.view();
  const { mode, uid, gid } = lstatSync(join(view?.dir ?? '', 'tool'));
  assert.deepEqual([mode & 0o777, uid, gid], [0o755, 7, 8]);
});

test('an unchanged file is asked for with HEAD and not fetched; a changed one is', needsRoot, async (t) => {
  const rig = await openSourceRig(t);
  let etag = '"one"';
  await using server = await startScriptedServer(({ method, headers }, response) => {
    if (headers['if-none-match'] === etag) response.writeHead(304).end();
    else response.writeHead(200, { etag: `W/${etag}` }).end(method === 'HEAD' ? '' : etag);
  });
  const url = `http://${server.host}/f`;
  const first = await rig.load(url);
  const again = await rig.open(url).cacheKey(contextOf([]).context, 0);
  assert.equal(again.key, first.key);
  assert.deepEqual(
    server.requests.map(({ method }) => method),
    ['GET', 'HEAD'],
  );
  etag = '"two"';
  assert.deepEqual((await rig.load(url)).tree, { f: '"two"' });
});

test('an unchanged file whose result was lost is fetched again', needsRoot, async (t) => {
  const rig = await openSourceRig(t);
  await using server = await startScriptedServer(serving('body', { etag: '"x"' }));
  const url = `http://${server.host}/f`;
  await rig.load(url);
  assert.deepEqual((await rig.load(url)).tree, { f: 'body' });
  assert.deepEqual(
    server.requests.map(({ method }) => method),
    ['GET', 'HEAD', 'GET'],
  );
});

test('a pin is a key without any request, and is checked when the file comes', needsRoot, async (t) => {
  const rig = await openSourceRig(t);
  await using server = await startScriptedServer(serving('body'));
  const url = `http://${server.host}/f`;
  await rig.open(url, { 'http.checksum': digestOf('body') }).cacheKey(contextOf([]).context, 0);
  assert.equal(server.requests.length, 0);
  assert.deepEqual((await rig.load(url, { 'http.checksum': digestOf('body') })).tree, { f: 'body' });
  await assert.rejects(
    rig.load(url, { 'http.checksum': digestOf('other') }),
    (error: unknown) =>
      error instanceof BuildError && error.message.startsWith(`digest mismatch for ${url}: ${digestOf('body')}`),
  );
  assert.equal(await rig.content.info(digestOf('body')), undefined);
});

for (const [status, kind] of [
  [404, 'not-found'],
  [403, 'denied'],
  [429, 'unavailable'],
  [500, 'unavailable'],
] as const satisfies readonly (readonly [number, ErrorKind])[])
  test(`status ${status} is ${kind}`, needsRoot, async (t) => {
    const rig = await openSourceRig(t);
    await using server = await startScriptedServer((_, response) => void response.writeHead(status).end('no'));
    await assert.rejects(
      rig.load(`http://${server.host}/f`),
      (error: unknown) =>
        error instanceof BuildError && error.kind === kind && error.message.endsWith(`invalid response status ${status}`),
    );
  });

test('a body that breaks off fails the step and leaves nothing', needsRoot, async (t) => {
  const rig = await openSourceRig(t);
  await using server = await startScriptedServer((_, response) => {
    response.writeHead(200, { 'content-length': '1000' });
    response.write('x', () => response.destroy());
  });
  await assert.rejects(rig.load(`http://${server.host}/f`), BuildError);
  const left = [];
  for await (const blob of rig.content.list()) left.push(blob);
  assert.deepEqual(left, []);
});

test('a secret of the client becomes the authorization, and does not follow a redirect elsewhere', needsRoot, async (t) => {
  const asked: string[] = [];
  const readSecret = async (_: readonly string[], id: string) => {
    asked.push(id);
    return id.startsWith('HTTP_AUTH_TOKEN_') ? new TextEncoder().encode('s3cret') : undefined;
  };
  const rig = await openSourceRig(t, { readSecret });
  await using elsewhere = await startScriptedServer(serving('body'));
  await using server = await startScriptedServer(
    (_, response) => void response.writeHead(302, { location: `${elsewhere.url}/f` }).end(),
  );
  await rig.load(`http://${server.host}/f`);
  assert.deepEqual(asked, ['HTTP_AUTH_HEADER_127.0.0.1', 'HTTP_AUTH_TOKEN_127.0.0.1']);
  assert.equal(server.requests[0]?.headers.authorization, 'Bearer s3cret');
  assert.equal(elsewhere.requests[0]?.headers.authorization, undefined);
});

test('an upload of the client is read from its session', needsRoot, async (t) => {
  const session = {
    async *pullUpload(path: string) {
      yield new TextEncoder().encode(`uploaded ${path}`);
    },
  };
  const sessions = {
    ...noSessions,
    any: async (_: unknown, __: unknown, use: (s: never) => Promise<never>) => await use(session as never),
  };
  const rig = await openSourceRig(t, { sessions });
  const { context, lines } = contextOf(['s']);
  const { tree } = await loadFrom(rig.open('http://buildkit-session/abc', { 'http.filename': 'context' }), context, lines);
  assert.deepEqual(tree, { context: 'uploaded /abc' });
});

for (const [path, asked, disposition, name] of [
  ['/a/b.tar', '', '', 'b.tar'],
  ['/', '', '', 'download'],
  ['/a/', '', '', 'a'],
  ['/x', 'given', 'attachment; filename="y"', 'given'],
  ['/x', '', 'attachment; filename="../../etc/passwd"', 'passwd'],
  ['/x', '../..', '', 'download'],
  ['/x', 'a/b', '', 'b'],
  ['/x', 'a\nb', '', 'download'],
  ['/%2e%2e', '', '', 'download'],
] as const)
  test(`the file of ${path}${asked && ` asked for as ${JSON.stringify(asked)}`}${disposition && ` sent as ${disposition}`} is called ${name}`, () => {
    const head = disposition === '' ? undefined : { headers: { 'content-disposition': disposition } };
    assert.equal(fileName(new URL(`http://h${path}`), asked, head), name);
  });
