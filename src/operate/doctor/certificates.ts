/** The files of `grpc.tls`: there, readable, belonging together, and valid for a while. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { DoctorFacts } from './facts.ts';
import { error, type Finding, ok, warning } from './finding.ts';

const DAY_MS = 86_400_000;
const SOON_DAYS = 14; // the alert CooperCertificateExpiring begins there

export function checkCertificates({ settings }: DoctorFacts): Finding[] {
  const tls = settings?.tls;
  if (tls === undefined) return [];
  const findings = [validity('grpc.tls.cert', tls.cert), validity('grpc.tls.ca', tls.ca)];
  try {
    const matches = new X509Certificate(readFileSync(tls.cert)).checkPrivateKey(createPrivateKey(readFileSync(tls.key)));
    findings.push(
      matches
        ? ok('tls.key', 'Key and certificate belong together.', tls.key)
        : error(
            'tls.key',
            'The key is not that of the certificate: no client can connect over TLS.',
            `${tls.key} and ${tls.cert}`,
            {
              fix: 'put the pair that was issued together into grpc.tls.cert and grpc.tls.key',
            },
          ),
    );
  } catch (thrown) {
    findings.push(
      error('tls.key', 'The key cannot be read.', `${tls.key}: ${(thrown as Error).message}`, {
        fix: 'a PEM key without a passphrase, readable for the daemon',
      }),
    );
  }
  return findings;
}

function validity(setting: string, file: string): Finding {
  const id = 'tls.certificate';
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(readFileSync(file));
  } catch (thrown) {
    return error(id, `The certificate of ${setting} cannot be read.`, `${file}: ${(thrown as Error).message}`, {
      fix: 'a PEM certificate, readable for the daemon',
    });
  }
  const leftMs = Date.parse(certificate.validTo) - Date.now();
  const seen = `${file} is valid from ${certificate.validFrom} to ${certificate.validTo}`;
  const fix = 'renew it the way it was made, then restart the daemon';
  if (Date.parse(certificate.validFrom) > Date.now())
    return error(id, `The certificate of ${setting} is not valid yet.`, seen, { fix: 'look at the clock, or wait' });
  if (leftMs <= 0) return error(id, `The certificate of ${setting} has expired.`, seen, { fix });
  if (leftMs < SOON_DAYS * DAY_MS) return warning(id, `The certificate of ${setting} expires soon.`, seen, { fix });
  return ok(id, `The certificate of ${setting} is valid.`, seen);
}
