/* split_choose.h: which sequences of a store are held out when it is given a split (split.h).
 *
 * Held-out sequences come in runs that are spread evenly over the store. A run consists of whole documents
 * where they are short enough; then no training sequence has anything of them. Else the runs are those of
 * runs.h.
 *
 *     split_chooser_create(sequences, rows, share, &chooser, error);
 *     split_chooser_document(chooser, row, error);                  // each start of a document, in order
 *     by = split_chooser_finish(chooser, &list, error);             // "documents" or "sequences"
 *     split_chooser_free(chooser);
 */
#ifndef OFFRAMP_STORE_SPLIT_CHOOSE_H
#define OFFRAMP_STORE_SPLIT_CHOOSE_H

#include "common/store/split.h"

#define SPLIT_SHARE_MAX 0.5

struct split_chooser;

/* For so many sequences of `rows` tokens. share: of them to hold out, at most SPLIT_SHARE_MAX; at least one is.
 * Too few sequences are an error. */
int split_chooser_create(uint64_t sequences, int rows, double share, struct split_chooser **chooser,
                         struct error *error);
void split_chooser_free(struct split_chooser *chooser); /* NULL is fine */

/* A document starts at `row`, which is counted over all sequences. The same row twice is one start. */
int split_chooser_document(struct split_chooser *chooser, uint64_t row, struct error *error);

/* The runs, into a zeroed list. Returns what they go by, or NULL on error. */
const char *split_chooser_finish(struct split_chooser *chooser, struct split_list *list, struct error *error);

#endif
