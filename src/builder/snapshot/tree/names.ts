/**
 * File names are bytes, not text. Inside tree, tar and checksum code they are *byte strings*: one char per byte (latin1), so that they
 * keep their exact bytes, compare in byte order, and split on `/` like any string.
 */
const NOT_ASCII = /[^\x00-\x7f]/;

/** A byte string as Node's file calls and `Sys` want it. */
export const fsPath = (bytes: string): string | Buffer => (NOT_ASCII.test(bytes) ? Buffer.from(bytes, 'latin1') : bytes);
/** UTF-8 text as a byte string. */
export const bytesOf = (text: string): string => (NOT_ASCII.test(text) ? Buffer.from(text).toString('latin1') : text);
/** A byte string as text for messages; bytes that are not UTF-8 show as U+FFFD. */
export const textOf = (bytes: string): string => (NOT_ASCII.test(bytes) ? Buffer.from(bytes, 'latin1').toString() : bytes);
