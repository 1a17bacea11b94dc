/** docs/cache-faults.md from the fault matrix that the end to end test runs. */
import { FAULT_CASES, type Phase } from '../../test/fixtures/cache-faults.ts';

const WHEN: Readonly<Record<Phase, string>> = {
  import: 'while the cache is read',
  fetch: 'between a hit and its blobs',
  export: 'while the cache is written',
};

export function cacheFaultsPage(): string {
  const rows = FAULT_CASES.map(({ name, phase, outcome }) => `| ${WHEN[phase]} | ${name} | succeeds | ${outcome} |`);
  return `# Faults of remote caches

Generated from \`test/fixtures/cache-faults.ts\` by \`npm run generate\`; \`test/e2e/remote-cache-faults.test.ts\` runs every row against every backend it knows,
through a proxy that breaks what passes. Builds failed: 0.

| when | the cache | the build | what happens |
|---|---|---|---|
${rows.join('\n')}

What was missing is a warning of the step that wanted it (\`built without cache registry example.com/app:cache: breaker open since ...\`), which clients show
and the build's record keeps, and \`cooper.cache.warnings\` in \`--metadata-file\`. A miss that a cache is to blame for has the reason \`backend-down\`. Only
\`ignore-error=false\`, written out, makes a failed export fail the build.
`;
}
