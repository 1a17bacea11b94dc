/** What exporters tell the client about the image they made (buildkit-wire.md section 5.10). */
import type { Descriptor } from '../content/ports.ts';
import { goJson } from '../registry/go-json.ts';
import { goDescriptor } from '../registry/manifest.ts';
import type { WrittenImage } from './image-writer.ts';
import type { ExportContext } from './ports.ts';

/** `descriptor`: the root, with annotations that only the client sees. */
export function imageResponse(image: WrittenImage, descriptor: Descriptor, names: readonly string[]): Map<string, string> {
  const response = new Map<string, string>();
  response.set('containerimage.digest', descriptor.digest);
  const [only] = image.images;
  if (!image.isIndex && only !== undefined) response.set('containerimage.config.digest', only.config.descriptor.digest);
  response.set('containerimage.descriptor', Buffer.from(goJson(goDescriptor(descriptor))).toString('base64'));
  if (names.length > 0) response.set('image.name', names.join(','));
  return response;
}

/** The response as headers of a call into the session, so that the client can name what it receives. */
export function responseHeaders(response: ReadonlyMap<string, string>): readonly (readonly [string, string])[] {
  return [...response].map(([key, value]) => [`exporter-md-${key.toLowerCase()}`, value] as const);
}

/** Headers of every call that sends a client its output: which of its exporters this is, and for which step. */
export function outputHeaders({ exporterIndex, traceparent }: ExportContext): readonly (readonly [string, string])[] {
  const id = ['buildkit-attachable-exporter-id', String(exporterIndex)] as const;
  return traceparent === undefined ? [id] : [id, ['traceparent', traceparent]];
}
