/** Dockerfiles and contexts that try to get out of the build, or are too much: through links, mounts, ids, archives, sheer size. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Canary } from '../fixtures/canary.ts';
import { contextOf } from '../fixtures/context.ts';
import { buildctl, buildDir, type Run, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { busyboxRootfs, pushImage } from '../fixtures/images.ts';
import { assertNothingLeaked, type Holdings, holdingsOf } from '../fixtures/leaks.ts';
import { startRegistry, type TestRegistry } from '../fixtures/registry.ts';
import { type TarEntry, tarOf } from '../fixtures/tar.ts';

const skip = unableTo('buildctl', 'runc', 'docker-registry', 'busybox');
let registry: TestRegistry;
let daemon: TestDaemon;
let canary: Canary;
let base: string;
let idle: Holdings;

before(async () => {
  if (skip !== false) return;
  canary = await Canary.open();
  registry = await startRegistry();
  await pushImage(registry.host, 'base', 'latest', [await busyboxRootfs()]);
  base = `${registry.host}/base:latest`;
  daemon = await TestDaemon.start();
  const warm = await build({ Dockerfile: `FROM ${base}\nRUN true\n` });
  assert.equal(warm.status, 0, warm.stderr);
  idle = await holdingsOf(daemon);
});
after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  await canary?.[Symbol.asyncDispose]();
});

interface Links {
  readonly [path: string]: string;
}
async function build(files: Readonly<Record<string, string>>, links: Links = {}, args: readonly string[] = []): Promise<Run> {
  await using context = await contextOf(files);
  for (const [path, target] of Object.entries(links)) context.link(path, target);
  return await buildDir(daemon, context.dir, args);
}

/** The host is as it was, nothing of it was shown, and the daemon holds nothing of the build. */
async function assertContained({ stderr }: Run): Promise<void> {
  assert.ok(!stderr.replaceAll(/^.*(RUN|COPY|ADD) .*$/gm, '').includes(canary.word), 'the build has read the host');
  canary.check();
  await assertNothingLeaked(daemon, idle);
}

for (const [what, source] of [
  ['a link', 'out'],
  ['a file behind a link to a directory', 'dir/victim'],
  ['a file behind a climbing link', 'up/tmp'],
] as const) {
  for (const instruction of ['COPY', 'ADD']) {
    test(`${instruction} of ${what} that leads out of the context finds nothing`, { skip }, async () => {
      const links = { out: join(canary.dir, 'victim'), dir: canary.dir, up: '../../../../../../../../..' };
      const done = await build({ Dockerfile: `FROM ${base}\n${instruction} ${source} /x\nRUN cat /x /x/*\n` }, links);
      assert.equal(done.status, 1, done.stderr);
      assert.match(done.stderr, /not found|no such file/);
      await assertContained(done);
    });
  }
}

test('COPY into a link of the image that leads out writes inside the image', { skip }, async () => {
  const done = await build({
    Dockerfile: `FROM ${base}
RUN ln -s ${canary.dir} /out && ln -s ../../../../../../..${canary.dir}/victim /file
COPY word /out/cooper-escape
COPY word /file
RUN test "$(cat ${canary.dir}/cooper-escape)" = word && test "$(cat ${canary.dir}/victim)" = word
`,
    word: 'word',
  });
  assert.ok(done.status === 0 || /invalid|not a directory|cannot|no such/.test(done.stderr), done.stderr);
  await assertContained(done);
});

