/* files.h: which files a corpus is made of, in which order, and whether they are still the same.
 *
 * A path is a file or a folder. A folder stands for all files below it, sorted by path, except those whose
 * names begin with a dot. kind.h says what a file holds.
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
#include "extract/kind.h"

struct corpus_list {
    struct corpus_file *file;
    size_t count, capacity;
    uint64_t bytes; /* of all files */
    char fingerprint[17]; /* corpus_list_identify */
};

/* Adds the files that `path` stands for to the end of the list. token_bytes: of *.bin files, 0 when it was not
 * given. */
int corpus_list_add(struct corpus_list *list, const char *path, bool held_out, int token_bytes,
                    struct error *error);
/* A file that is both held out and not, by whatever name, is an error that names both. A file that is listed
 * twice on one side is read twice; a warning on stderr says so. */
int corpus_list_check_apart(const struct corpus_list *list, struct error *error);
void corpus_list_free(struct corpus_list *list); /* a zeroed one is fine */

/* Fills in the fingerprint: XXH3-64 over every file's kind, split, size and bytes. Of a file of more than 192
 * kB only the beginning, the middle and the end count, 64 kB each: a change elsewhere that keeps the size is
 * not noticed. Names and folders do not count, so that a corpus may be moved. */
int corpus_list_identify(struct corpus_list *list, struct error *error);

/* An error when the output lies in the folder `corpus`: the next run would read it as text. */
int corpus_check_output(const char *corpus, const char *out, struct error *error);

/* No split has more than one document: each split is one token file, in which no id ends documents. */
bool corpus_list_is_one_document(const struct corpus_list *list);

/* Some file holds text, so that a tokenizer is needed. */
bool corpus_list_has_text(const struct corpus_list *list);

#endif
