/** The /etc/resolv.conf and /etc/hosts that steps see. They are bound over the root file system, so they never enter a layer. */

export interface DnsConfig {
  readonly nameservers: readonly string[];
  readonly options: readonly string[];
  readonly searchDomains: readonly string[];
}

export const DEFAULT_HOSTNAME = 'buildkitsandbox';

export function hostsFile(hostname: string, extraHosts: readonly { readonly host: string; readonly ip: string }[]): string {
  const base = `127.0.0.1\tlocalhost ${hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n`;
  return base + extraHosts.map(({ host, ip }) => `${ip}\t${host}\n`).join('');
}

/** The host's own file, with what the configuration overrides. */
export function resolvConf(host: string, dns: DnsConfig | undefined): string {
  if (dns === undefined) return host;
  const lines = host.split('\n').filter((line) => line.trim() !== '');
  const keep = (keyword: string, override: readonly string[]): string[] =>
    override.length === 0 ? lines.filter((line) => line.trimStart().startsWith(`${keyword} `)) : [];
  const out = [
    ...dns.nameservers.map((address) => `nameserver ${address}`),
    ...keep('nameserver', dns.nameservers),
    ...(dns.searchDomains.length === 0 ? [] : [`search ${dns.searchDomains.join(' ')}`]),
    ...keep('search', dns.searchDomains),
    ...keep('domain', dns.searchDomains),
    ...(dns.options.length === 0 ? [] : [`options ${dns.options.join(' ')}`]),
    ...keep('options', dns.options),
  ];
  return out.map((line) => `${line}\n`).join('');
}
