/** docs/configuration.md from the table of settings. */
import { SETTINGS, type Setting } from '../../src/cmd/config/settings.ts';

export function configurationPage(): string {
  const live = SETTINGS.filter(({ inForce }) => inForce);
  const later = SETTINGS.filter(({ inForce }) => !inForce);
  return `# Configuration

Generated from \`src/cmd/config/settings.ts\` by \`npm run generate\`.

The daemon reads \`/etc/cooper/cooperd.toml\`, else \`/etc/buildkit/buildkitd.toml\`, or the file \`--config\` names; environment variables override the file,
flags override both. A bad value stops the start with file and line. An unknown key is a warning that names the nearest real one.
\`cooper config check FILE\` says all of it without starting anything. \`*\` stands for a name, \`[]\` for an entry of an array of tables.
Sizes are bytes, \`"10GB"\` or \`"80%"\` of the disk; durations are seconds or \`"48h"\`.

## In force

| key | type | default | flag | environment | meaning |
|---|---|---|---|---|---|
${live.map(row).join('\n')}

## Known, not in force yet

These keys of buildkitd.toml, and of older guides, are accepted; the daemon warns that nothing reads them yet.

| key | type | instead | meaning |
|---|---|---|---|
${later.map(({ key, type, deprecatedBy, doc }) => `| \`${key}\` | ${type} | ${deprecatedBy === undefined ? '' : `\`${deprecatedBy}\``} | ${doc} |`).join('\n')}
`;
}

function row({ key, type, default: otherwise, flag, env, choices, deprecatedBy, doc }: Setting): string {
  const kind = choices === undefined ? type : choices.map((choice) => `\`${choice}\``).join(' ');
  const text = deprecatedBy === undefined ? doc : `${doc} Deprecated: use \`${deprecatedBy}\`.`;
  return `| \`${key}\` | ${kind} | ${otherwise ?? ''} | ${flag === undefined ? '' : `\`--${flag}\``} | ${env === undefined ? '' : `\`${env}\``} | ${text} |`;
}
