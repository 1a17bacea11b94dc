/** Addresses as `host:port`. */

/** Host and port of `host:port`; brackets of IPv6 go. */
export function splitAddress(address: string): [string, string] {
  const at = address.lastIndexOf(':');
  return [address.slice(0, at).replace(/^\[(.*)\]$/, '$1'), address.slice(at + 1)];
}
