/** Instructions with their meaning: flags read, sources told from destinations. Variables are still in place. */
import type { SourceRange } from '../../../core/errors.ts';
import type { Heredoc } from './heredoc.ts';
import type { Pair } from './words.ts';

export interface Common {
  /** The keyword as written. */
  readonly keyword: string;
  /** The whole instruction as written, lines joined. */
  readonly code: string;
  readonly ranges: readonly SourceRange[];
  readonly comments: readonly string[];
}

/** RUN, CMD, ENTRYPOINT: a command for the shell, or an argument list. */
export interface CommandLine {
  readonly args: readonly string[];
  readonly isShell: boolean;
  readonly heredocs: readonly Heredoc[];
}
export interface InlineFile {
  readonly name: string;
  readonly content: string;
  readonly expand: boolean;
}
/** COPY and ADD. */
export interface Transfer {
  readonly sources: readonly string[];
  readonly inlineFiles: readonly InlineFile[];
  readonly destination: string;
  readonly chown: string;
  readonly chmod: string;
  readonly link: boolean;
  readonly exclude: readonly string[];
}
export interface ArgDefinition {
  readonly name: string;
  readonly value: string | undefined;
  /** A comment above, `# name what it is for`. */
  readonly doc: string;
}
export interface Healthcheck {
  readonly test: readonly string[];
  readonly intervalNs: bigint;
  readonly timeoutNs: bigint;
  readonly startPeriodNs: bigint;
  readonly startIntervalNs: bigint;
  readonly retries: number;
}

export type Instruction = Common &
  (
    | (Transfer & {
        readonly kind: 'add';
        readonly keepGitDir: boolean | undefined;
        readonly checksum: string;
        readonly unpack: boolean | undefined;
      })
    | { readonly kind: 'arg'; readonly args: readonly ArgDefinition[] }
    | (CommandLine & { readonly kind: 'cmd' | 'entrypoint' })
    | (Transfer & { readonly kind: 'copy'; readonly from: string; readonly parents: boolean })
    | { readonly kind: 'env' | 'label'; readonly pairs: readonly Pair[] }
    | { readonly kind: 'expose'; readonly ports: readonly string[] }
    | { readonly kind: 'healthcheck'; readonly health: Healthcheck }
    | { readonly kind: 'maintainer'; readonly name: string }
    | { readonly kind: 'onbuild'; readonly expression: string }
    | (CommandLine & {
        readonly kind: 'run';
        readonly mounts: readonly string[];
        /** What each mount reads from: a stage, an image, or nothing. */
        readonly mountSources: readonly string[];
        readonly network: string;
        readonly security: string;
        readonly devices: readonly { readonly name: string; readonly optional: boolean }[];
      })
    | { readonly kind: 'shell'; readonly shell: readonly string[] }
    | { readonly kind: 'stopsignal'; readonly signal: string }
    | { readonly kind: 'user'; readonly user: string }
    | { readonly kind: 'volume'; readonly volumes: readonly string[] }
    | { readonly kind: 'workdir'; readonly path: string }
  );
export type InstructionOf<K extends Instruction['kind']> = Extract<Instruction, { readonly kind: K }>;

export interface Stage extends Common {
  /** Lower case; '' when the stage has none. */
  readonly name: string;
  readonly baseName: string;
  readonly platform: string;
  readonly doc: string;
  readonly instructions: readonly Instruction[];
}
