/** docs/errors.md from the error table. */
import { ERROR_KINDS, GRPC } from '../../src/core/errors.ts';

export function errorsPage(): string {
  const nameOf = (code: number): string => Object.entries(GRPC).find(([, value]) => value === code)?.[0] ?? String(code);
  const rows = Object.entries(ERROR_KINDS).map(
    ([kind, { grpc, exit, fault, retry, meaning }]) =>
      `| \`${kind}\` | ${nameOf(grpc)} | ${exit} | ${fault} | ${retry} | ${meaning} |`,
  );
  return `# Errors

Generated from \`src/core/errors.ts\` by \`npm run generate\`.

Every failure has one kind. It decides the exit status of \`cooper\`, whether trying again can help, and whose fault it was: only \`system\` faults burn
the error budget of build success. On the BuildKit API the status code is the one BuildKit sends for the same failure where the two differ.

| kind | gRPC | exit | fault | retry | meaning |
|---|---|---|---|---|---|
${rows.join('\n')}
`;
}
