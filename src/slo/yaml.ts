/** Writes plain data as YAML for people to read: block style, text of many lines or with quotes as literal blocks, keys in the order given. */

export type YamlValue = string | number | boolean | readonly YamlValue[] | { readonly [key: string]: YamlValue | undefined };

export function toYaml(value: YamlValue): string {
  return `${lines(value).join('\n')}\n`;
}

function lines(value: YamlValue): string[] {
  if (Array.isArray(value)) return (value as readonly YamlValue[]).flatMap(item);
  if (typeof value === 'object')
    return Object.entries(value as Record<string, YamlValue | undefined>).flatMap(([key, inner]) => entry(key, inner));
  return [scalar(value)];
}

/** A list item: its first line carries the dash, the others are indented below it. */
function item(value: YamlValue): string[] {
  const [first = '{}', ...rest] = isEmpty(value) ? [Array.isArray(value) ? '[]' : '{}'] : lines(value);
  return [`- ${first}`, ...rest.map((line) => `  ${line}`)];
}

function entry(key: string, value: YamlValue | undefined): string[] {
  if (value === undefined) return [];
  const name = scalar(key);
  if (typeof value === 'string' && /[\n"\\]/.test(value)) {
    return [`${name}: |-`, ...value.split('\n').map((line) => (line === '' ? '' : `  ${line}`))];
  }
  if (typeof value !== 'object') return [`${name}: ${scalar(value)}`];
  if (isEmpty(value)) return [`${name}: ${Array.isArray(value) ? '[]' : '{}'}`];
  return [`${name}:`, ...lines(value).map((line) => `  ${line}`)];
}

const isEmpty = (value: YamlValue): boolean => typeof value === 'object' && Object.keys(value).length === 0;

/** Text that YAML could read as something else is quoted as JSON, which YAML 1.2 contains. */
function scalar(value: string | number | boolean): string {
  if (typeof value !== 'string') return String(value);
  const plain =
    /^(?:[A-Za-z_./][\w./ +-]*(?::[\w./+-]+)*|\d+[smhdw])$/.test(value) &&
    !/^(true|false|null|yes|no|on|off|y|n)$/i.test(value) &&
    !value.endsWith(' ');
  return plain ? value : JSON.stringify(value);
}
