/* corpus.h: reads the documents of a corpus of any size, and says which split each belongs to.
 *
 * Reading begins at the beginning of the corpus or at a position that was kept earlier.
 *
 * A document comes in one part. A document of more than PART_BYTES comes in several, so that no file has to fit
 * in memory. A text is cut only where its tokens stay the same (tokenizer_cut). Where there is no such point,
 * the parts are larger, up to the whole document; so they are with tokenizers whose pattern is not known.
 *
 * Documents are numbered through the whole corpus, and empty ones count. With a held-out share, a document is
 * held out when a hash of its number says so. So the choice does not depend on what the document holds, on how
 * many documents there are, or on where reading began.
 *
 *     corpus_open(&list, &rules, NULL, &corpus, error);
 *     while (corpus_read(corpus, wanted, 4 << 20, &parts, error) == 0 && parts.count > 0) {
 *         ...
 *         part_list_clear(&parts);
 *     }
 *
 * Errors name the file and the byte, line or token.
 */
#ifndef OFFRAMP_EXTRACT_CORPUS_H
#define OFFRAMP_EXTRACT_CORPUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/store/store.h"
#include "common/text/tokenizer.h"
#include "extract/files.h"

#define PART_BYTES   ((size_t)1 << 20)
#define LONGEST_PART ((size_t)1 << 30) /* more is an error */

struct corpus_rules {
    const char *field; /* the member of a JSON object that is the text */
    double held_out; /* share of the documents; of files that are held out whole, all are */
    int32_t end; /* ends a document in a token file; -1: none does */
    int vocab; /* ids are 0 .. vocab-1 */
    const struct tokenizer *tokenizer; /* says where texts may be cut; NULL: they are not cut */
};

struct document_part {
    enum split split;
    bool first, last; /* of its document */
    char *text; /* `size` bytes of UTF-8, or NULL: from a token file */
    size_t size;
    struct token_list ids; /* from a token file, without the end-of-text id; else the caller fills it */
};

struct part_list {
    struct document_part *part;
    size_t count, capacity;
    size_t bytes; /* read for them */
};

/* Frees what the parts hold; the list may be filled again. */
void part_list_clear(struct part_list *list);
/* ... and the list itself. */
void part_list_free(struct part_list *list);

/* Where reading goes on: at byte `offset` of file number `file`. All numbers begin at 0. */
struct corpus_position {
    uint64_t file, offset; /* offset: of the file as unpacked */
    uint64_t line; /* lines read of that file */
    uint64_t document; /* documents ended, of all files */
    uint64_t empty; /* documents among them that have no text */
    bool inside; /* a document, which belongs to `split` */
    enum split split;
};

struct corpus;

/* list and rules must outlive the corpus. position NULL: from the beginning. */
int corpus_open(const struct corpus_list *list, const struct corpus_rules *rules,
                const struct corpus_position *position, struct corpus **corpus, struct error *error);
void corpus_close(struct corpus *corpus); /* NULL is fine */

/* Appends parts of the wanted splits until about `bytes` have been read for them, but at least one part. When
 * it appends none, the corpus is at its end. Documents of other splits are skipped. */
int corpus_read(struct corpus *corpus, const bool wanted[SPLIT_COUNT], size_t bytes, struct part_list *list,
                struct error *error);

/* The position behind the last part that corpus_read gave. */
struct corpus_position corpus_tell(const struct corpus *corpus);

/* Bytes of the corpus's files before that position; an estimate within a compressed file. */
uint64_t corpus_bytes_read(const struct corpus *corpus);

/* The split of document `number` for a held-out share. */
enum split document_split(uint64_t number, double held_out);

#endif
