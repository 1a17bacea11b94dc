/** Sources that the client holds: directories and OCI layouts of a real buildctl. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { missingTool, startScriptedServer } from '../../../test/fixtures/registry.ts';
import { digestOf } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import { parseReference } from '../registry/reference.ts';
import type { Session } from '../session/ports.ts';
import { buildctl, buildctlPath, openStubDaemon } from '../session/session.test-rig.ts';
import type { SessionManager } from '../session/session-manager.ts';
import { needsRoot } from '../snapshot/snapshots.test-rig.ts';
import { createMetadataResolver } from './metadata-resolver.ts';
import { contextOf, LINUX, type Loaded, loadFrom, openSourceRig, type SourceRig } from './source.test-rig.ts';

const options = { ...needsRoot, ...(buildctlPath === undefined ? { skip: 'buildctl is not installed' } : {}) };

/** Runs `build` inside a build of a real buildctl that was started with `args`. */
async function inBuild<T>(args: readonly string[], build: (session: Session, manager: SessionManager) => Promise<T>): Promise<T> {
  let result: { readonly value: T } | undefined;
  await using daemon = await openStubDaemon(async (session) => {
    result = { value: await build(session, daemon.manager) };
  });
  const { output } = await buildctl(['--addr', daemon.address, 'build', '--frontend', 'none', ...args]);
  if (result === undefined) throw new Error(`the build did not finish: ${output}`);
  return result.value;
}

async function loadLocal(
  t: TestContext,
  rig: SourceRig | undefined,
  dir: string,
  attrs: Readonly<Record<string, string>> = {},
): Promise<Loaded> {
  return await inBuild(['--local', `context=${dir}`], async (session, manager) => {
    const used = rig ?? (await openSourceRig(t, { sessions: manager }));
    const { context, lines } = contextOf([session.id]);
    return await loadFrom(used.open('local://context', attrs), context, lines);
  });
}

function tempTree(t: TestContext, files: Readonly<Record<string, string>>): string {
  const dir = execFileSync('mktemp', ['-d']).toString().trim();
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(dir, name, '..'), { recursive: true });
    writeFileSync(join(dir, name), text);
  }
  return dir;
}

test('a directory of the client is transferred whole', options, async (t) => {
  const { tree, lines, key } = await loadLocal(t, undefined, tempTree(t, { a: '1', 'd/b': '2' }));
  assert.deepEqual(tree, { a: '1', d: 'dir', 'd/b': '2' });
  assert.deepEqual(lines, ['transferring context: done']);
  assert.match(key, /^session:context:sha256:[0-9a-f]{64}$/);
});

test('patterns and followed paths narrow the transfer', options, async (t) => {
  const dir = tempTree(t, { 'keep/a': '1', 'keep/skip.md': 'x', other: '2' });
  const attrs = { 'local.followpaths': '["keep"]', 'local.excludepatterns': '["**/*.md"]' };
  assert.deepEqual((await loadLocal(t, undefined, dir, attrs)).tree, { keep: 'dir', 'keep/a': '1' });
});

