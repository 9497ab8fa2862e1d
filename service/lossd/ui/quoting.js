// Names that others gave, such as those of files: in sentences, in Python and in a shell, where they do
// nothing.

/**
 * Characters that are not seen, end a line, or move others, and lone surrogates. Those that join letters are
 * part of words.
 */
const UNSEEN = /(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;
const ALL_UNSEEN = new RegExp(UNSEEN, "gu");

/** A character as Python writes it, such as \n or \u202e. @param {string} character */
function escaped(character) {
  const short = JSON.stringify(character).slice(1, -1);
  if (short !== character) return short;
  const code = character.codePointAt(0) ?? 0;
  const digits = code.toString(16);
  return code > 0xffff ? `\\U${digits.padStart(8, "0")}` : `\\u${digits.padStart(4, "0")}`;
}

/**
 * A name for people.
 * @param {string} name
 */
export function shown(name) {
  return name.replace(ALL_UNSEEN, escaped);
}

/**
 * Text as a string of Python.
 * @param {string} text
 */
export function pythonText(text) {
  return shown(JSON.stringify(text));
}

/**
 * Whether a shell's command, or a terminal that it is pasted into, may take a text for more than text.
 * @param {string} text
 */
export function isUnsafe(text) {
  return UNSEEN.test(text);
}

/**
 * Text as a word of a POSIX shell. What is unsafe stays so.
 * @param {string} text
 */
export function shellWord(text) {
  return /^[\w./:@%+,-][\w./:@%+=,-]*$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * A file's name that no program takes for an option, or for standard input.
 * @param {string} name
 */
export function pathOf(name) {
  return name.startsWith("-") ? `./${name}` : name;
}
