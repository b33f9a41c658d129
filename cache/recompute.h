/* recompute.h: computes damaged records of a store again, from the model and the stored tokens, to the bytes
 * that they had.
 */
#ifndef OFFRAMP_CACHE_RECOMPUTE_H
#define OFFRAMP_CACHE_RECOMPUTE_H

#include "common/model/model.h"
#include "common/repair/repair.h"

struct damaged_record {
    struct sequence sequence;
    int tap;
};

struct recompute {
    struct store *store; /* open for writing */
    struct model *model; /* that the store was made from */
    const char *device; /* NULL: the store's own */
    int threads; /* 0: one per processor */
    bool allow_numerics; /* other bytes are accepted */
};

/* Puts damaged [count] again, and sorts them. *done: how many were put. The others have damaged tokens, too, as
 * stdout says. After an error, what was put before is kept. */
int recompute_records(const struct recompute *job, struct damaged_record *damaged, size_t count, uint64_t *done,
                      struct error *error);

#endif
