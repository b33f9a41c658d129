/* kind.h: what a file of a corpus holds, by its name and its first bytes.
 *
 * The end of the name, before .gz or .zst, in capitals or not, says what is expected:
 *     .jsonl .ndjson .jsonlines   a JSON object a line
 *     .json                       an array of objects or texts, or one object or text behind the other
 *     .u16 .u32 .bin              token ids, little-endian, of 2 or 4 bytes (.bin: as --token-type says), or a file of llm.c
 *                                 with its header
 *     anything else               text, one document
 * The first bytes say whether the file is that, whether it is compressed, and whether it has a byte order mark.
 * A file of another kind is an error that names the kind.
 */
#ifndef OFFRAMP_EXTRACT_KIND_H
#define OFFRAMP_EXTRACT_KIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "extract/stream.h"

enum corpus_kind { CORPUS_TEXT, CORPUS_JSON_LINES, CORPUS_TOKENS, CORPUS_JSON };

struct corpus_file {
    char *path;
    enum corpus_kind kind;
    enum compression compression;
    uint64_t begin; /* of its content as unpacked: behind a byte order mark or a header */
    int token_bytes; /* CORPUS_TOKENS: 2 or 4 */
    bool counted; /* a header says how many ids there are: */
    uint64_t ids;
    bool array; /* CORPUS_JSON: the values are an array's */
    bool held_out; /* every document belongs to the held-out split */
    uint64_t size; /* bytes of the file */
    uint64_t device, inode;
};

/* Fills in kind, compression, token_bytes, ids, begin and array of a file with path and size. token_bytes: of
 * *.bin files, 0 when it was not given. */
int kind_find(struct corpus_file *file, int token_bytes, struct error *error);

/* The text has bytes that no text has: control characters other than tabs, line ends and the like. */
bool kind_has_controls(const char *text, size_t size);

#endif
