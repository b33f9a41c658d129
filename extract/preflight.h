/* preflight.h: predicts what an extraction makes: how many sequences, how large each tap, how long it takes.
 *
 * A sample of the corpus (sample.h) says how many sequences there are. Some sequences of the sample, a pilot,
 * then go through the real model, codecs and store: first one call, then as many as take some seconds. Their
 * store is a folder beside the output, and is removed afterwards.
 *
 *     preflight_run(&job, &preflight, error);
 *     preflight_print(&job, &preflight, false, error);
 *     preflight_free(&preflight);
 */
#ifndef OFFRAMP_EXTRACT_PREFLIGHT_H
#define OFFRAMP_EXTRACT_PREFLIGHT_H

#include <jansson.h>

#include "extract/plan.h"
#include "extract/split.h"
#include "extract/tokenize.h"

struct preflight_job {
    const struct model *model;
    struct backend *backend;
    const char *out; /* the store to be */
    const json_t *manifest; /* of the store to be */
    uint64_t memory; /* as plan_make's */
    const struct tokenize_job *tokenize; /* its store is not looked at */
    enum holding holding;
    const char *parameters; /* --pilot: a file, or NULL */
};

struct preflight {
    struct store_info info; /* of the store to be */
    uint64_t sequences[SPLIT_COUNT]; /* of this shard */
    bool exact; /* they were counted, not estimated */
    uint64_t pilot; /* sequences that were run */
    double *tap_bytes; /* [taps] */
    double token_bytes, source_bytes, parameter_bytes; /* of tokens, the model's tensors, codecs' parameters */
    double bytes; /* of all */
    uint64_t available; /* bytes on the disk */
    double tokens_per_second; /* computing */
    double tokenizing, fitting, loading,
        computing; /* seconds; fitting: states for the codecs that the run does not take from the pilot */
};

int preflight_run(const struct preflight_job *job, struct preflight *preflight, struct error *error);
/* Fits the codecs that have parameters, to as many sequences as a real run does, spread over the sample. Writes
 * the parameters to `file`: the shards of an extraction need them before any of them begins. */
int preflight_fit(const struct preflight_job *job, const char *file, struct error *error);
void preflight_free(struct preflight *preflight); /* a zeroed one is fine */

/* Removes the folder of an earlier preflight of this output that was killed; nothing else. */
int preflight_remove(const char *out, struct error *error);

/* An error when the records that a store still lacks do not fit on its disk. What they can take at most is
 * compared first. If that does not fit, what they will take is estimated, from the records there are or from a
 * preflight. `force` makes the error a warning on stderr. */
int preflight_check_disk(const struct preflight_job *job, struct store *store, bool force, struct error *error);

/* On stdout, for people or as JSON. */
int preflight_print(const struct preflight_job *job, const struct preflight *preflight, bool json,
                    struct error *error);

#endif
