/* rewrite.h: what merging and recoding have in common: a finished store, of one shard or several, written
 * anew as one, some of its taps with another codec.
 *
 * Tokens, tensors, notes and the records of other taps keep their bytes. Every commit ends with a whole
 * sequence, so that the same command goes on where it was stopped, killed included.
 */
#ifndef OFFRAMP_CACHE_REWRITE_H
#define OFFRAMP_CACHE_REWRITE_H

#include "common/store/shards.h"

struct rewrite {
    const char *name; /* of the command, for the progress bar */
    const char *out;
    const struct codec_choice *codec; /* [taps]: of the new store; NULL: as they are */
    int threads; /* that code; 0: one per processor */
    bool force; /* although the disk will become full */
};

/* Prints how large the store will be, and what was done. Of records that are coded anew, a sample spread over the
 * store says how large they come out. An error, before anything is written, where the disk does not hold it. */
int rewrite_store(const struct rewrite *rewrite, struct shards *from, struct error *error);

#endif
