/** `grpc.health.v1.Health` for external probes: SERVING until the daemon drains. */
import { create } from '@bufbuild/protobuf';
import { BuildError } from '../../core/errors.ts';
import {
  type Health,
  HealthCheckResponse_ServingStatus,
  HealthCheckResponseSchema,
} from '../proto/gen/grpc/health/v1/health_pb.ts';
import type { Handlers } from '../rpc/handlers.ts';

export interface Readiness {
  readonly serving: boolean;
  /** Aborts when the daemon begins to drain. */
  readonly draining: AbortSignal;
}

export function healthHandlers(readiness: Readiness, services: readonly string[]): Handlers<typeof Health> {
  const answer = (service: string) => {
    if (service !== '' && !services.includes(service)) throw new BuildError('not-found', `unknown service ${service}`);
    const status = readiness.serving ? HealthCheckResponse_ServingStatus.SERVING : HealthCheckResponse_ServingStatus.NOT_SERVING;
    return create(HealthCheckResponseSchema, { status });
  };
  return {
    async check(request) {
      return answer(request.service);
    },
    async *watch(request, context) {
      yield answer(request.service);
      const either = AbortSignal.any([context.signal, readiness.draining]);
      if (!either.aborted)
        await new Promise<void>((resolve) => either.addEventListener('abort', () => resolve(), { once: true }));
      if (!context.signal.aborted) yield answer(request.service);
    },
  };
}
