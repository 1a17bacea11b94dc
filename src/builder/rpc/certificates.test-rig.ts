/** A certificate authority with one server and one client certificate, made in memory: X.509 by hand, so tests need no openssl. */
import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';

export interface Certificates {
  /** PEM. */
  readonly ca: string;
  readonly server: { readonly cert: string; readonly key: string };
  readonly client: { readonly cert: string; readonly key: string };
}

/** The server is `localhost`, the client's common name is `clientName`; all are valid for `days` from now, or ended as long ago. */
export function issueCertificates(clientName: string, days = 1): Certificates {
  const ca = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const caName = `CA of ${clientName}`;
  const leaf = (subject: string): { cert: string; key: string } => {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    return {
      cert: certificate({ subject, issuer: caName, publicKey, signer: ca.privateKey, isCa: false, days }),
      key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    };
  };
  return {
    ca: certificate({ subject: caName, issuer: caName, publicKey: ca.publicKey, signer: ca.privateKey, isCa: true, days }),
    server: leaf('localhost'),
    client: leaf(clientName),
  };
}

interface Request {
  readonly subject: string;
  readonly issuer: string;
  readonly publicKey: KeyObject;
  readonly signer: KeyObject;
  readonly isCa: boolean;
  readonly days: number;
}

/** RFC 5280, section 4.1. */
function certificate({ subject, issuer, publicKey, signer, isCa, days }: Request): string {
  const algorithm = sequence(oid('1.2.840.10045.4.3.2')); // ecdsa-with-SHA256
  const extensions = [
    extension('2.5.29.19', sequence(...(isCa ? [der(0x01, Buffer.of(0xff))] : []))), // basicConstraints
    ...(isCa ? [] : [extension('2.5.29.17', sequence(der(0x82, Buffer.from(subject))))]), // subjectAltName, a DNS name
  ];
  const dayMs = 86_400_000;
  const body = sequence(
    der(0xa0, der(0x02, Buffer.of(2))), // version 3
    der(0x02, Buffer.concat([Buffer.of(1), randomBytes(8)])),
    algorithm,
    name(issuer),
    sequence(time(Date.now() - dayMs * 30), time(Date.now() + dayMs * days)),
    name(subject),
    createPublicKey(publicKey.export({ type: 'spki', format: 'pem' })).export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...extensions)),
  );
  const signature = sign('sha256', body, signer);
  const bytes = sequence(body, algorithm, der(0x03, Buffer.concat([Buffer.of(0), signature])));
  return `-----BEGIN CERTIFICATE-----\n${bytes.toString('base64').replace(/.{64}/g, '$&\n')}\n-----END CERTIFICATE-----\n`;
}

const extension = (id: string, value: Buffer): Buffer => sequence(oid(id), der(0x04, value));
const name = (text: string): Buffer => sequence(der(0x31, sequence(oid('2.5.4.3'), der(0x0c, Buffer.from(text)))));
const time = (ms: number): Buffer => der(0x17, Buffer.from(`${new Date(ms).toISOString().replace(/^..|[-T:]|\..*$/g, '')}Z`));
const sequence = (...parts: readonly Buffer[]): Buffer => der(0x30, Buffer.concat(parts));

function der(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const head = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.of(tag, ...head), content]);
}

function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const digits = [arc & 0x7f];
    for (let high = arc >> 7; high > 0; high >>= 7) digits.unshift((high & 0x7f) | 0x80);
    bytes.push(...digits);
  }
  return der(0x06, Buffer.from(bytes));
}
