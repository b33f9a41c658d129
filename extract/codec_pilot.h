/* codec_pilot.h: gives every tap of a store the parameters that its codec wants, before the model's real run.
 *
 * They are fitted to the states of a few sequences spread over the corpus (common/pilot). The model runs over
 * those first, into a store of its own: the folder "pilot" in the store's. Where that pays and the disk has
 * room, the run takes these states instead of computing them again (kept.h), and the caller removes the folder
 * behind it; else it is removed when the parameters are stored.
 *
 * Or the parameters come from a file that another run has written (--pilot-out), as they must for shards: a
 * record is the same whatever the number of shards only if its parameters are.
 *
 * Parameters are made once: a run that goes on, or one with every record, finds them in the store.
 */
#ifndef OFFRAMP_EXTRACT_CODEC_PILOT_H
#define OFFRAMP_EXTRACT_CODEC_PILOT_H

#include <stdbool.h>

#include "common/model/model.h"
#include "extract/kept.h"
#include "extract/plan.h"

struct codec_pilot_job {
    const struct model *model;
    struct backend *backend;
    struct store *store; /* its tokens and the model's tensors are stored */
    int threads;
    uint64_t memory; /* as plan_make */
    const char *from, *to; /* --pilot and --pilot-out, or NULL */
    uint64_t sequences; /* of the store, to fit to; 0: as many as are worth it (pilot_sequences) */
    bool alone; /* a shard's parameters serve nothing but this store (a forecast); nothing is said about them */
    bool
        keep; /* the run follows, and takes the states that were computed, those of an earlier pilot included */
};

struct codec_pilot_result {
    double seconds; /* 0: there was no pilot */
    uint64_t tokens; /* that ran through the model */
    struct kept *kept; /* for the run; NULL: none. kept_close() it */
};

int codec_pilot_run(const struct codec_pilot_job *job, struct codec_pilot_result *result, struct error *error);

/* Removes what a pilot of the store in folder `store`, which nobody has open, has left. */
int codec_pilot_remove(const char *store, struct error *error);

#endif
