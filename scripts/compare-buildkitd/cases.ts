/** The inputs that both daemons build. Every Dockerfile takes its base images from the registry that the tool starts. */
import { execFileSync } from 'node:child_process';
import { chmodSync, linkSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from '../../test/fixtures/context.ts';

export interface Case {
  readonly name: string;
  /** `BUSYBOX`, `TRIGGERS` and `DEBIAN` stand for the base images, `REGISTRY` for the host that has them. */
  readonly dockerfile: string;
  readonly files?: Readonly<Record<string, string>>;
  /** What text files cannot say: links, modes, archives. */
  readonly prepare?: (context: TestContext) => void;
  /** Further arguments of `buildctl build`. */
  readonly args?: readonly string[];
  /** Attributes of the output. */
  readonly output?: string;
}

const TREE = { 'in/a.txt': 'a\n', 'in/b.md': 'b\n', 'in/sub/c.txt': 'c\n', 'in/sub/deep/d.txt': 'd\n', 'in/.hidden': 'h\n' };

export const CASES: readonly Case[] = [
  {
    name: 'configuration of the image',
    dockerfile: `FROM BUSYBOX
MAINTAINER someone <someone@example.org>
ARG VERSION=1.0
ENV A=1 B="two words" C=\${VERSION:-none}
ENV PATH=/opt/bin:$PATH
LABEL org.example.b="2" org.example.a="1 \\"quoted\\"" empty=""
EXPOSE 8080 53/udp 9000-9002/tcp
VOLUME ["/data", "/logs/a"]
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=5s --timeout=3s --start-period=1m --start-interval=2s --retries=4 CMD wget -q localhost || exit 1
SHELL ["/bin/sh", "-e", "-c"]
WORKDIR /srv
USER app:extra
ENTRYPOINT ["/bin/echo", "entry"]
CMD one two
ONBUILD RUN echo later
ONBUILD COPY . /srv
`,
  },
  {
    name: 'entry point and command forms',
    dockerfile: `FROM BUSYBOX AS base
CMD ["a", "b"]
HEALTHCHECK NONE
FROM base
ENTRYPOINT exec sleep 1
`,
  },
  {
    name: 'COPY of globs, directories, owners and modes',
    files: { ...TREE, x1: '1', x2: '2', y3: '3', 'naïve ☃.txt': 'u\n' },
    prepare(context) {
      context.link('in/link', 'a.txt');
      context.link('in/dangling', '/nowhere');
      chmodSync(join(context.dir, 'x1'), 0o755);
      chmodSync(join(context.dir, 'in/sub'), 0o700);
      chmodSync(join(context.dir, 'y3'), 0o4755);
      linkSync(join(context.dir, 'x1'), join(context.dir, 'in/hard'));
      mkdirSync(join(context.dir, 'in/empty'));
    },
    dockerfile: `FROM BUSYBOX
COPY in /plain
COPY in/ /slash/
COPY x? y* /globs/
COPY --chown=app:extra in /named
COPY --chown=1234:5678 --chmod=0640 x1 /ids
COPY --chmod=u=rwX,go=rX in /symbolic
COPY --chown=2000 ["x2", "/odd name/x2"]
COPY ["naïve ☃.txt", "/unicode/"]
COPY in/link /followed
COPY in/sub in/a.txt /merged/
COPY --exclude=*.md --exclude=sub in /excluded/
COPY --parents in/sub/./deep/d.txt in/a.txt /parents/
`,
  },
  {
    name: '.dockerignore',
    files: {
      ...TREE,
      '.dockerignore': '**/*.md\nin/sub\n!in/sub/deep\n.hidden\n# note\n*.log\n',
      'keep.txt': 'k',
      'no.log': 'n',
    },
    dockerfile: `FROM scratch
COPY . /all/
COPY in /in
`,
  },
  {
    name: 'COPY into scratch',
    files: TREE,
    dockerfile: `FROM scratch
COPY in/a.txt /a.txt
COPY in/sub /
`,
  },
  {
    name: 'the same files and hard links, copied again and again',
    files: { 'in/a': 'first file\n', 'in/c': 'another\n', 'in/sub/e': 'below\n' },
    prepare(context) {
      linkSync(join(context.dir, 'in/a'), join(context.dir, 'in/b'));
      linkSync(join(context.dir, 'in/c'), join(context.dir, 'in/sub/d'));
    },
    dockerfile: `FROM scratch AS alone
COPY in /in
FROM BUSYBOX AS stage
COPY in /1
COPY in /2
COPY in/a in/b in/c /3/
COPY in/a in/sub in /4/
COPY --link in /5
COPY --from=alone /in /6
COPY --from=alone / /7
RUN cp /1/c /2/c && mkdir /8 && cp -a /1 /2 /8/ && ln /1/a /9 && mv /2/sub/e /1/sub/e
FROM BUSYBOX
COPY in /1
COPY --from=stage /1 /2 /3 /merged/
COPY --from=stage /8 /8
COPY --from=alone /in /1
COPY --from=alone /in /again
COPY --from=stage /9 /1/a /two/
`,
  },
  {
    name: 'RUN that makes files of every kind',
    dockerfile: `FROM BUSYBOX
RUN mkdir -p /d/e && echo one > /d/one && ln /d/one /d/two && ln -s one /d/soft && ln -s /nowhere /d/dangling && mkfifo /d/fifo && \\
    mknod /d/null c 1 3 && chmod 4711 /d/one && chmod 1777 /d/e && chown 7:8 /d/soft && chown -h 9:10 /d/dangling && : > /d/empty && \\
    mkdir /d/$(printf '%0120d' 0) && echo long > /d/$(printf '%0120d' 0)/$(printf '%0140d' 1) && ln -s $(printf '%0150d' 2) /d/longlink && \\
    echo u > "/d/ünïcode ☃" && dd if=/dev/zero of=/d/sparse bs=1 count=0 seek=300000 2>/dev/null && echo x > '/d/b\\s'
RUN touch -d '2001-02-03 04:05:06' /d/old && touch -d '1960-01-01 00:00:00' /d/older && touch -d '2040-01-01 00:00:00' /d/newer
`,
  },
  {
    name: 'RUN that removes and replaces',
    dockerfile: `FROM BUSYBOX
RUN mkdir -p /a/b/c /k/l && echo 1 > /a/b/c/f && echo 2 > /a/b/g && echo 3 > /k/l/m && ln -s f /a/s && echo 4 > /a/h && ln /a/h /a/i
RUN rm /a/b/g && rm -r /k
RUN rm -r /a/b && mkdir /a/b && echo new > /a/b/n
RUN rm /a/s && mkdir /a/s && rm /a/h && echo replaced > /a/h
RUN rm -r /a/s && echo file > /a/s && chmod 600 /a/i
RUN rm -r /home/app && mkdir -p /home/app && chown app:app /home/app
RUN true
RUN chown 5:5 /etc && touch /etc/passwd
RUN mv /a /z
`,
  },
  {
    name: 'WORKDIR',
    dockerfile: `FROM BUSYBOX
WORKDIR /one/two
WORKDIR three
RUN pwd > where
USER app
WORKDIR /owned
RUN id -u > /home/app/who && pwd >> /home/app/who
WORKDIR /home/app
WORKDIR \${UNSET:-/tmp}/x
COPY Dockerfile ./
`,
  },
  {
    name: 'stages',
    files: TREE,
    args: ['--opt', 'target=last', '--opt', 'build-arg:WHICH=two', '--opt', 'label:from.option=yes'],
    dockerfile: `ARG WHICH=one
ARG TAG=latest
FROM BUSYBOX AS one
RUN echo one > /which
FROM BUSYBOX AS two
ARG WHICH
RUN mkdir -p /t/u && echo $WHICH > /t/which && ln -s ../which /t/u/link && ln /t/which /t/hard && chown -R 3:4 /t
FROM \${WHICH} AS chosen
ENV FROM_CHOSEN=1
RUN echo chosen >> /t/which
FROM scratch AS last
COPY --from=chosen /t /t
COPY --from=two --chown=9:9 /t/u/link /linked
COPY --from=0 --chmod=700 /which /deep/er/which
COPY --from=BUSYBOX /etc/passwd /etc/
FROM one AS unused
RUN exit 1
`,
  },
  {
    name: 'here-documents',
    dockerfile: `# syntax is built in
FROM BUSYBOX
ARG WHO=world
RUN <<EOT
set -e
echo "hello $WHO" > /greeting
echo second >> /greeting
EOT
RUN <<-'A' cat > /quoted && cat <<B >> /quoted
	tabs stay away, $WHO stays
A
more
B
COPY <<one <<"two" /docs/
one says $WHO
one
two says $WHO
two
COPY --chmod=755 --chown=1:2 <<EOT /bin/script
#!/bin/sh
echo script
EOT
RUN <<EOT
#!/bin/sh
echo shebang > /shebang
EOT
`,
  },
  {
    name: 'ONBUILD triggers of the base',
    files: { 'app.txt': 'app\n' },
    dockerfile: `FROM TRIGGERS
RUN cat /srv/app.txt > /srv/again
`,
  },
  {
    name: 'ADD of archives',
    files: TREE,
    prepare({ dir }) {
      const owners = ['--owner=0', '--group=0', '--mtime=@1600000000', '--sort=name'];
      execFileSync('sh', ['-c', 'cd in && ln -s a.txt s && ln a.txt h && mkdir -m 1770 t && chmod 640 b.md'], { cwd: dir });
      execFileSync('tar', [...owners, '-C', dir, '-cf', join(dir, 'plain.tar'), 'in']);
      execFileSync('tar', [...owners, '-C', dir, '-czf', join(dir, 'zipped.tgz'), '--owner=33', '--group=44', 'in']);
      execFileSync('tar', [...owners, '-C', dir, '-cJf', join(dir, 'packed.tar.xz'), 'in/sub']);
      execFileSync('tar', [...owners, '-C', dir, '-cjf', join(dir, 'packed.tar.bz2'), 'in/sub']);
    },
    dockerfile: `FROM BUSYBOX
ADD plain.tar /plain/
ADD zipped.tgz /zipped/
ADD --chown=7:8 zipped.tgz /owned/
ADD packed.tar.xz packed.tar.bz2 /packed/
ADD --unpack=false plain.tar /kept/
ADD in/a.txt /file
ADD in /dir
`,
  },
  {
    name: 'ADD of addresses',
    dockerfile: `FROM scratch
ADD http://REGISTRY/v2/ /answer
ADD --chmod=0444 --chown=3:4 http://REGISTRY/v2/busybox/tags/list /deep/tags.json
ADD http://REGISTRY/v2/busybox/tags/list /dir/
`,
  },
  {
    name: 'RUN with mounts',
    files: { ...TREE, secret: 'value' },
    args: ['--secret', 'id=key,src=CONTEXT/secret'],
    dockerfile: `FROM BUSYBOX
RUN --mount=type=cache,target=/cache/deep --mount=type=tmpfs,target=/scratch --mount=type=bind,source=in,target=/in \\
    --mount=type=secret,id=key --mount=type=secret,id=key,target=/etc/key,uid=5,mode=0444 --mount=type=secret,id=key,env=KEY \\
    cp /in/a.txt /out && wc -c < /run/secrets/key > /size && echo c > /cache/deep/c && echo \${#KEY} >> /size
RUN --mount=type=bind,from=BUSYBOX,source=/etc,target=/mnt/etc,rw --mount=type=cache,target=/home/app,uid=1000 echo x > /mnt/etc/new && cp /mnt/etc/new /new
RUN --network=none echo offline > /offline
`,
  },
  {
    name: 'users, shells and arguments of RUN',
    args: ['--opt', 'build-arg:WHO=me', '--opt', 'build-arg:HTTP_PROXY=http://proxy:1', '--opt', 'hostname=builder'],
    dockerfile: `FROM BUSYBOX
ARG WHO
ARG UNUSED=x
RUN echo $WHO > /who && hostname > /host
SHELL ["/bin/busybox", "ash", "-c"]
RUN echo ash $0 > /shell
RUN ["/bin/touch", "/exec form"]
USER 1000:2000
RUN touch /home/app/mine && id > /home/app/id
USER app
RUN touch /tmp/t && env | sort | grep -vE '^(HOSTNAME|TRACEPARENT|OTEL_)' > /home/app/env
`,
  },
  {
    name: 'the shipped example',
    // Both files are the repository's own.
    prepare({ dir }) {
      const example = join(import.meta.dirname, '../../examples/hello');
      execFileSync('sh', ['-c', 'cp -r "$1"/. "$2" && cp "$(command -v busybox)" "$2"/', 'sh', example, dir]);
    },
    dockerfile: '',
  },
  {
    name: 'two platforms',
    files: TREE,
    args: ['--opt', 'platform=linux/amd64,linux/arm64/v8'],
    dockerfile: `FROM scratch
ARG TARGETPLATFORM TARGETVARIANT BUILDPLATFORM
ENV FOR=$TARGETPLATFORM VARIANT=$TARGETVARIANT
COPY in /in
`,
  },
  {
    name: 'Docker media types',
    files: TREE,
    output: 'oci-mediatypes=false,name=example.org/x:1',
    dockerfile: `FROM BUSYBOX
COPY in /in
`,
  },
  {
    name: 'annotations of manifest and index',
    files: TREE,
    output: 'name=example.org/x:2,annotation.org.example.a=1,annotation-manifest-descriptor.org.example.b=2',
    dockerfile: `FROM BUSYBOX
COPY in /in
`,
  },
  {
    name: 'nothing at all',
    dockerfile: 'FROM scratch\nLABEL only=config\n',
  },
  {
    name: 'COPY --link',
    files: TREE,
    dockerfile: `FROM BUSYBOX
COPY --link in /linked/in
COPY --link --chown=5:6 in/a.txt /linked/
RUN cat /linked/a.txt > /copied
COPY --link --from=BUSYBOX /etc/group /g
`,
  },
  {
    name: 'a C program on Debian',
    files: {
      'hello.c': `#include <stdio.h>
#include <sys/xattr.h>
int main(int argc, char **argv) {
  if (argc > 1 && setxattr(argv[1], "user.note", "noted", 5, 0) != 0) perror("setxattr");
  if (argc > 1 && setxattr(argv[1], "security.capability", "\\1\\0\\0\\2\\0\\4\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0", 20, 0) != 0) perror("cap");
  puts("hello from C");
  return 0;
}
`,
    },
    dockerfile: `FROM DEBIAN AS build
WORKDIR /src
COPY hello.c .
RUN gcc -O2 -static -o /out hello.c && strip /out && cp /out /other && /out /other
FROM build AS tidy
RUN apt-get clean && rm -rf /var/lib/apt/lists /usr/share/doc && useradd -m builder && touch /usr/bin/gcc
FROM tidy
COPY --from=build /out /other /usr/local/bin/
CMD ["/usr/local/bin/out"]
`,
  },
];
