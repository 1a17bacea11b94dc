/** Intake of client spans (OTLP over gRPC): every client command exports its own at the end. They join the trace of the build. */
import { create, toBinary } from '@bufbuild/protobuf';
import {
  ExportTraceServiceResponseSchema,
  type TraceService,
} from '../proto/gen/opentelemetry/proto/collector/trace/v1/trace_service_pb.ts';
import { type Handlers, raw } from '../rpc/handlers.ts';

/** `accept` takes the bytes of an `ExportTraceServiceRequest`; it returns at once and never throws. */
export function traceHandlers(accept: (request: Uint8Array) => void): Handlers<typeof TraceService> {
  return {
    export: raw(async (stream) => {
      for await (const request of stream) accept(request);
      await stream.send(toBinary(ExportTraceServiceResponseSchema, create(ExportTraceServiceResponseSchema)));
    }),
  };
}