test('two steps that want the same transfer at once share it and own their snapshots apart', options, async (t) => {
  const dir = tempTree(t, { a: 'x'.repeat(300_000) });
  await inBuild(['--local', `context=${dir}`], async (session, manager) => {
    let transfers = 0;
    const counting = new Proxy(session, {
      get(target, name) {
        if (name === 'receiveFiles') transfers += 1;
        const value = Reflect.get(target, name, target) as unknown;
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const sessions = {
      get: async () => counting,
      any: async <T>(_: unknown, __: unknown, use: (s: Session) => Promise<T>) => await use(counting),
    };
    const rig = await openSourceRig(t, { sessions });
    const { context } = contextOf([session.id]);
    const snapshots = await Promise.all(
      ['1', '2', '3'].map((id) => rig.open('local://context', { 'local.unique': id }).fetch(context)),
    );
    assert.equal(transfers, 1);
    assert.equal(new Set(snapshots.map((snapshot) => snapshot?.id)).size, 1);
    await snapshots[0]?.[Symbol.asyncDispose]();
    await using view = await snapshots[1]?.view();
    assert.equal(readFileSync(join(view?.dir ?? '', 'a')).length, 300_000);
    for (const snapshot of snapshots.slice(1)) await snapshot?.[Symbol.asyncDispose]();
    void manager;
  });
});

test('a directory that the client does not offer is not found, and the build is told so', options, async (t) => {
  const dir = tempTree(t, {});
  await inBuild(['--local', `context=${dir}`], async (session, manager) => {
    const rig = await openSourceRig(t, { sessions: manager });
    await assert.rejects(
      rig.open('local://other').fetch(contextOf([session.id]).context),
      (error: unknown) =>
        error instanceof BuildError && error.kind === 'not-found' && error.message.includes('no access allowed to dir "other"'),
    );
  });
});

test('without any session a local source says that it needs one', needsRoot, async (t) => {
  const rig = await openSourceRig(t);
  await assert.rejects(rig.load('local://context'), /could not access local files without session/);
});

for (const [attrs, message] of [
  [{ 'local.followpaths': '{"a":1}' }, 'local.followpaths is not a list of texts'],
  [{ 'local.excludepatterns': '[1]' }, 'local.excludepatterns is not a list of texts'],
  [{ 'local.includepattern': '[' }, 'local.includepattern is not valid JSON'],
  [{ 'local.differ': 'odd' }, 'invalid local.differ odd'],
  [{ 'local.metadatatransfer': 'true' }, 'metadata transfer'],
] as const)
  test(`the attribute ${JSON.stringify(attrs)} is refused when the op is made`, needsRoot, async (t) => {
    const rig = await openSourceRig(t);
    assert.throws(
      () => rig.open('local://context', attrs),
      (error: unknown) => error instanceof BuildError && error.message.includes(message),
    );
  });

const withSkopeo = { ...options, ...(missingTool('skopeo') === false ? {} : { skip: 'skopeo is not installed' }) };

test('an image from an OCI layout of the client is read, verified and unpacked', withSkopeo, async (t) => {
  const files = tempTree(t, { hello: 'layout' });
  const layout = tempTree(t, {});
  const digest = writeLayout(layout, execFileSync('tar', ['-C', files, '-cf', '-', 'hello']));
  await inBuild(['--oci-layout', `base=${layout}`], async (session, sessions) => {
    const rig = await openSourceRig(t, { sessions });
    const { context, lines } = contextOf([session.id]);
    const attrs = { 'oci.store': 'base', 'oci.session': session.id };
    const { tree, key } = await loadFrom(rig.open(`oci-layout://base@${digest}`, attrs), context, lines);
    assert.deepEqual(tree, { hello: 'layout' });
    assert.equal(key, digestOf(`{"Digest":"${digest}","OS":"linux","Arch":"amd64"}`));
    const resolver = createMetadataResolver({ ...rig.deps, defaultPlatform: LINUX });
    const resolved = await resolver.resolveImageConfig(
      {
        ref: `base@${digest}`,
        platform: undefined,
        resolveMode: '',
        resolver: { kind: 'oci-layout', sessionId: session.id, storeId: 'base' },
      },
      context,
    );
    assert.equal(resolved.digest, digest);
    assert.equal(JSON.parse(Buffer.from(resolved.config).toString()).os, 'linux');
  });
});

test('an OCI layout source needs a digest', needsRoot, async (t) => {
  const rig = await openSourceRig(t);
  assert.throws(() => rig.open('oci-layout://base:latest'), /must have digest/);
});

for (const [what, challenge] of [
  ['Basic', () => 'Basic realm="r"'],
  ['Bearer', (host: string) => `Bearer realm="http://${host}/token",service="s",scope="repository:a:pull"`],
] as const)
  test(`a ${what} challenge is answered with what the client's Docker configuration holds`, options, async (t) => {
    const manifest = JSON.stringify({ config: { mediaType: 'c', digest: digestOf('{}'), size: 2 }, layers: [] });
    const basic = `Basic ${Buffer.from('user:pass').toString('base64')}`;
    await using server = await startScriptedServer(({ path, method, headers }, response) => {
      if (path.startsWith('/token')) {
        const right = headers.authorization === basic;
        response.writeHead(right ? 200 : 401).end(right ? '{"token":"from-token-server","expires_in":300}' : '');
      } else if (headers.authorization === (what === 'Basic' ? basic : 'Bearer from-token-server')) {
        response.writeHead(200).end(method === 'HEAD' ? '' : manifest);
      } else response.writeHead(401, { 'www-authenticate': challenge(server.host) }).end();
    });
    const config = tempTree(t, { 'config.json': JSON.stringify({ auths: { [server.host]: { auth: basic.slice(6) } } }) });
    process.env.DOCKER_CONFIG = config; // buildctl inherits it
    t.after(() => delete process.env.DOCKER_CONFIG);
    await inBuild([], async (session, sessions) => {
      const rig = await openSourceRig(t, { sessions });
      const auth = rig.deps.auths.of([session.id]);
      const call = { auth, signal: new AbortController().signal };
      const { descriptor } = await rig.deps.registry.resolve(parseReference(`${server.host}/a:1`), call);
      assert.equal(descriptor.digest, digestOf(manifest));
    });
    const tokens = server.requests.filter(({ path }) => path.startsWith('/token'));
    assert.equal(tokens.length > 0, what === 'Bearer');
    // The client asked the token server itself: the daemon never saw the password.
    for (const { headers } of tokens) assert.doesNotMatch(headers['user-agent'] ?? '', /cooper/);
  });

/** A layout with one image of one uncompressed layer; returns the manifest's digest. */
function writeLayout(dir: string, layer: Buffer): string {
  mkdirSync(join(dir, 'blobs/sha256'), { recursive: true });
  const blob = (bytes: Uint8Array, mediaType: string) => {
    const digest = digestOf(bytes);
    writeFileSync(join(dir, 'blobs/sha256', digest.slice(7)), bytes);
    return { mediaType, digest, size: bytes.byteLength };
  };
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  const layers = [blob(layer, 'application/vnd.oci.image.layer.v1.tar')];
  const rootfs = { type: 'layers', diff_ids: [layers[0]?.digest] };
  const config = blob(json({ os: 'linux', architecture: 'amd64', rootfs }), 'application/vnd.oci.image.config.v1+json');
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = blob(json({ schemaVersion: 2, mediaType, config, layers }), mediaType);
  writeFileSync(join(dir, 'index.json'), json({ schemaVersion: 2, manifests: [manifest] }));
  writeFileSync(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  return manifest.digest;
}
