/** `containerd.services.content.v1.Content`, read only: clients fetch logs, traces, manifests and attestations of finished builds. */
import { create } from '@bufbuild/protobuf';
import { parseDigest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { BlobInfo, ContentStore } from '../content/ports.ts';
import { timestampOf } from '../history/status-log.ts';
import {
  type Content,
  type Info,
  InfoResponseSchema,
  InfoSchema,
  ListContentResponseSchema,
  ReadContentResponseSchema,
} from '../proto/gen/containerd/services/content/v1/content_pb.ts';
import type { Handlers } from '../rpc/handlers.ts';

const LIST_PAGE = 256;

export function contentHandlers(content: ContentStore): Handlers<typeof Content> {
  return {
    async info(request) {
      const digest = parseDigest(request.digest);
      const info = await content.info(digest);
      if (info === undefined) throw new BuildError('not-found', `content ${digest}: not found`);
      return create(InfoResponseSchema, { info: infoMessage(info) });
    },
    async *list() {
      let page: Info[] = [];
      for await (const info of content.list()) {
        page.push(infoMessage(info));
        if (page.length < LIST_PAGE) continue;
        yield create(ListContentResponseSchema, { info: page });
        page = [];
      }
      yield create(ListContentResponseSchema, { info: page });
    },
    async *read(request) {
      let offset = request.offset;
      for await (const data of content.read(parseDigest(request.digest), {
        offset: Number(request.offset),
        length: Number(request.size),
      })) {
        yield create(ReadContentResponseSchema, { offset, data });
        offset += BigInt(data.byteLength);
      }
    },
  };
}

function infoMessage({ digest, sizeBytes, createdAtNs }: BlobInfo): Info {
  const at = timestampOf(createdAtNs);
  return create(InfoSchema, { digest, size: BigInt(sizeBytes), createdAt: at, updatedAt: at });
}
