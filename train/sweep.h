/* sweep.h: the trials of a run, and the settings that they share.
 *
 * A sweep file is YAML; pipelines/demo.yaml is an example. It may hold:
 *     seed: 1                     # settings of the run (setting_keys)
 *     passes: 1
 *     grid:                       # lists, of which every combination is a trial (trial_keys)
 *       tap: [6, 12]
 *       head: [affine]
 *       rate: [1e-3, 3e-4]
 *     trials:                     # and single trials (trial_keys)
 *       - {tap: 12.mid, head: mlp, loss: cross-entropy}
 * A key that is not given has the default of its row in the table. A wrong key or value is an error that names
 * the file and the line. YAML's aliases (`&name`, `*name`) may be used; its merge keys (`<<`) and second
 * documents are refused. The tables of keys (sweep_keys.h) are also the flags of a run of one trial.
 *
 *     struct sweep sweep = {0};
 *     if (sweep_read("demo.yaml", &sweep, error) < 0) ...
 *     if (sweep_resolve(&sweep, &model, error) < 0) ...        // taps of this model, names of trials
 *     sweep_free(&sweep);
 */
#ifndef OFFRAMP_TRAIN_SWEEP_H
#define OFFRAMP_TRAIN_SWEEP_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/head/head.h"
#include "train/sweep_keys.h"

enum trial_loss { LOSS_CROSS_ENTROPY, LOSS_DISTILLATION };

#define TRIAL_ID_SIZE 160

struct trial_config {
    /* Made from the trial's settings alone, so that it has the same name in every sweep: for instance
     * "12-affine-ridge-distillation-0.001". Set by sweep_resolve. */
    char id[TRIAL_ID_SIZE];
    char tap[TAP_NAME_SIZE]; /* as written; after sweep_resolve the tap's own name */
    struct head_spec spec; /* its tap is set by sweep_resolve */
    enum head_init init;
    enum trial_loss loss;
    double rate; /* of the first step after the warm-up */
    int64_t warmup; /* steps in which the rate grows from 0 */
    double clip; /* largest norm of the gradient; 0: no limit */
    double decay, beta1, beta2, epsilon; /* of Adam */
};

struct sweep {
    const char *name; /* of the file, for errors; borrowed; NULL: made from flags, which errors name then */
    char *text; /* the file as it was given */
    size_t size;
    uint64_t seed; /* of the reading order and of random first values */
    int passes; /* over the training split */
    int64_t steps; /* instead of passes; -1: not given, passes count */
    int sequences; /* read per step */
    int64_t evaluate; /* steps between evaluations; 0: only before the first and after the last step */
    int64_t checkpoint; /* steps between checkpoints */
    int halving; /* of the trials of a tap the best 1 / halving go on at each rung (schedule.h); 0: all */
    int patience; /* evaluations without a lower KL after which a trial ends; 0: none does */
    struct trial_config *trial; /* [trials] */
    int trials;
};

/* ---- reading ---- */

/* `path` must outlive the sweep (errors of sweep_resolve name it). */
int sweep_read(const char *path, struct sweep *sweep, struct error *error);
/* The same from memory; `text` is copied. */
int sweep_parse(const char *name, const char *text, size_t size, struct sweep *sweep, struct error *error);
void sweep_free(struct sweep *sweep); /* a zeroed one is fine */

/* Finds every trial's tap in the model, checks each trial against the model, and names the trials. Two of the
 * same name are an error. */
int sweep_resolve(struct sweep *sweep, const struct model_config *model, struct error *error);

/* Some of a sweep's trials: trial i (of all, counted from 0) is in part i mod `count`. */
struct sweep_part {
    int index, count; /* 0 of 0: all of them */
};

/* Drops the trials of other parts from a sweep that is resolved. None may be left. */
void sweep_take_part(struct sweep *sweep, struct sweep_part part);

/* Fits the sweep to a training split of `sequences` sequences: a step reads at most so many. If more were asked
 * for, that is an error. */
int sweep_fit(struct sweep *sweep, uint64_t sequences, struct error *error);

/* Steps of the run, for a training split of `sequences` sequences. At least 1, except with `steps: 0`. */
int64_t sweep_steps(const struct sweep *sweep, uint64_t sequences);

/* The learning rate of a step (1 .. steps): a linear warm-up, then half a cosine from the full rate to a tenth
 * of it (Loshchilov and Hutter 2016, arXiv 1608.03983, without restarts). */
double trial_rate(const struct trial_config *config, int64_t step, int64_t steps);

/* The trial's settings by the names of their keys. NULL on error. */
json_t *trial_config_to_json(const struct trial_config *config, struct error *error);

const char *trial_loss_name(enum trial_loss loss);

#endif
