/**
 * Platforms as images name them: `linux/arm64`, `linux/arm/v7`, `windows(10.0.17763)/amd64`. Parsed, normalised and printed as
 * containerd does it (https://github.com/containerd/platforms, version 1), because the printed form is a key of results on the wire.
 */
import { create } from '@bufbuild/protobuf';
import { BuildError } from '../../core/errors.ts';
import { type Platform as PbPlatform, PlatformSchema } from '../proto/gen/pb/ops_pb.ts';

/** OCI image-spec v1.1, image-index.md, `platform`. Absent parts are empty. */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant: string;
  readonly osVersion: string;
  readonly osFeatures: readonly string[];
}

const COMPONENT = /^[A-Za-z0-9_.-]+$/;
const OS_COMPONENT = /^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?$/;
const KNOWN_OS = new Set(
  'aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris windows zos'.split(' '),
);
const KNOWN_ARCH = new Set(
  (
    '386 amd64 amd64p32 arm armbe arm64 arm64be ppc64 ppc64le loong64 mips mipsle mips64 mips64le mips64p32 mips64p32le ppc ' +
    'riscv riscv64 s390 s390x sparc sparc64 wasm'
  ).split(' '),
);

/**
 * `<os>[(<version>[+<feature>]...)]/<arch>[/<variant>]`, or one part alone; what is missing is taken from `host`.
 * @throws BuildError `invalid-input`.
 */
export function parsePlatform(text: string, host: Platform): Platform {
  if (text.includes('*')) throw invalid(`"${text}": wildcards not yet supported`);
  const [osPart = '', archPart, variantPart, ...more] = text.split('/');
  const match = OS_COMPONENT.exec(osPart);
  if (match === null)
    throw invalid(`"${osPart}" is an invalid OS component of "${text}": it must match "${OS_COMPONENT.source}"`);
  for (const part of [archPart, variantPart, ...more]) {
    if (part !== undefined && !COMPONENT.test(part)) {
      throw invalid(`"${part}" is an invalid component of "${text}": it must match "${COMPONENT.source}"`);
    }
  }
  const os = normalizeOs(match[1] ?? '', host);
  const osVersion = decodeOption(match[2] ?? '', text);
  const osFeatures = (match[3] ?? '')
    .split('+')
    .slice(1)
    .map((feature) => decodeOption(feature, text));
  if (archPart === undefined) return completed(text, { os, osVersion, osFeatures }, host);
  if (more.length > 0) throw invalid(`"${text}": cannot parse platform specifier`);
  const [architecture, variant] = normalizeArch(archPart, variantPart ?? '');
  return { os, osVersion, osFeatures, architecture, variant: impliedVariant(architecture, variant, variantPart === undefined) };
}

/** Equal platforms get equal spellings: `x86_64` is `amd64`, `arm` is `arm/v7`, `arm64/v8` is `arm64`. */
export function normalizePlatform(platform: Platform, host: Platform = platform): Platform {
  const [architecture, variant] = normalizeArch(platform.architecture, platform.variant);
  const osFeatures = [...new Set(platform.osFeatures)].sort();
  return { os: normalizeOs(platform.os, host), architecture, variant, osVersion: platform.osVersion, osFeatures };
}

/** `linux/arm/v7`; the OS version is left out. */
export function formatPlatform({ os, architecture, variant }: Platform): string {
  return os === '' ? 'unknown' : [os, architecture, variant].filter(Boolean).join('/');
}

/** The platform id of results: `formatPlatform` with OS version and features in parentheses. */
export function platformId(platform: Platform): string {
  const { os, osVersion, osFeatures } = platform;
  if (os === '' || (osVersion === '' && osFeatures.length === 0)) return formatPlatform(platform);
  const options = [encodeOption(osVersion), ...osFeatures.map(encodeOption)].join('+');
  return formatPlatform({ ...platform, os: `${os}(${options})` });
}

export function platformFromPb(pb: PbPlatform): Platform {
  return {
    os: pb.OS,
    architecture: pb.Architecture,
    variant: pb.Variant,
    osVersion: pb.OSVersion,
    osFeatures: pb.OSFeatures,
  };
}

export function platformToPb(platform: Platform): PbPlatform {
  return create(PlatformSchema, {
    OS: platform.os,
    Architecture: platform.architecture,
    Variant: platform.variant,
    OSVersion: platform.osVersion,
    OSFeatures: [...platform.osFeatures],
  });
}

/** A single part is an operating system if one is known by that name, else an architecture. */
function completed(text: string, given: Pick<Platform, 'os' | 'osVersion' | 'osFeatures'>, host: Platform): Platform {
  if (KNOWN_OS.has(given.os)) return { ...given, architecture: host.architecture, variant: host.variant };
  const [architecture, variant] = normalizeArch(text, '');
  if (!KNOWN_ARCH.has(architecture)) throw invalid(`"${text}": unknown operating system or architecture`);
  return { ...given, os: host.os, architecture, variant: impliedVariant(architecture, variant, true) };
}

/** `arm` alone means v7 and `arm64/v8` spelt out keeps its variant until normalised. */
function impliedVariant(architecture: string, variant: string, unspelt: boolean): string {
  if (unspelt && architecture === 'arm' && variant === 'v7') return '';
  if (!unspelt && architecture === 'arm64' && variant === '') return 'v8';
  return variant;
}

function normalizeOs(os: string, host: Platform): string {
  if (os === '') return host.os;
  const lower = os.toLowerCase();
  return lower === 'macos' ? 'darwin' : lower;
}

const ARM_VARIANTS: Readonly<Record<string, string>> = { '': 'v7', '7': 'v7', '5': 'v5', '6': 'v6', '8': 'v8' };
const ARM64_VARIANTS: Readonly<Record<string, string>> = { '8': '', v8: '', 'v8.0': '', '9': 'v9', '9.0': 'v9', 'v9.0': 'v9' };

function normalizeArch(archText: string, variantText: string): readonly [architecture: string, variant: string] {
  const arch = archText.toLowerCase();
  const variant = variantText.toLowerCase();
  switch (arch) {
    case 'i386':
      return ['386', ''];
    case 'x86_64':
    case 'x86-64':
    case 'amd64':
      return ['amd64', variant === 'v1' ? '' : variant];
    case 'aarch64':
    case 'arm64':
      return ['arm64', ARM64_VARIANTS[variant] ?? variant];
    case 'armhf':
      return ['arm', 'v7'];
    case 'armel':
      return ['arm', 'v6'];
    case 'arm':
      return ['arm', ARM_VARIANTS[variant] ?? variant];
    default:
      return [arch, variant];
  }
}

const encodeOption = (text: string): string =>
  text.replace(/[^A-Za-z0-9_.-]/g, (character) =>
    encodeURIComponent(character).replace(/[()]/g, (c) => `%${c.charCodeAt(0).toString(16)}`),
  );

function decodeOption(text: string, specifier: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw new BuildError('invalid-input', `"${specifier}" has an invalid OS version "${text}"`, {}, { cause });
  }
}

const invalid = (message: string): BuildError => new BuildError('invalid-input', `${message}: invalid argument`);
