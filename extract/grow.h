/* grow.h: goes on with a store whose corpus has grown at its end since: documents behind the last one, or
 * more text in the last.
 *
 * The corpus is packed from its beginning and compared with what is stored. All but the last sequence of each
 * split must come out the same; the last may have ended where the corpus did, and is made again when it
 * differs. Then the store takes the new manifest, and tokenizing and extracting go on behind what it has; what
 * filled no sequence before is taken up.
 */
#ifndef OFFRAMP_EXTRACT_GROW_H
#define OFFRAMP_EXTRACT_GROW_H

#include <jansson.h>

#include "extract/tokenize.h"

/* An error where the corpus has changed otherwise; the store is as it was then. manifest: of the command, of
 * whose members the corpus is what differs from the store's. */
int corpus_grow(const struct tokenize_job *job, const json_t *manifest, struct error *error);

#endif
