/**
 * The shipped example and a C program that is compiled on Debian, from both clients to a registry and from there to a running
 * process; and the same builds again after the daemon was stopped and after it was killed.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { BuildxRig, executedSteps } from '../fixtures/buildx.ts';
import { contextOf, type TestContext } from '../fixtures/context.ts';
import { buildctl, type Run, unableTo } from '../fixtures/daemon.ts';
import { debianRootfs, pushImage } from '../fixtures/images.ts';
import { pullWithSkopeo, runWithRunc, skopeoInspect } from '../fixtures/run-image.ts';

const skip = unableTo('buildctl', 'buildx', 'runc', 'docker-registry', 'busybox', 'mmdebstrap', 'skopeo');
const EXAMPLE = join(import.meta.dirname, '../../examples/hello');
let rig: BuildxRig;
let program: TestContext;
let example: TestContext;

before(async () => {
  if (skip !== false) return;
  rig = await BuildxRig.start();
  await pushImage(rig.registry.host, 'debian', 'gcc', [debianRootfs()]);
  program = await contextOf({
    Dockerfile: `FROM ${rig.registry.host}/debian:gcc AS build
WORKDIR /src
COPY main.c words.c words.h ./
RUN gcc -O1 -c words.c -o words.o
RUN mkdir /out && gcc -O1 -static -o /out/program main.c words.o
RUN strip /out/program && /out/program

FROM scratch
LABEL org.example.kind=program
COPY --from=build /out/program /bin/program
ENTRYPOINT ["/bin/program"]
CMD ["from", "the", "image"]
`,
    'main.c': `#include <stdio.h>\n#include "words.h"\nint main(int argc, char **argv) {\n  printf("%s %d\\n", greeting(), argc - 1);\n  return 0;\n}\n`,
    'words.c': '#include "words.h"\nconst char *greeting(void) { return "compiled on Debian, words:"; }\n',
    'words.h': 'const char *greeting(void);\n',
  });
  example = await contextOf({});
  cpSync(EXAMPLE, example.dir, { recursive: true });
  execFileSync('sh', ['-c', 'cp "$(command -v busybox)" "$1"', 'sh', example.dir]);
});
after(async () => {
  await example?.[Symbol.asyncDispose]();
  await program?.[Symbol.asyncDispose]();
  await rig?.[Symbol.asyncDispose]();
});

type Client = (context: TestContext, name: string, ...more: string[]) => Promise<Run>;
const CLIENTS: Readonly<Record<string, Client>> = {
  buildctl: ({ dir }, name, ...more) => {
    const sources = ['--local', `context=${dir}`, '--local', `dockerfile=${dir}`];
    const output = ['--output', `type=image,name=${rig.registry.host}/${name},push=true`];
    return buildctl(rig.daemon, ['build', '--progress', 'plain', '--frontend', 'dockerfile.v0', ...sources, ...output, ...more]);
  },
  buildx: ({ dir }, name, ...more) => rig.build(['--push', '-t', `${rig.registry.host}/${name}`, ...more, dir]),
};

for (const [client, build] of Object.entries(CLIENTS)) {
  test(`${client} compiles a C program on Debian and pushes it; skopeo finds it and runc runs it`, { skip }, async () => {
    const built = await build(program, `program:${client}`, '--no-cache');
    assert.equal(built.status, 0, built.stderr);
    assert.equal(executedSteps(built.stderr).filter((name) => name.includes('RUN')).length, 3, built.stderr);
    const ref = `${rig.registry.host}/program:${client}`;
    const inspected = skopeoInspect(ref);
    assert.deepEqual(inspected.Labels, { 'org.example.kind': 'program' });
    const pulled = pullWithSkopeo(ref, await rig.folder());
    assert.equal(pulled.layers, 1);
    assert.deepEqual(runWithRunc(pulled), { status: 0, stdout: 'compiled on Debian, words: 3\n', stderr: '' });
  });

  test(`${client} builds the shipped example and pushes it; runc runs what it holds`, { skip }, async () => {
    const built = await build(example, `example:${client}`, '--no-cache');
    assert.equal(built.status, 0, built.stderr);
    const pulled = pullWithSkopeo(`${rig.registry.host}/example:${client}`, await rig.folder());
    assert.equal(pulled.layers, 3);
    const { status, stdout } = runWithRunc(pulled, ['/bin/busybox', 'head', '-n', '1', '/site/index.html']);
    assert.deepEqual([status, stdout], [0, "<!doctype html><title>Cooper's example</title><pre>\n"]);
  });
}

test('a step compiled on Debian asks the ssh agents of both clients for their keys', {
  skip: skip || unableTo('ssh-keygen'),
}, async () => {
  await using context = await contextOf({
    Dockerfile: `FROM ${rig.registry.host}/debian:gcc
COPY ask.c /
RUN gcc -o /ask /ask.c
RUN --mount=type=ssh /ask
RUN --mount=type=ssh,id=none true
`,
    // SSH_AGENTC_REQUEST_IDENTITIES, https://www.ietf.org/archive/id/draft-miller-ssh-agent-14.html section 3.5
    'ask.c': `#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(void) {
  struct sockaddr_un at = {AF_UNIX};
  strcpy(at.sun_path, getenv("SSH_AUTH_SOCK"));
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  unsigned char answer[4096];
  if (connect(fd, (struct sockaddr *)&at, sizeof at) != 0 || write(fd, "\\0\\0\\0\\1\\13", 5) != 5) return perror("agent"), 1;
  for (size_t at = 0; at < 9;) {
    ssize_t n = read(fd, answer + at, sizeof answer - at);
    if (n <= 0) return perror("answer"), 1;
    at += n;
  }
  printf("agent answers %d with %d keys\\n", answer[4], answer[8]);
  return 0;
}
`,
  });
  const key = join(await rig.folder(), 'key');
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
  for (const [client, build] of Object.entries(CLIENTS)) {
    const { status, stderr } = await build(context, `asks:${client}`, '--ssh', `default=${key}`, '--no-cache');
    assert.equal(status, 0, stderr);
    assert.match(stderr, /^#\d+ \d+\.\d+ agent answers 12 with 1 keys$/m);
  }
  context.write('Dockerfile', `FROM ${rig.base}\nRUN --mount=type=ssh,id=other,required=true true\n`);
  const refused = await rig.build(['--ssh', `default=${key}`, context.dir]);
  assert.match(refused.stderr, /ERROR: failed to build: failed to solve: unset ssh forward key other$/m);
});

/** Digest of what a tag names. */
const digestOf = (name: string): unknown => skopeoInspect(`${rig.registry.host}/${name}`).Digest;

for (const [signal, what] of [
  ['SIGTERM', 'a restart'],
  ['SIGKILL', 'kill -9'],
] as const)
  test(`after ${what} of the daemon both builds are all cached, for both clients, and give the same images`, {
    skip,
  }, async () => {
    const before: Record<string, unknown> = {};
    for (const [client, build] of Object.entries(CLIENTS)) {
      for (const [name, context] of [
        ['program', program],
        ['example', example],
      ] as const) {
        await build(context, `${name}:${client}`);
        before[`${name}:${client}`] = digestOf(`${name}:${client}`);
      }
    }
    await rig.restart(signal);
    for (const [client, build] of Object.entries(CLIENTS)) {
      for (const [name, context] of [
        ['program', program],
        ['example', example],
      ] as const) {
        const again = await build(context, `${name}:${client}`);
        assert.equal(again.status, 0, again.stderr);
        assert.deepEqual(executedSteps(again.stderr), [], `${client} ${name}`);
        assert.match(again.stderr, /^#\d+ CACHED$/m);
        assert.equal(digestOf(`${name}:${client}`), before[`${name}:${client}`]);
      }
    }
  });
