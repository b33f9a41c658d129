/* gate_samples.h: what an exit knows of held-out tokens, and whether it is right: what gates are fitted to and scored
 * on.
 *
 * The head has not seen the held-out split. Its sequences are read in their own order, so that they can be cut into
 * parts that share no document.
 *
 *     short_list_open(&tokens, trial, &stores, &list, error);            // short_list.h
 *     gate_samples_read(&source, &samples, &complete, error);
 *     gate_samples_free(&samples);
 */
#ifndef OFFRAMP_TRAIN_GATE_SAMPLES_H
#define OFFRAMP_TRAIN_GATE_SAMPLES_H

#include "common/head/gate.h"
#include "train/evaluate.h"
#include "train/short_list.h"

/* The candidates of a token. */
struct gate_candidates {
    int32_t token[GATE_NAMED]; /* -1: there are no more */
    float prior[GATE_NAMED]; /* falling */
};

struct gate_samples {
    unsigned features; /* that `values` has */
    int64_t tokens, width;
    float *values; /* [tokens, width] as gate_features makes them */
    bool *agrees; /* [tokens] the head's likeliest token is the full model's */
    double *confidence; /* [tokens] the head's largest probability */
    struct gate_candidates
        *likely; /* [tokens] the likeliest of the short list: candidates for the exit above */
};

struct gate_source {
    const struct evaluation_setting *evaluation;
    struct trial *trial; /* its head is its kept one */
    const struct short_list *list; /* of its head; NULL where no feature needs it */
    const struct gate_candidates *candidates; /* [tokens] of GATE_CANDIDATES */
    unsigned features;
    uint64_t sequences; /* the first of the split */
};

/* When the program is told to stop meanwhile, *complete is false and there are no samples. */
int gate_samples_read(const struct gate_source *source, struct gate_samples *samples, bool *complete,
                      struct error *error);
void gate_samples_free(struct gate_samples *samples); /* a zeroed one is fine */

#endif
