/* recompute.h: records of a store that are damaged, computed again from the model and the tokens that are stored, to the
 * bytes they had.
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
    struct model *model; /* that it was made from */
    const char *device; /* NULL: the store's own */
    int threads; /* 0: one per processor */
    bool allow_numerics; /* other bytes than they had are better than none */
};

/* Puts damaged [count], which it sorts. *done: how many; of others the tokens are damaged, too, as stdout says. An error
 * keeps what was put before. */
int recompute_records(const struct recompute *job, struct damaged_record *damaged, size_t count, uint64_t *done,
                      struct error *error);

#endif
