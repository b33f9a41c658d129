/* pilot.h: gives every tap of a store the parameters that its codec wants, before the model's real run.
 *
 * They are fitted to the states of a few sequences spread over the corpus (common/pilot), which the model runs
 * over first, into a store of its own: the folder "pilot" in the store's, removed when the parameters are
 * stored. Or they come from a file that another run has written (--pilot-out), as shards must do: a record is
 * the same whatever the number of shards only if its parameters are.
 *
 * Parameters are made once: a run that goes on, or one with every record, finds them in the store.
 */
#ifndef OFFRAMP_EXTRACT_PILOT_H
#define OFFRAMP_EXTRACT_PILOT_H

#include "extract/plan.h"

#include "common/model/model.h"

struct pilot_job {
    const struct model *model;
    struct backend *backend;
    struct store *store; /* its tokens and the model's tensors are stored */
    int threads;
    uint64_t memory; /* as plan_make */
    const char *from, *to; /* --pilot and --pilot-out, or NULL */
    uint64_t sequences; /* of the store, to fit to; 0: as many as are worth it (pilot_sequences) */
};

/* *seconds: what the pilot took, 0 where there was none. `alone`: a shard's parameters serve nothing but this
 * store (a forecast), and nothing is said about them. */
int pilot_run(const struct pilot_job *job, bool alone, double *seconds, struct error *error);

/* Removes what a pilot of the store in folder `store`, which nobody has open, has left. */
int pilot_remove(const char *store, struct error *error);

#endif
