/** Signal names STOPSIGNAL accepts: Linux's own, with or without SIG, and the real-time range. */
import { invalid } from './errors.ts';

const NAMES = new Set(
  (
    'ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU ' +
    'URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX'
  ).split(' '),
);
const REAL_TIME = /^RT(?:MIN\+(?:[1-9]|1[0-5])|MAX-(?:[1-9]|1[0-4]))$/;

/** @throws BuildError `invalid-input` for a name or number that is no signal. */
export function checkSignal(text: string): void {
  const name = text.toUpperCase().replace(/^SIG/, '');
  const isNumber = /^[+-]?\d+$/.test(text) && Number(text) !== 0;
  if (!isNumber && !NAMES.has(name) && !REAL_TIME.test(name)) throw invalid(`invalid signal: ${text}`);
}
