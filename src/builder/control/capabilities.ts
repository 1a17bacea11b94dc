/**
 * What this daemon tells clients it can do (buildkit-wire.md section 2.6). The rule: only what is implemented. Clients check the
 * capabilities a graph needs before they send it, and degrade or stop with a clear message when one is missing.
 */
import { create } from '@bufbuild/protobuf';
import { type APICap, APICapSchema } from '../proto/gen/moby/buildkit/v1/apicaps/caps_pb.ts';

const FRONTEND = [
  'frontend.inputs',
  'gateway.evaluate',
  'gateway.solve.evaluate',
  'gateway.solve.metadata',
  'gateway.warnings',
  'importcaches',
  'proto.refarray',
  'readdir',
  'readfile',
  'reference.output',
  'resolveimage',
  'resolveimage.resolvemode',
  'return',
  'returnmap',
  'solve.base',
  'solve.inlinereturn',
  'source.metaresolver',
  'statfile',
];

const LLB = [
  'constraints',
  'exec.cgroup',
  'exec.meta.base',
  'exec.meta.cgroup.parent',
  'exec.meta.linux.resources',
  'exec.meta.network',
  'exec.meta.proxyenv',
  'exec.meta.security',
  'exec.meta.setsdefaultpath',
  'exec.meta.ulimit',
  'exec.mount.bind',
  'exec.mount.bind.readwrite-nooutput',
  'exec.mount.cache',
  'exec.mount.cache.content',
  'exec.mount.cache.sharing',
  'exec.mount.secret',
  'exec.mount.selector',
  'exec.mount.ssh',
  'exec.mount.tmpfs',
  'exec.mount.tmpfs.size',
  'exec.secretenv',
  'exec.validexitcode',
  'exporter.image.annotations',
  'exporter.multiple',
  'exporter.sourcedateepoch',
  'file.base',
  'file.copy.alwaysreplaceexistingdestpaths',
  'file.copy.includeexcludepatterns',
  'file.copy.requiredpaths',
  'file.rm.nofollowsymlink',
  'file.rm.wildcard',
  'file.symlink.create',
  'gc.freespacefilter',
  'history.filter',
  'meta.description',
  'meta.exportcache',
  'meta.ignorecache',
  'platform',
  'soruce.http.uidgid', // the real daemon spells it so
  'source.git',
  'source.git.checksum',
  'source.git.fetchbycommit',
  'source.git.fullurl',
  'source.git.httpauth',
  'source.git.keepgitdir',
  'source.git.mtime',
  'source.git.skipsubmodules',
  'source.git.subdir',
  'source.http',
  'source.http.auth',
  'source.http.checksum',
  'source.http.header',
  'source.http.perm',
  'source.image',
  'source.image.checksum',
  'source.image.resolvemode',
  'source.local',
  'source.local.differ',
  'source.local.excludepatterns',
  'source.local.followpaths',
  'source.local.includepatterns',
  'source.local.sessionid',
  'source.local.sharedkeyhint',
  'source.local.unique',
  'source.ocilayout',
];

const enabled = (ids: readonly string[]): APICap[] => [...ids].sort().map((ID) => create(APICapSchema, { ID, Enabled: true }));

/** FrontendAPICaps of a Pong. */
export const frontendCapabilities = (): APICap[] => enabled(FRONTEND);
/** LLBCaps of a Pong. */
export const llbCapabilities = (): APICap[] => enabled(LLB);
