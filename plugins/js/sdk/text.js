// Text in which secrets stay references: the host puts their values in at the last moment, and a plugin never sees one.

import { invalid } from "./errors.js";

/**
 * The parts of a text: of a string, of `{"$secret": "name"}` or `{"$text": [...]}` as an input has them, or of a list of these, one
 * behind the other.
 */
export function parts(text) {
  if (typeof text === "string") return text === "" ? [] : [{ tag: "plain", val: text }];
  if (Array.isArray(text)) return text.flatMap(parts);
  if (typeof text?.$secret === "string") return [{ tag: "secret", val: text.$secret }];
  if (Array.isArray(text?.$text)) return parts(text.$text);
  return invalid(`${JSON.stringify(text)} is no text`);
}

/** Bytes of UTF-8 as a string. What is not UTF-8 becomes U+FFFD. The engine in a component has no TextDecoder. */
export function fromUtf8(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length;) {
    const first = bytes[i++];
    const more =
      first < 0x80
        ? 0
        : first >= 0xc2 && first < 0xe0
          ? 1
          : first >= 0xe0 && first < 0xf0
            ? 2
            : first >= 0xf0 && first < 0xf5
              ? 3
              : -1;
    let point = more === 0 ? first : first & (0x3f >> more);
    let read = 0;
    while (read < more && i < bytes.length && (bytes[i] & 0xc0) === 0x80) {
      point = (point << 6) | (bytes[i++] & 0x3f);
      read++;
    }
    const least = [0, 0x80, 0x800, 0x10000][more];
    const good =
      more >= 0 && read === more && point >= least && point <= 0x10ffff && !(point >= 0xd800 && point < 0xe000);
    text += good ? String.fromCodePoint(point) : "\ufffd";
  }
  return text;
}
