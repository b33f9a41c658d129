/* rewrite.h: what merging and recoding have in common. A finished store, of one shard or several, is written
 * anew as one store, and some of its taps may get another codec.
 *
 * Tokens, tensors, notes and the records of other taps keep their bytes. Every commit ends with a whole
 * sequence. So the same command goes on where it was stopped, after a kill, too.
 */
#ifndef OFFRAMP_CACHE_REWRITE_H
#define OFFRAMP_CACHE_REWRITE_H

#include "common/store/shards.h"

struct rewrite {
    const char *name; /* of the command, for the progress bar */
    const char *out;
    const struct codec_choice *codec; /* [taps]: of the new store; NULL: as they are */
    int threads; /* that code; 0: one per processor */
    bool force; /* even if the disk will become full */
};

/* Prints how large the store will be, and what was done. The size of recoded records is estimated from a sample
 * that is spread over the store. If the disk is too small, that is an error before anything is written. */
int rewrite_store(const struct rewrite *rewrite, struct shards *from, struct error *error);

#endif
