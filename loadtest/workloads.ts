/** The builds that load is made of, as files; ASCII only, and nothing of Node or k6. */
import type { Workload } from './scenarios.ts';

export interface ContextFile {
  readonly path: string;
  readonly text: string;
}
const LINES_OF_LOG = 2_000;
const FILES = 64;
const FILE_CHARACTERS = 64 * 1024;

/** A context with its Dockerfile. `nonce` makes it a build nobody has made; a `noop` is the same for everybody of a tenant. */
export function contextOf(kind: Workload, image: string, tenant: number, nonce: string): ContextFile[] {
  const dockerfile = (...lines: readonly string[]): ContextFile => ({
    path: 'Dockerfile',
    text: `${[`FROM ${image} AS base`, `RUN echo tenant ${tenant} > /tenant`, ...lines].join('\n')}\n`,
  });
  switch (kind) {
    case 'noop':
      return [dockerfile('RUN echo always the same > /same')];
    case 'compile':
      return [
        dockerfile(
          'FROM base AS left',
          'COPY source /source',
          'RUN sha256sum /source > /left',
          'FROM base AS right',
          'COPY source /source',
          'RUN sort /source > /right',
          'FROM base',
          'COPY --from=left /left /left',
          'COPY --from=right /right /right',
        ),
        { path: 'source', text: `${nonce}\n`.repeat(500) },
      ];
    case 'context':
      return [
        dockerfile('COPY files /files'),
        ...Array.from({ length: FILES }, (_, at) => ({
          path: `files/${at}`,
          text: `${at % 8 === 0 ? nonce : 'same'} ${'x'.repeat(FILE_CHARACTERS)}\n`, // one file in eight has changed
        })),
      ];
    case 'logs':
      return [dockerfile(`RUN i=0; while [ $i -lt ${LINES_OF_LOG} ]; do echo "${nonce} line $i"; i=$((i+1)); done`)];
    case 'cold':
      return [dockerfile(`RUN echo ${nonce} > /cold`, 'RUN sha256sum /cold > /sum')];
  }
}

const BLOCK = 512;

/** A tar archive of files. */
export function tarOf(files: readonly ContextFile[]): Uint8Array<ArrayBuffer> {
  const sizes = files.map(({ text }) => BLOCK + Math.ceil(text.length / BLOCK) * BLOCK);
  const archive = new Uint8Array(sizes.reduce((sum, size) => sum + size, 2 * BLOCK));
  let at = 0;
  for (const [index, { path, text }] of files.entries()) {
    archive.set(headerOf(path, text.length), at);
    put(archive, text, at + BLOCK);
    at += sizes[index] ?? 0;
  }
  return archive;
}

function headerOf(path: string, size: number): Uint8Array {
  const header = new Uint8Array(BLOCK);
  const octal = (value: number, width: number): string => value.toString(8).padStart(width - 1, '0');
  put(header, path, 0);
  put(header, octal(0o644, 8), 100);
  put(header, octal(0, 8), 108);
  put(header, octal(0, 8), 116);
  put(header, octal(size, 12), 124);
  put(header, octal(0, 12), 136);
  put(header, '        0', 148);
  put(header, 'ustar\u000000', 257);
  put(
    header,
    `${octal(
      header.reduce((sum, byte) => sum + byte, 0),
      7,
    )}\0 `,
    148,
  );
  return header;
}

function put(into: Uint8Array, text: string, at: number): void {
  for (let i = 0; i < text.length; i += 1) into[at + i] = text.charCodeAt(i);
}
