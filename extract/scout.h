/* scout.h: --scout: which layers are worth a tap, before anything is stored.
 *
 * The training text goes through the model once. Nothing is cached: of every layer only the sums of two ridge
 * regressions are kept (scout_sums.h). Then held-out text goes through it, and at every layer the heads that these
 * regressions make are measured (scout_heads.h). Or the sums go into a file, one a shard, and a later command adds up
 * the files and measures.
 *
 *     scout_run(&job, &result, error);
 *     scout_print(&job, &result, json, error);                     // scout_report.h
 *     scout_free(&result);
 */
#ifndef OFFRAMP_EXTRACT_SCOUT_H
#define OFFRAMP_EXTRACT_SCOUT_H

#include <jansson.h>

#include "extract/scout_heads.h"
#include "extract/sequences.h"

#define SCOUT_HELD_OUT 4096 /* tokens that heads are measured on, unless the command says how many */
#define SCOUT_TAPS     4 /* that are proposed, final besides */
#define SCOUT_FEW      16 /* with fewer tokens for each hidden value regressions are poor */

struct scout_job {
    const struct model *model;
    struct backend *backend;
    struct sequences_wish wish;
    uint64_t memory; /* as plan_make's */
    const json_t *manifest; /* of the store that the text would make */
    const char *out; /* gets the sums, or NULL */
    char *const *sums; /* [files] of earlier commands, which take the place of the training text */
    size_t files; /* 0: none */
};

/* What the machine is asked for. */
struct scout_needs {
    struct plan plan;
    uint64_t sums, heads; /* bytes, of plan.peak */
};

struct scout_result {
    uint64_t tokens; /* that the regressions are of */
    uint64_t measured; /* held-out tokens; 0: nothing was measured (a shard's sums) */
    int layers;
    struct scout_score *scores; /* [scout_map_count] */
    struct scout_score full;
    int taps[SCOUT_TAPS], count; /* proposed, ascending */
    double seconds[2]; /* of the training text and of the held-out one, loading weights included */
};

int scout_needs(const struct scout_job *job, struct scout_needs *needs, struct error *error);

int scout_run(const struct scout_job *job, struct scout_result *result, struct error *error);
void scout_free(struct scout_result *result); /* a zeroed one is fine */

/* The taps, at most SCOUT_TAPS and ascending, with which most layers would be left out if every token left at the
 * first of them whose affine head says what the full model does: each tap L that is the first to agree leaves out
 * layers - L. agreement [layers]: at the taps 0 .. layers - 1. A tap at which no more tokens agree than before
 * it is not chosen. Returns how many taps there are. */
int scout_choose(const double *agreement, int layers, int taps[SCOUT_TAPS]);

#endif