test('a bind mount shows its source and nothing above it, however its path climbs', { skip }, async () => {
  for (const source of ['../../../../../../..', `../../../../../..${canary.dir}`, canary.dir, 'up', 'out']) {
    const done = await build(
      { Dockerfile: `FROM ${base}\nRUN --mount=type=bind,source=${source},target=/m ls -a /m; cat /m/victim; true\n`, word: 'w' },
      { up: '../../../../../..', out: canary.dir },
    );
    assert.ok(done.status === 0 || /not found|no such file/.test(done.stderr), `${source}: ${done.stderr}`);
    assert.doesNotMatch(done.stderr, /^#\d+ [\d.]+ (proc|victim)$/m, `${source} shows the host`);
    await assertContained(done);
  }
});

test('a bind mount from a stage whose source is a link to the root shows that stage', { skip }, async () => {
  const done = await build({
    Dockerfile: `FROM ${base} AS a
RUN mkdir /inside && ln -s / /root-link && ln -s ../../../../../.. /climb && ln -s ${canary.dir} /out
FROM ${base}
RUN --mount=from=a,source=/root-link,target=/m ls /m
RUN --mount=from=a,source=/climb,target=/m ls /m
`,
  });
  assert.equal(done.status, 0, done.stderr);
  assert.equal([...done.stderr.matchAll(/^#\d+ [\d.]+ inside$/gm)].length, 2, done.stderr);
  await assertContained(done);
  const out = await build({
    Dockerfile: `FROM ${base} AS a\nRUN ln -s ${canary.dir} /out\nFROM ${base}\nRUN --mount=from=a,source=/out,target=/m cat /m/victim\n`,
  });
  assert.equal(out.status, 1);
  assert.match(out.stderr, /"\/out": not found/);
  await assertContained(out);
});

test('a mount target that climbs, or leads through a link of the image, is a place inside the container', { skip }, async () => {
  const done = await build({
    Dockerfile: `FROM ${base}
RUN ln -s ${canary.dir} /out
RUN --mount=type=tmpfs,target=/out/cooper-escape echo x > ${canary.dir}/cooper-escape/file
RUN --mount=type=cache,target=../../../../../..${canary.dir}/cooper-escape echo x > ${canary.dir}/cooper-escape/file
`,
  });
  assert.equal(done.status, 0, done.stderr);
  await assertContained(done);
});

test('ids of cache mounts are names, not paths', { skip }, async () => {
  const ids = [
    '../../../../../../tmp/cooper-escape',
    '/etc/cooper-escape',
    'a/b/c',
    '..',
    '.',
    'a\\\\b',
    `${'x'.repeat(300)}`,
    '%2e%2e/x',
  ];
  for (const [n, id] of ids.entries()) {
    const done = await build({
      Dockerfile: `FROM ${base}\nRUN --mount=type=cache,id=${id},target=/c echo ${n} >> /c/log && test "$(cat /c/log)" = ${n}\n`,
    });
    assert.equal(done.status, 0, `${id}: ${done.stderr}`);
    await assertContained(done);
  }
  assert.ok(!existsSync('/etc/cooper-escape'));
});

test('ids of secrets are names, not paths, on both sides', { skip }, async () => {
  for (const id of [`../../../../../../..${'/etc/hostname'}`, '/etc/hostname', '..', 'a/../../b']) {
    const missing = await build({
      Dockerfile: `FROM ${base}\nRUN --mount=type=secret,id=${id},required=true cat /run/secrets/*\n`,
    });
    assert.equal(missing.status, 1);
    assert.match(missing.stderr, /secret .*not found|not found|invalid/, missing.stderr);
    await assertContained(missing);
  }
  const done = await build(
    {
      Dockerfile: `FROM ${base}\nRUN --mount=type=secret,id=../../x,target=../../../../../..${canary.dir}/cooper-escape cat ${canary.dir}/cooper-escape | wc -c\n`,
      secret: 'sixteen letters!',
    },
    {},
    ['--secret', `id=../../x,src=${join(canary.dir, 'victim')}`],
  );
  assert.ok(done.status === 0 || /invalid|not found/.test(done.stderr), done.stderr);
  await assertContained(done);
});

const ESCAPES: readonly (readonly [string, (out: string) => readonly TarEntry[]])[] = [
  ['climbing names', () => [{ path: '../../../../../../../../tmp/cooper-escape', data: Buffer.from('x') }]],
  ['absolute names', () => [{ path: '/tmp/cooper-escape', data: Buffer.from('x') }]],
  [
    'a link and a file through it',
    (out) => [
      { path: 'l', type: '2', link: out },
      { path: 'l/cooper-escape', data: Buffer.from('x') },
    ],
  ],
  [
    'a link and a file over what it points to',
    (out) => [
      { path: 'l', type: '2', link: `${out}/victim` },
      { path: 'l', data: Buffer.from('x') },
    ],
  ],
  [
    'a hard link to the host',
    (out) => [
      { path: 'h', type: '1', link: `${out}/victim` },
      { path: 'h', data: Buffer.from('x') },
    ],
  ],
  ['a climbing hard link', (out) => [{ path: 'h', type: '1', link: `${'../'.repeat(20)}${out.slice(1)}/victim` }]],
  [
    'a path in an extended header',
    () => [{ path: 'ok', pax: { path: '../../../../../../tmp/cooper-escape' }, data: Buffer.from('x') }],
  ],
  ['a device', () => [{ path: 'disk', type: '4' }]],
];
for (const [what, entries] of ESCAPES) {
  test(`ADD of an archive with ${what} stays inside the image`, { skip }, async () => {
    await using context = await contextOf({
      Dockerfile: `FROM ${base}\nADD evil.tar /dest/\nRUN ls -lR /dest; cat /dest/h /dest/l; true\n`,
    });
    context.writeBytes('evil.tar', tarOf(entries(canary.dir)));
    const done = await buildDir(daemon, context.dir);
    assert.ok(done.status === 0 || /evil\.tar|breakout|invalid|outside|not found|no such/.test(done.stderr), done.stderr);
    await assertContained(done);
  });
}

test('a local output cannot be written outside its directory by links of the image', { skip }, async () => {
  await using out = await contextOf({});
  const done = await build(
    {
      Dockerfile: `FROM ${base} AS b\nRUN mkdir /r && ln -s ${canary.dir} /r/out && echo x > /r/file\nFROM scratch\nCOPY --from=b /r /\n`,
    },
    {},
    ['--output', `type=local,dest=${out.dir}`],
  );
  assert.equal(done.status, 0, done.stderr);
  assert.deepEqual(readdirSync(out.dir).sort(), ['file', 'out']);
  await assertContained(done);
});

// ── too much ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a Dockerfile of 1 MB is built', { skip, timeout: 60_000 }, async () => {
  const comment = `# ${'x'.repeat(76)}\n`;
  const text = `FROM scratch\n${comment.repeat(Math.ceil(2 ** 20 / comment.length))}COPY a /a\n`;
  const done = await build({ Dockerfile: text, a: 'a' });
  assert.equal(done.status, 0, done.stderr.slice(-2000));
  await assertContained(done);
});

test('one instruction of 1 MB is refused, one of 60 kB runs', {
  skip,
  timeout: 60_000,
}, async () => {
  const done = await build({ Dockerfile: `FROM ${base}\nRUN : ${'x'.repeat(2 ** 20)}\n` });
  assert.equal(done.status, 1);
  assert.match(done.stderr, /dockerfile line greater than max allowed size of 65535/, done.stderr.slice(-1000));
  await assertContained(done);
  const long = await build({ Dockerfile: `FROM ${base}\nRUN : ${'x'.repeat(60_000)}; echo long\n` });
  assert.equal(long.status, 0, long.stderr.slice(-1000));
  await assertContained(long);
});

test('10 000 RUN lines behind one that fails: the first failure is told, with its line', { skip, timeout: 120_000 }, async () => {
  const runs = Array.from({ length: 10_000 }, (_, i) => `RUN echo ${i}\n`).join('');
  const done = await build({ Dockerfile: `FROM ${base}\nRUN exit 9\n${runs}` });
  assert.equal(done.status, 1);
  assert.match(done.stderr, /exit code: 9/);
  assert.match(done.stderr, /Dockerfile:2/);
  await assertContained(done);
});

test('200 layers on top of each other can be mounted, run in and exported', { skip, timeout: 180_000 }, async () => {
  const copies = Array.from({ length: 200 }, (_, i) => `COPY a /a${i}\n`).join('');
  const done = await build({ Dockerfile: `FROM ${base}\n${copies}RUN test "$(ls / | grep -c '^a[0-9]')" = 200\n`, a: 'a' }, {}, [
    '--output',
    'type=image,name=example.org/deep:1',
  ]);
  assert.equal(done.status, 0, done.stderr.slice(-2000));
  await assertContained(done);
});

test('instructions nested and referring to themselves end at once', { skip, timeout: 60_000 }, async () => {
  for (const text of [
    'FROM a AS b\nFROM b AS a\n',
    'FROM self AS self\nCOPY --from=self / /\n',
    `FROM ${base}\nENV A=$A$A$A$A$A$A$A$A$A$A\n${'ENV A=$A$A$A$A$A$A$A$A$A$A\n'.repeat(20)}`,
    `FROM ${base}\nENV A=x\n${'ENV A=$A$A$A$A$A$A$A$A$A$A\n'.repeat(20)}`,
    `ARG A=x\n${'ARG A=$A$A$A$A$A$A$A$A$A$A\n'.repeat(20)}FROM ${base}\n`,
    `FROM ${base}\nCOPY ${'{'.repeat(5000)} /x\n`,
    `FROM ${base}\nCOPY ${'[a-'.repeat(5000)} /x\n`,
    `FROM ${base}\nCOPY ${'*?'.repeat(2000)}y /x\n`,
  ]) {
    const startedMs = performance.now();
    const done = await build({ Dockerfile: text, [`${'a'.repeat(200)}`]: 'x' });
    assert.ok(performance.now() - startedMs < 30_000, `${text.slice(0, 60)} took ${performance.now() - startedMs} ms`);
    assert.ok(done.stderr.length < 1_000_000, `${done.stderr.length} characters of output for ${text.slice(0, 60)}`);
    await assertContained(done);
  }
  const info = await buildctl(daemon, ['debug', 'info']);
  assert.equal(info.status, 0);
});

test('base images with bad names are told apart, each with its line', { skip, timeout: 60_000 }, async () => {
  for (const [name, message] of [
    ['Upper', /repository name .*lowercase/i],
    ['UPPER/case', /no such host/], // a first part in capitals is a host,
    ['a:b:c', /invalid reference format/],
    ['name@sha256:abc', /invalid (reference|checksum|digest)/],
    ['-x', /invalid reference format|unknown flag/],
    [`${'a'.repeat(300)}`, /must not be more than 255 characters/],
    ['..', /invalid reference format/],
    [`${registry.host}/missing:latest`, /not found/],
    [`${registry.host}/base@sha256:${'0'.repeat(64)}`, /not found/],
    ['127.0.0.1:1/none', /connection refused/],
    ['no-such-host.invalid/x', /no such host|lookup|not found|server misbehaving/i],
  ] as const) {
    const done = await build({ Dockerfile: `# syntax is ours\nFROM ${name}\nRUN true\n` });
    assert.equal(done.status, 1);
    assert.match(done.stderr, message, name);
    assert.match(done.stderr, /Dockerfile:2/, `${name}: ${done.stderr}`);
    await assertContained(done);
  }
});

test('after all of them a build works', { skip }, async () => {
  const done = await build({ Dockerfile: `FROM ${base}\nRUN echo fine\n` });
  assert.equal(done.status, 0, done.stderr);
  assert.equal(readFileSync(join(canary.dir, 'victim'), 'utf8'), `${canary.word}\n`);
  await assertNothingLeaked(daemon, idle, { idle: true });
});
