/* corpus_internal.h: what reads a corpus, shared by corpus.c and corpus_json.c. Only they include this.
 *
 * The open file is seen through a window:
 *
 *     the file   ........................................................
 *                        | begin      | end
 *     window             [  unread    ] read from the file               corpus_fill_window moves end
 *                          position.offset is at begin                   corpus_consume moves begin
 */
#ifndef OFFRAMP_EXTRACT_CORPUS_INTERNAL_H
#define OFFRAMP_EXTRACT_CORPUS_INTERNAL_H

#include "extract/corpus.h"
#include "extract/stream.h"

/* The part of the open file that is in memory. */
struct window {
    struct stream *stream; /* NULL: no file is open */
    char *data;
    size_t capacity;
    size_t begin, end; /* what is unread: data[begin .. end) */
    bool ended; /* the file has nothing behind it */
};

struct corpus {
    const struct corpus_list *list;
    const struct corpus_rules *rules;
    struct corpus_position position;
    struct window window;
};

/* ---- files ---- */

const struct corpus_file *corpus_current_file(const struct corpus *corpus);
const char *corpus_current_path(const struct corpus *corpus);
/* Opens the current file at the position, unless it is open. */
int corpus_open_file(struct corpus *corpus, struct error *error);
/* Nothing of the file's content is read yet. */
bool corpus_at_begin(const struct corpus *corpus);
/* Ends a file that is not one text, and goes to the next. A file without anything in it counts as an empty
 * document, as an empty text does. */
void corpus_end_file(struct corpus *corpus, bool empty);

/* ---- bytes ---- */

/* Reads until `wanted` bytes are in the window or the file ends. */
int corpus_fill_window(struct corpus *corpus, size_t wanted, struct error *error);
void corpus_consume(struct corpus *corpus, size_t size);

/* ---- documents ---- */

/* Returns true at the first part of a document. */
bool corpus_begin_document(struct corpus *corpus);
void corpus_end_document(struct corpus *corpus, bool empty);
/* A document of any length from memory, cut like a file. */
int corpus_append_document(struct corpus *corpus, struct part_list *list, const char *text, size_t size,
                           struct error *error);
/* What to do about a text that is not UTF-8: the end of a message. */
const char *corpus_utf8_advice(const char *text, size_t size);

/* ---- JSON ---- */

/* The next document of a file of JSON lines, or of another JSON file; the end of it when there is none.
 * Documents of other splits are passed over. */
int corpus_read_json_line(struct corpus *corpus, const bool wanted[SPLIT_COUNT], struct part_list *list,
                          struct error *error);
int corpus_read_json(struct corpus *corpus, const bool wanted[SPLIT_COUNT], struct part_list *list,
                     struct error *error);

#endif
