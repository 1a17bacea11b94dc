/** `annotation[-<where>][<[platform]>].<key>` attributes: what is annotated, for which platform, with what. */
import { BuildError } from '../../core/errors.ts';
import { parsePlatform, platformId } from '../llb/platform.ts';
import { HOST_PLATFORM } from './platforms.ts';

export interface AnnotationSet {
  readonly index: Readonly<Record<string, string>>;
  readonly indexDescriptor: Readonly<Record<string, string>>;
  readonly manifest: Readonly<Record<string, string>>;
  readonly manifestDescriptor: Readonly<Record<string, string>>;
}

export interface Annotations {
  /** Those of the index are the same for all platforms; those of a manifest are the general ones, then the platform's own. */
  of(platform: string | undefined): AnnotationSet;
  /** Platform ids that are named. */
  readonly platforms: readonly string[];
  readonly hasIndex: boolean;
  readonly onDescriptorsOrIndex: boolean;
}

type Place = keyof AnnotationSet;
interface Annotation {
  readonly place: Place;
  /** Empty: every platform. */
  readonly platform: string;
  readonly key: string;
  readonly value: string;
}

const KEY = /^annotation(?:-([a-z-]+))?(?:\[([A-Za-z0-9_/-]+)\])?\.(\S+)$/;
const PLACES: Readonly<Record<string, Place>> = {
  '': 'manifest',
  index: 'index',
  'index-descriptor': 'indexDescriptor',
  manifest: 'manifest',
  'manifest-descriptor': 'manifestDescriptor',
};

/** @throws BuildError `invalid-input` for an unknown place or platform. */
export function parseAnnotations(entries: ReadonlyMap<string, string>): Annotations {
  const list = [...entries].flatMap(([name, value]) => {
    const match = KEY.exec(name);
    return match === null ? [] : [annotationOf(match, value)];
  });
  return annotationsFrom(list);
}

/** Both together; where they disagree, `later` wins. */
export function mergeAnnotations(earlier: Annotations, later: Annotations): Annotations {
  return annotationsFrom([...(listOf.get(earlier) ?? []), ...(listOf.get(later) ?? [])]);
}

const listOf = new WeakMap<Annotations, readonly Annotation[]>();

function annotationsFrom(list: readonly Annotation[]): Annotations {
  const pick = (place: Place, platforms: readonly string[] | undefined): Record<string, string> =>
    Object.fromEntries(
      (platforms ?? [...new Set(list.map(({ platform }) => platform))]).flatMap((wanted) =>
        list
          .filter((annotation) => annotation.place === place && annotation.platform === wanted)
          .map(({ key, value }) => [key, value] as const),
      ),
    );
  const annotations: Annotations = {
    of(platform) {
      const platforms = platform === undefined ? [''] : ['', platform];
      return {
        index: pick('index', undefined),
        indexDescriptor: pick('indexDescriptor', undefined),
        manifest: pick('manifest', platforms),
        manifestDescriptor: pick('manifestDescriptor', platforms),
      };
    },
    platforms: [...new Set(list.map(({ platform }) => platform))].filter((platform) => platform !== ''),
    hasIndex: list.some(({ place }) => place === 'index' || place === 'indexDescriptor'),
    onDescriptorsOrIndex: list.some(({ place }) => place !== 'manifest'),
  };
  listOf.set(annotations, list);
  return annotations;
}

function annotationOf(match: RegExpExecArray, value: string): Annotation {
  const [, where = '', platform = '', key = ''] = match;
  const place = PLACES[where];
  if (place === undefined) throw new BuildError('invalid-input', `unrecognized annotation type ${where}`);
  return { place, platform: platform === '' ? '' : platformId(parsePlatform(platform, HOST_PLATFORM)), key, value };
}
