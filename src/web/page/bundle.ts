/**
 * The page at / as files in memory. From a clone it is bundled by esbuild when it is first asked for (a fifth of a second, once); where
 * esbuild is not installed, what `npm run build:web` wrote to dist/web is read. Nothing of it is loaded before somebody opens the page.
 */
import { hash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { BuildOptions } from 'esbuild';
import { BuildError } from '../../core/errors.ts';

export interface PageFile {
  readonly type: string;
  readonly bytes: Uint8Array;
  readonly gzipped: Uint8Array;
}
/** Files by name; `index.html` is the page. Every other name holds a hash of its content, so it never changes. */
export type Page = ReadonlyMap<string, PageFile>;

const SOURCE = join(import.meta.dirname, '..', 'app');
const BUILT = join(import.meta.dirname, '..', '..', '..', 'dist', 'web');
const TYPES: Readonly<Record<string, string>> = {
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
  svg: 'image/svg+xml',
  html: 'text/html; charset=utf-8',
};

export const BUNDLE: BuildOptions = {
  entryPoints: [join(SOURCE, 'main.tsx')],
  bundle: true,
  splitting: true, // charts come with the views that have some
  format: 'esm',
  target: 'es2022',
  minify: true,
  write: false,
  outdir: '/',
  entryNames: '[name]-[hash]',
  chunkNames: '[name]-[hash]',
  jsx: 'automatic',
  jsxImportSource: 'preact',
  legalComments: 'none',
  logLevel: 'silent',
};

/** @throws BuildError `unavailable` when there is neither esbuild nor a built page. */
export async function loadPage(): Promise<Page> {
  const files = (await bundled()) ?? (await built());
  if (files === undefined)
    throw new BuildError('unavailable', 'the page is not built', {
      hint: 'run npm run build:web where the sources are; the API is at /api/v1',
    });
  const compress = promisify(gzip);
  const entries = [...files].map(async ([name, bytes]): Promise<[string, PageFile]> => {
    const type = TYPES[name.split('.').at(-1) ?? ''] ?? 'application/octet-stream';
    return [name, { type, bytes, gzipped: await compress(bytes, { level: 9 }) }];
  });
  return new Map(await Promise.all(entries));
}

/** Undefined where esbuild is not installed. */
export async function bundled(): Promise<Map<string, Uint8Array> | undefined> {
  const esbuild = await import('esbuild').catch(() => undefined);
  if (esbuild === undefined) return undefined;
  try {
    const { outputFiles = [] } = await esbuild.build(BUNDLE);
    const files = new Map<string, Uint8Array>(outputFiles.map((file) => [basename(file.path), file.contents]));
    const icon = await readFile(join(SOURCE, 'icon.svg'));
    const iconName = `icon-${hash('sha256', icon, 'hex').slice(0, 8)}.svg`;
    return files.set(iconName, icon).set('index.html', Buffer.from(indexOf([...files.keys()], iconName)));
  } finally {
    await esbuild.stop(); // its process is not kept for a page that does not change
  }
}

async function built(): Promise<Map<string, Uint8Array> | undefined> {
  const names = await readdir(BUILT).catch((): string[] => []);
  if (!names.some((name: string) => name === 'index.html')) return undefined;
  return new Map(await Promise.all(names.map(async (name) => [name, await readFile(join(BUILT, name))] as const)));
}

function indexOf(names: readonly string[], icon: string): string {
  const named = (pattern: RegExp): string => names.find((name) => pattern.test(name)) ?? '';
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Cooper</title>
<link rel="icon" href="/assets/${icon}" type="image/svg+xml">
<link rel="stylesheet" href="/assets/${named(/^main-.*\.css$/)}">
<script type="module" src="/assets/${named(/^main-.*\.js$/)}"></script>
</head>
<body>
<div id="app"></div>
<noscript>This page needs JavaScript. The same facts as JSON: <a href="/api/v1/status">status</a>, <a href="/slo">objectives</a>,
<a href="/api/v1/builds">builds</a>, <a href="/api/v1/alerts">alerts</a>, <a href="/api/v1/cache">cache</a>; <a href="/metrics">metrics</a>.</noscript>
</body>
</html>
`;
}
