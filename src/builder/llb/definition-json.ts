/** A graph as typed error details carry it: the JSON of Go's encoding/json, made when it is sent, since most errors are never sent. */
import { toJson } from '@bufbuild/protobuf';
import { type Definition, DefinitionSchema, type OpMetadata } from '../proto/gen/pb/ops_pb.ts';

export function definitionJson(definition: Definition): { toJSON(): unknown } {
  return {
    toJSON: () =>
      toJson(DefinitionSchema, { ...definition, metadata: readable(definition.metadata) }, { useProtoFieldName: true }),
  };
}

/** Without resource limits: their 64-bit numbers are texts in protobuf's JSON, which encoding/json refuses, and with them the whole error. */
function readable(metadata: Readonly<Record<string, OpMetadata>>): Record<string, OpMetadata> {
  return Object.fromEntries(Object.entries(metadata).map(([digest, { linuxResources: _numbers, ...rest }]) => [digest, rest]));
}
