/** Port specifications of EXPOSE: `80`, `80/udp`, `8000-8010`, and the old `[ip:]host:container`. */
import { isIP } from 'node:net';
import type { SourceRange } from '../../../core/errors.ts';
import { invalid } from './errors.ts';
import { goQuote } from './go-text.ts';
import type { Linter } from './lint.ts';

/** `port/protocol` for every port a specification names. @throws BuildError `invalid-input`. */
export function parsePorts(specs: readonly string[], ranges: readonly SourceRange[], lint: Linter): string[] {
  return specs.flatMap((spec) => parsePort(spec, ranges, lint));
}

function parsePort(spec: string, ranges: readonly SourceRange[], lint: Linter): string[] {
  const { ip, hostPort, container } = splitSpec(spec);
  const [port = '', protocolText = ''] = splitProtocol(spec, container);
  const protocol = protocolText.toLowerCase();
  if (protocol !== protocolText) {
    lint.run('ExposeProtoCasing', ranges, `Defined protocol '${spec}' in EXPOSE instruction should be lowercase`);
  }
  if (ip !== '' || hostPort !== '') {
    const message = `EXPOSE instruction should not define an IP address or host-port mapping, found '${spec}'`;
    lint.run('ExposeInvalidFormat', ranges, message);
  }
  checkIp(ip);
  const range = portRange(port, `invalid containerPort: ${port}`);
  if (hostPort !== '') {
    const host = portRange(hostPort, `invalid hostPort: ${hostPort}`);
    if (host.end - host.start !== range.end - range.start && range.end !== range.start) {
      throw invalid(`invalid ranges specified for container and host Ports: ${port} and ${hostPort}`);
    }
  }
  return Array.from({ length: range.end - range.start + 1 }, (_, i) => `${range.start + i}/${protocol}`);
}

function splitSpec(spec: string): { ip: string; hostPort: string; container: string } {
  const parts = spec.split(':');
  return { ip: parts.slice(0, -2).join(':'), hostPort: parts.at(-2) ?? '', container: parts.at(-1) ?? '' };
}

function splitProtocol(spec: string, text: string): [port: string, protocol: string] {
  const slash = text.indexOf('/');
  const port = slash === -1 ? text : text.slice(0, slash);
  const protocol = slash === -1 ? '' : text.slice(slash + 1);
  if (port === '') throw invalid(`invalid port: ${goQuote(spec)}: no port specified`);
  if (!['', 'tcp', 'udp', 'sctp'].includes(protocol.toLowerCase())) {
    throw invalid(`invalid port: ${goQuote(spec)}: invalid proto: ${protocol}`);
  }
  return [port, protocol === '' ? 'tcp' : protocol];
}

function checkIp(ip: string): void {
  const address = /^\[(.*)\]$/.exec(ip)?.[1] ?? ip;
  if (address !== '' && isIP(address) === 0) throw invalid(`invalid IP address: ${address}`);
}

const MAX_PORT = 65_535;

function portRange(text: string, message: string): { start: number; end: number } {
  const dash = text.indexOf('-');
  const start = portNumber(dash === -1 ? text : text.slice(0, dash));
  const end = dash === -1 ? start : portNumber(text.slice(dash + 1));
  if (start === undefined || end === undefined || end < start) throw invalid(message);
  return { start, end };
}

function portNumber(text: string): number | undefined {
  const port = /^\+?\d+$/.test(text) ? Number(text) : Number.NaN;
  return port <= MAX_PORT ? port : undefined;
}
