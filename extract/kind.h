/* kind.h: what a file of a corpus holds, by its name and its first bytes.
 *
 * The ending of the name, in capitals or not, before .gz or .zst, says what is expected:
 *     .jsonl .ndjson .jsonlines   a JSON object a line
 *     .json                       an array of objects or texts, or one object or text behind the other
 *     .u16 .u32 .bin              token ids, little-endian, of 2 or 4 bytes (.bin: as --token-type says), or llm.c's,
 *                                 with its header
 *     anything else               text, one document
 * The first bytes say whether it is that: whether it is compressed, has a byte order mark, or is a file of another
 * kind, which is an error that names it.
 */
#ifndef OFFRAMP_EXTRACT_KIND_H
#define OFFRAMP_EXTRACT_KIND_H

#include "extract/files.h"

/* Fills in kind, compression, token_bytes, ids, begin and array; path and size are there. token_bytes: of *.bin files, 0
 * when not given. */
int kind_find(struct corpus_file *file, int token_bytes, struct error *error);

/* Bytes that stand in no text: control characters but those that lay out. */
bool kind_has_controls(const char *text, size_t size);

#endif
