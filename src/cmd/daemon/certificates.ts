/** When the certificates of the build API expire, for the metric an operator is warned by. */
import { X509Certificate } from 'node:crypto';
import type { Recorders } from '../../telemetry/recorders.ts';
import type { DaemonConfig } from './daemon-config.ts';

/** Reports the first certificate of each file; a file that is none stops the listener with its own message, so it is passed over here. */
export function reportCertificates(tls: DaemonConfig['tls'], recorders: Pick<Recorders, 'certificate'>): void {
  if (tls === undefined) return;
  for (const [name, pem] of [
    ['grpc-server', tls.cert],
    ['grpc-client-ca', tls.clientCa],
  ] as const) {
    const expiresMs = notAfterMs(pem);
    if (expiresMs !== undefined) recorders.certificate(name, expiresMs / 1000);
  }
}

function notAfterMs(pem: Buffer): number | undefined {
  try {
    return Date.parse(new X509Certificate(pem).validTo);
  } catch {
    return undefined;
  }
}
