/**
 * Which of an index's images runs on a platform, and which runs best: `linux/arm64` also takes `linux/arm/v7`, `linux/amd64/v3` takes
 * v2, v1 and 386. Order of preference as in https://github.com/containerd/platforms, `Only`.
 */
import type { Descriptor } from '../content/ports.ts';
import { normalizePlatform, type Platform } from '../llb/platform.ts';

/** Minor versions of ARMv8 that an ARMv9 version includes: v9.x has all of v8.(x+5). */
const V8_OF_V9 = 5;
const MAX_V8_MINOR = 9;

/** The descriptors that `wanted` can run, best first. Those without a platform come last: only their config would tell. */
export function matchingManifests(manifests: readonly Descriptor[], wanted: Platform): readonly Descriptor[] {
  const accepted = compatiblePlatforms(normalizePlatform(wanted));
  const ranked = manifests.flatMap((descriptor) => {
    if (descriptor.platform === undefined) return [{ descriptor, rank: accepted.length, features: 0 }];
    const offered = platformOfDescriptor(descriptor.platform);
    const rank = accepted.findIndex((platform) => runsOn(offered, platform));
    return rank === -1 ? [] : [{ descriptor, rank, features: offered.osFeatures.length }];
  });
  return ranked.sort((a, b) => a.rank - b.rank || b.features - a.features).map(({ descriptor }) => descriptor);
}

/** An OCI platform in our words. */
export function platformOfDescriptor(platform: NonNullable<Descriptor['platform']>): Platform {
  return normalizePlatform({
    os: platform.os,
    architecture: platform.architecture,
    variant: platform.variant ?? '',
    osVersion: platform['os.version'] ?? '',
    osFeatures: platform['os.features'] ?? [],
  });
}

function runsOn(offered: Platform, accepted: Platform): boolean {
  return (
    offered.os === accepted.os &&
    offered.architecture === accepted.architecture &&
    offered.variant === normalizePlatform(accepted).variant &&
    (offered.os !== 'windows' || accepted.osVersion === '' || offered.osVersion === '' || sameBuild(offered, accepted)) &&
    offered.osFeatures.every((feature) => accepted.osFeatures.includes(feature))
  );
}

/** Windows containers need the host's build number: the first three parts of the version. */
const sameBuild = (a: Platform, b: Platform): boolean =>
  a.osVersion.split('.').slice(0, 3).join('.') === b.osVersion.split('.').slice(0, 3).join('.');

/** `platform` and what it can run besides, best first. */
function compatiblePlatforms(platform: Platform): readonly Platform[] {
  const variants = (architecture: string, names: readonly string[]): Platform[] =>
    names.map((variant) => ({ ...platform, architecture, variant }));
  switch (platform.architecture) {
    case 'amd64': {
      const level = Number(platform.variant.slice(1) || '1');
      return [platform, ...variants('amd64', downFrom(level - 1, 1)), ...variants('386', [''])];
    }
    case 'arm':
      return [platform, ...variants('arm', downFrom(Number(platform.variant.slice(1)) - 1, 5))];
    case 'arm64':
      return [...variants('arm64', arm64Variants(platform.variant)), ...variants('arm', downFrom(8, 5))];
    default:
      return [platform];
  }
}

/** `v3`, `v2`, `v1` for 3 and 1. */
function downFrom(highest: number, lowest: number): string[] {
  const names: string[] = [];
  for (let version = highest; version >= lowest; version -= 1) names.push(`v${version}`);
  return names;
}

function arm64Variants(variant: string): string[] {
  const [, major = '8', minorText = '0'] = /^v(8|9)(?:\.(\d+))?$/.exec(variant) ?? [];
  const minor = Number(minorText);
  const ladder = (name: string, highest: number): string[] =>
    Array.from({ length: highest + 1 }, (_, down) => (highest === down ? name : `${name}.${highest - down}`));
  if (major === '8') return ladder('v8', minor);
  return [...ladder('v9', minor), ...ladder('v8', Math.min(MAX_V8_MINOR, minor + V8_OF_V9))];
}
