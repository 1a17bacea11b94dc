import type { OverlaySpec } from './ports.ts';

/** The options of mount(2) for an overlay; `:`, `,` and `\` in a path are escapedd as overlayfs wants it. */
export function overlayOptions(spec: OverlaySpec): string {
  const escaped = (path: string): string => path.replace(/[\\:,]/g, '\\$&');
  return [
    ...(spec.options ?? []),
    `lowerdir=${spec.lowers.map(escaped).join(':')}`,
    ...(spec.upper === undefined ? [] : [`upperdir=${escaped(spec.upper)}`]),
    ...(spec.work === undefined ? [] : [`workdir=${escaped(spec.work)}`]),
  ].join(',');
}
