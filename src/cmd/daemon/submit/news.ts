/** Status messages of a build as the lines that a caller over HTTP reads. */
import { TextDecoder } from 'node:util';
import { fromBinary } from '@bufbuild/protobuf';
import { StatusResponseSchema, type Vertex } from '../../../builder/proto/gen/moby/buildkit/v1/control_pb.ts';
import type { BuildNews } from '../../../web/api/submit.ts';

/** A step is told when it starts and when it ends; what is said of it twice is told once. */
export async function* newsOf(messages: AsyncIterable<Uint8Array>): AsyncGenerator<BuildNews> {
  const told = new Map<string, string>();
  const decoders = new Map<string, TextDecoder>();
  for await (const bytes of messages) {
    const { vertexes, logs, warnings } = fromBinary(StatusResponseSchema, bytes);
    for (const vertex of vertexes) {
      const state = stateOf(vertex);
      if (state === undefined || told.get(vertex.digest) === state) continue;
      told.set(vertex.digest, state);
      yield {
        type: 'step',
        step: vertex.digest,
        name: vertex.name,
        state,
        ...(vertex.error === '' ? {} : { error: vertex.error }),
      };
    }
    for (const { vertex, stream, msg } of logs) {
      const key = `${vertex} ${stream}`; // a character may be cut in two between messages
      const decoder = decoders.get(key) ?? new TextDecoder();
      decoders.set(key, decoder);
      yield { type: 'log', step: vertex, stream: Number(stream), text: decoder.decode(msg, { stream: true }) };
    }
    for (const { vertex, short, info, ranges } of warnings) {
      const line = ranges[0]?.start?.line;
      const place = info === undefined ? undefined : line === undefined ? info.filename : `${info.filename}:${line}`;
      yield { type: 'warning', step: vertex, text: new TextDecoder().decode(short), ...(place === undefined ? {} : { place }) };
    }
  }
}

function stateOf({ started, completed, cached, error }: Vertex): 'started' | 'cached' | 'done' | 'failed' | undefined {
  if (cached) return 'cached';
  if (completed !== undefined) return error === '' ? 'done' : 'failed';
  return started === undefined ? undefined : 'started';
}
