/* grow.h: goes on with a store after its corpus has grown at the end: by more documents, or by more text in the
 * last one.
 *
 * The corpus is packed again from its beginning and compared with what is stored. All sequences of each split
 * but the last must be the same. The last may have ended where the corpus did: it is made again if it differs.
 * Then the store takes the new manifest, and tokenizing and extracting go on behind what it has. Tokens that
 * filled no sequence before are used.
 */
#ifndef OFFRAMP_EXTRACT_GROW_H
#define OFFRAMP_EXTRACT_GROW_H

#include <jansson.h>

#include "extract/tokenize.h"

/* manifest: the command's, which differs from the store's in the corpus only. An error when the corpus has
 * changed in another way; the store is as it was then. */
int corpus_grow(const struct tokenize_job *job, const json_t *manifest, struct error *error);

#endif
