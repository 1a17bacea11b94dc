/** The words of RUN, and of the other instructions that hold a command line. */
import { invalid } from './errors.ts';
import { parseFlags } from './flags.ts';
import { csvFields, goQuote, parseBool } from './go-text.ts';
import type { CommandLine } from './instruction.ts';
import type { RawInstruction } from './lexer.ts';
import { mountSourceOf } from './mount-flag.ts';
import { didYouMean } from './suggest.ts';

export function commandLine(raw: RawInstruction, words: readonly string[]): CommandLine {
  return { args: words, isShell: raw.args.form !== 'json', heredocs: raw.heredocs };
}

/** @throws BuildError `invalid-input`. */
export function parseRun(raw: RawInstruction, words: readonly string[]) {
  const flags = parseFlags(raw.flags, { mount: 'strings', network: 'string', security: 'string', device: 'strings' });
  const mounts = flags.strings('mount');
  const network = flags.string('network', 'default');
  if (!['default', 'none', 'host'].includes(network)) throw invalid(`invalid network mode ${goQuote(network)}`);
  const security = flags.string('security', 'sandbox');
  if (!['insecure', 'sandbox'].includes(security)) throw invalid(`security ${goQuote(security)} is not valid`);
  return {
    ...commandLine(raw, words),
    mounts,
    mountSources: mounts.map(mountSourceOf),
    network,
    security,
    devices: flags.strings('device').map(parseDevice),
  };
}

/** `vendor/class=name[,required]`. */
function parseDevice(flag: string): { name: string; optional: boolean } {
  let name = '';
  let required = false;
  for (const field of csvFields(flag)) {
    const equals = field.indexOf('=');
    const key = (equals === -1 ? field : field.slice(0, equals)).toLowerCase();
    const value = equals === -1 ? undefined : field.slice(equals + 1);
    if (key === 'required') {
      const parsed = value === undefined ? true : parseBool(value);
      if (parsed === undefined) throw invalid(`invalid value for ${key}: ${value}`);
      required = parsed;
    } else if (key === 'name' && value !== undefined) {
      if (name !== '') throw invalid(`device name already set to ${name}`);
      name = value;
    } else if (name === '') name = field;
    else if (value === undefined) throw invalid(`invalid field '${field}' must be a key=value pair`);
    else throw invalid(`unexpected key '${key}' in '${field}'${didYouMean(key, ['name', 'required'])}`);
  }
  return { name, optional: !required };
}
