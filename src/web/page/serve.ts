/** GET / and /assets/*. Loaded and bundled with the first view, then kept: a few hundred kilobytes. */
import type { Request, Response } from 'express';
import { BuildError } from '../../core/errors.ts';
import type { Page, PageFile } from './bundle.ts';

export class PageServer {
  #page: Promise<Page> | undefined;

  async index(request: Request, response: Response): Promise<void> {
    send(fileOf(await this.#load(), 'index.html'), request, response);
  }

  async asset(name: string, request: Request, response: Response): Promise<void> {
    const file = fileOf(await this.#load(), name === 'index.html' ? '' : name);
    response.setHeader('cache-control', 'public, max-age=31536000, immutable'); // the name holds the content's hash
    send(file, request, response);
  }

  /** A failure is not kept: the next view tries again. */
  #load(): Promise<Page> {
    this.#page ??= import('./bundle.ts')
      .then(({ loadPage }) => loadPage())
      .catch((error: unknown) => {
        this.#page = undefined;
        throw BuildError.from(error);
      });
    return this.#page;
  }
}

function fileOf(page: Page, name: string): PageFile {
  const file = page.get(name);
  if (file === undefined) throw new BuildError('not-found', `there is no file ${name}`, { hint: 'reload the page at /' });
  return file;
}

function send(file: PageFile, request: Request, response: Response): void {
  response.setHeader('content-type', file.type);
  response.setHeader('vary', 'accept-encoding');
  const gzips = /\bgzip\b/.test(String(request.headers['accept-encoding'] ?? ''));
  if (gzips) response.setHeader('content-encoding', 'gzip');
  response.end(gzips ? file.gzipped : file.bytes);
}
