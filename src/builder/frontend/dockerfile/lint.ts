/**
 * Build checks: what is allowed but unwise (https://docs.docker.com/reference/build-checks/). Which checks run is decided by
 * `# check=skip=A,B;error=true` or the build argument BUILDKIT_DOCKERFILE_CHECK, per instruction by a comment above it.
 */
import type { BuildError, SourceRange } from '../../../core/errors.ts';
import { DirectiveReader } from './directives.ts';
import { invalid } from './errors.ts';
import { goQuote, parseBool, trimSpace } from './go-text.ts';

interface Rule {
  readonly description: string;
  /** Last part of the address of the page that explains the rule; absent when there is none. */
  readonly page?: string;
  /** Runs only when asked for. */
  readonly experimental?: true;
}

export const LINT_RULES = {
  StageNameCasing: { description: 'Stage names should be lowercase', page: 'stage-name-casing' },
  FromAsCasing: { description: "The 'as' keyword should match the case of the 'from' keyword", page: 'from-as-casing' },
  NoEmptyContinuation: {
    description: 'Empty continuation lines will become errors in a future release',
    page: 'no-empty-continuation',
  },
  ConsistentInstructionCasing: {
    description: 'All commands within the Dockerfile should use the same casing (either upper or lower)',
    page: 'consistent-instruction-casing',
  },
  DuplicateStageName: { description: 'Stage names should be unique', page: 'duplicate-stage-name' },
  ReservedStageName: { description: 'Reserved words should not be used as stage names', page: 'reserved-stage-name' },
  JSONArgsRecommended: {
    description: 'JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals',
    page: 'json-args-recommended',
  },
  MaintainerDeprecated: {
    description: 'The MAINTAINER instruction is deprecated, use a label instead to define an image author',
    page: 'maintainer-deprecated',
  },
  UndefinedArgInFrom: { description: 'FROM command must use declared ARGs', page: 'undefined-arg-in-from' },
  WorkdirRelativePath: {
    description:
      'Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes',
    page: 'workdir-relative-path',
  },
  UndefinedVar: { description: 'Variables should be defined before their use', page: 'undefined-var' },
  MultipleInstructionsDisallowed: {
    description: 'Multiple instructions of the same type should not be used in the same stage',
    page: 'multiple-instructions-disallowed',
  },
  LegacyKeyValueFormat: {
    description: 'Legacy key/value format with whitespace separator should not be used',
    page: 'legacy-key-value-format',
  },
  InvalidBaseImagePlatform: { description: 'Base image platform does not match expected target platform' },
  RedundantTargetPlatform: {
    description: 'Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior',
    page: 'redundant-target-platform',
  },
  SecretsUsedInArgOrEnv: {
    description: 'Sensitive data should not be used in the ARG or ENV commands',
    page: 'secrets-used-in-arg-or-env',
  },
  InvalidDefaultArgInFrom: {
    description: 'Default value for global ARG results in an empty or invalid base image name',
    page: 'invalid-default-arg-in-from',
  },
  FromPlatformFlagConstDisallowed: {
    description: 'FROM --platform flag should not use a constant value',
    page: 'from-platform-flag-const-disallowed',
  },
  CopyIgnoredFile: { description: 'Attempting to Copy file that is excluded by .dockerignore', page: 'copy-ignored-file' },
  InvalidDefinitionDescription: {
    description:
      'Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.',
    page: 'invalid-definition-description',
    experimental: true,
  },
  ExposeProtoCasing: { description: 'Protocol in EXPOSE instruction should be lowercase', page: 'expose-proto-casing' },
  ExposeInvalidFormat: {
    description:
      'IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release',
    page: 'expose-invalid-format',
  },
} as const satisfies Record<string, Rule>;
export type LintRule = keyof typeof LINT_RULES;

export interface LintWarning {
  readonly rule: LintRule;
  readonly description: string;
  readonly url: string;
  readonly message: string;
  readonly ranges: readonly SourceRange[];
}

export interface LintConfig {
  readonly skip: ReadonlySet<string> | 'all';
  readonly experimental: ReadonlySet<string> | 'all';
  /** Any warning fails the build. */
  readonly error: boolean;
}

const NO_LINT_CONFIG: LintConfig = { skip: new Set(), experimental: new Set(), error: false };

/** `skip=A,B;error=true;experimental=all`. @throws BuildError `invalid-input`. */
export function parseLintConfig(text: string): LintConfig {
  let config = NO_LINT_CONFIG;
  if (trimSpace(text) === '') return config;
  for (const part of trimSpace(text).split(';')) {
    const equals = part.indexOf('=');
    if (equals === -1) throw invalid(`invalid check option ${goQuote(part)}`);
    const key = trimSpace(part.slice(0, equals));
    const value = trimSpace(part.slice(equals + 1));
    if (key === 'skip' || key === 'experimental') {
      config = { ...config, [key]: value === 'all' ? 'all' : new Set(value.split(',').map(trimSpace)) };
    } else if (key === 'error') {
      const error = parseBool(value);
      if (error === undefined) throw invalid(`failed to parse check option ${goQuote(part)}: invalid syntax`);
      config = { ...config, error };
    } else throw invalid(`invalid check option ${goQuote(key)}`);
  }
  return config;
}

/** Hands on the warnings of rules that are not switched off. */
export class Linter {
  readonly #config: LintConfig;
  readonly #warn: (warning: LintWarning) => void;
  readonly #found: Set<LintRule>;

  constructor(config: LintConfig, warn: (warning: LintWarning) => void, found = new Set<LintRule>()) {
    this.#config = config;
    this.#warn = warn;
    this.#found = found;
  }

  static readonly silent = new Linter(NO_LINT_CONFIG, () => {});

  run(rule: LintRule, ranges: readonly SourceRange[], message: string): void {
    const { description, page, experimental }: Rule = LINT_RULES[rule];
    const { skip, experimental: wanted } = this.#config;
    if (experimental === true ? wanted !== 'all' && !wanted.has(rule) : skip === 'all' || skip.has(rule)) return;
    this.#found.add(rule);
    const url = page === undefined ? '' : `https://docs.docker.com/go/dockerfile/rule/${page}/`;
    this.#warn({ rule, description, url, message, ranges });
  }

  /** The linter of one instruction: a `check=` comment above it adds to what is skipped. */
  withComments(comments: readonly string[]): Linter {
    for (const comment of comments) {
      const directive = findCheck(comment);
      if (directive === undefined) continue;
      try {
        const own = parseLintConfig(directive.split(' ')[0] ?? '');
        const merged: LintConfig = {
          ...this.#config,
          skip: union(this.#config.skip, own.skip),
          experimental: union(this.#config.experimental, own.experimental),
        };
        return new Linter(merged, this.#warn, this.#found);
      } catch {
        return this; // a comment that only looks like one
      }
    }
    return this;
  }

  /** The error that `error=true` makes of the warnings so far. */
  failure(): BuildError | undefined {
    if (!this.#config.error || this.#found.size === 0) return undefined;
    return invalid(`lint violation found for rules: ${[...this.#found].join(', ')}`);
  }
}

function findCheck(comment: string): string | undefined {
  const directive = new DirectiveReader({ comment: '' }).read(comment);
  return directive?.name === 'check' ? directive.value : undefined;
}

function union(a: ReadonlySet<string> | 'all', b: ReadonlySet<string> | 'all'): ReadonlySet<string> | 'all' {
  return a === 'all' || b === 'all' ? 'all' : new Set([...a, ...b]);
}
