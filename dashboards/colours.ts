/**
 * One meaning, one colour, on every board. Red is only ever a fault of ours or something to act on now; what the user's input caused is
 * blue; what spends budget slowly is orange.
 */
export type Colour =
  | 'green'
  | 'semi-dark-green'
  | 'light-green'
  | 'yellow'
  | 'orange'
  | 'red'
  | 'dark-red'
  | 'purple'
  | 'blue'
  | 'text';

/** By label of a series, then by its value. */
export const COLOURS: Readonly<Record<string, Readonly<Record<string, Colour>>>> = {
  result: {
    success: 'green',
    ok: 'green',
    same: 'green',
    built: 'green',
    failure: 'blue',
    error: 'red',
    failed: 'red',
    different: 'red',
    corrupt: 'red',
    timeout: 'orange',
    denied: 'purple',
    cancellation: 'text',
    skipped: 'text',
  },
  cache: {
    hit_memory: 'green',
    hit_local: 'semi-dark-green',
    hit_remote: 'light-green',
    hit_implied: 'blue',
    miss: 'yellow',
    not_cacheable: 'text',
  },
  code_class: { '2xx': 'green', '3xx': 'blue', '4xx': 'yellow', '429': 'orange', '5xx': 'red', network: 'purple' },
  severity: { critical: 'red', warning: 'orange', info: 'blue' },
};
/** Results of lookups are said with the words of the cache. */
const WORDS: Readonly<Record<string, Readonly<Record<string, Colour>>>> = {
  ...COLOURS,
  result: { ...COLOURS.result, ...COLOURS.cache },
};

/** The states of an objective: 0 is well, the higher the worse, so that the worst of several daemons is their maximum. */
export const SLO_STATE_SCALE = [
  { state: 'ok', color: 'green' },
  { state: 'idle', color: 'text' },
  { state: 'unknown', color: 'purple' },
  { state: 'burning-ticket', color: 'orange' },
  { state: 'exhausted', color: 'dark-red' },
  { state: 'burning-page', color: 'red' },
] as const;

/** Grafana field overrides for a panel with these legends: the series of a word gets the colour of the word. */
export function colourOverrides(legends: readonly string[]): object[] {
  return Object.entries(WORDS)
    .filter(([label]) => legends.some((legend) => legend.includes(`{{${label}}}`)))
    .flatMap(([, words]) => Object.entries(words))
    .map(([word, color]) => ({
      matcher: { id: 'byRegexp', options: `/(^|\\W)${word}(\\W|$)/` },
      properties: [{ id: 'color', value: { mode: 'fixed', fixedColor: color } }],
    }));
}
