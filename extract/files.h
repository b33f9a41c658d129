/* files.h: which files a corpus is made of, in which order, and whether they are still the same.
 *
 * A path is a file or a folder; a folder stands for the files below it, sorted by path, those whose
 * names begin with a dot left out. kind.h says what a file holds.
 *
 *     struct corpus_list list = {0};
 *     corpus_list_add(&list, "texts", false, 0, error);
 *     corpus_list_identify(&list, error);
 *     ...
 *     corpus_list_free(&list);
 */
#ifndef OFFRAMP_EXTRACT_FILES_H
#define OFFRAMP_EXTRACT_FILES_H

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

struct corpus_list {
    struct corpus_file *file;
    size_t count, capacity;
    uint64_t bytes; /* of all files */
    char fingerprint[17]; /* corpus_list_identify */
};

/* Adds what `path` stands for behind what is there. token_bytes: of *.bin files, 0 when not given. */
int corpus_list_add(struct corpus_list *list, const char *path, bool held_out, int token_bytes,
                    struct error *error);
/* An error where a file that is held out is another's as well, by whatever name: both are named. A file that is twice
 * in one of them is taken twice, which is said on stderr. */
int corpus_list_check_apart(const struct corpus_list *list, struct error *error);
void corpus_list_free(struct corpus_list *list); /* a zeroed one is fine */

/* Fills in the fingerprint: XXH3-64 over every file's kind, split, size and a sample of its bytes: all
 * of a file of up to 192 kB, else 64 kB each of its beginning, middle and end. Names and folders do
 * not count: a corpus may be moved. A change elsewhere that keeps a large file's size is not seen. */
int corpus_list_identify(struct corpus_list *list, struct error *error);

/* Refuses an output that reading the folder `corpus` would find: the next run would take it for text. */
int corpus_check_output(const char *corpus, const char *out, struct error *error);

/* No split has more than one document: each is a token file, without an id that ends documents. */
bool corpus_list_is_one_document(const struct corpus_list *list);

/* Some file holds text, so that a tokenizer is needed. */
bool corpus_list_has_text(const struct corpus_list *list);

#endif
