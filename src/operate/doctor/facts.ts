/** What the checks are given: where things are and how to ask the daemon. The command line fills it in from flags and configuration. */

export type Address =
  | { readonly type: 'unix'; readonly path: string }
  | { readonly type: 'tcp'; readonly host: string; readonly port: number };
export interface RegistryFacts {
  readonly host: string;
  readonly http: boolean;
  readonly insecure: boolean;
  readonly mirrors: readonly string[];
  /** Named in the configuration; else asked because everybody uses it. */
  readonly configured: boolean;
}
export interface ConfigurationFacts {
  /** Undefined: there is none, defaults count. */
  readonly file: string | undefined;
  /** What would stop the start. */
  readonly error?: string;
  readonly warnings: readonly string[];
}
/** What the configuration says, defaults filled in. */
export interface SettingFacts {
  readonly addresses: readonly Address[];
  readonly ops: { readonly host: string; readonly port: number } | undefined;
  readonly tls: { readonly cert: string; readonly key: string; readonly ca: string } | undefined;
  readonly registries: readonly RegistryFacts[];
  /** Remote caches of builds that name none: `redis` with its address, `filesystem` with its folder. */
  readonly caches: readonly { readonly type: string; readonly at: string }[];
  readonly collector: string | undefined;
  /** `auto`, a name or a path. */
  readonly runtime: string;
  readonly snapshotter: string;
  readonly auditDir: string | undefined;
}
export interface CheckedStore {
  readonly looked: string;
  readonly findings: readonly { readonly kind: string; readonly subject: string; readonly detail: string }[];
}

export interface DoctorFacts {
  readonly version: string;
  readonly root: string;
  readonly uid: number;
  /** Of whoever runs the doctor: what clients started from here would use. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  readonly configuration: ConfigurationFacts;
  /** Undefined when the configuration cannot be read. */
  readonly settings: SettingFacts | undefined;
  /** Process id of the daemon that holds the state folder. */
  readonly daemonPid: number | undefined;
  /** False: it is meant to be stopped, so that it is none of the findings. */
  readonly expectRunning: boolean;
  /** False: nothing outside this machine is asked. */
  readonly askNetwork: boolean;
  /** Where the kernel shows itself; tests put folders of their own there. */
  readonly host: { readonly proc: string; readonly sys: string; readonly etc: string };
  /** GET on the ops server; rejects when nobody answers. */
  readonly ask: (path: string) => Promise<{ readonly status: number; readonly body: string }>;
  /** One call of the build API at an address a client would use; rejects with what went wrong. */
  readonly callBuildApi: (address: string) => Promise<void>;
  /** Compares every blob and record; undefined: not asked for. */
  readonly checkStore?: () => Promise<CheckedStore>;
}
