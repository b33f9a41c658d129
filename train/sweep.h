/* sweep.h: the trials of a run, and the settings that they share.
 *
 * A sweep file is YAML; pipelines/demo.yaml is an example. It may hold:
 *     seed: 1                     # settings of the run (setting_keys)
 *     passes: 1
 *     defaults:                   # what trials have that do not say otherwise (trial_keys, as in all below)
 *       head: affine
 *     grid:                       # lists, of which every combination is a trial
 *       tap: [6, 12]
 *       rate: [1e-3, 3e-4]        # a single value stands for a list of one
 *     trials:                     # single trials
 *       - {tap: 12.mid, head: mlp, loss: cross-entropy}
 *     random:                     # `count` trials, each key drawn by itself
 *       count: 20
 *       tap: [6, 12, 18]          # from a list, where all are as likely
 *       init: ridge               # or always the same
 *       rate: {log_uniform: [1e-4, 1e-2]}   # or between two bounds: as likely in each decade,
 *       decay: {uniform: [0, 0.1]}          # or in each interval,
 *       warmup: {integer: [0, 20]}          # or a whole number, where both bounds belong to it
 * `grid` and `random` may be lists of several such sections. A key that is given neither in its section nor in
 * `defaults` has the default of its row in the table. All trials of a run take the same steps, on the same
 * batches, so `steps` is not a key of a trial.
 *
 * Random trials are drawn with the run's seed, or with a `seed` of their section. The first ones stay the same
 * when `count` grows, and when another key or section changes (sweep_draw.h). One that is there already, drawn
 * or written, is drawn again.
 *
 * A wrong key or value is an error that names the file and the line. YAML's aliases (`&name`, `*name`) may be
 * used; its merge keys (`<<`) and second documents are refused. The tables of keys (sweep_keys.h) are also the
 * flags of a run of one trial.
 *
 *     struct sweep sweep = {0};
 *     if (sweep_read("demo.yaml", &sweep, error) < 0) ...
 *     if (sweep_resolve(&sweep, &model, error) < 0) ...        // taps of this model, names of trials
 *     sweep_free(&sweep);
 */
#ifndef OFFRAMP_TRAIN_SWEEP_H
#define OFFRAMP_TRAIN_SWEEP_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "train/gate_wish.h"
#include "train/stores.h"
#include "train/trial_config.h"

/* Held-out sequences of an evaluation, where nobody says otherwise. Of the demo model's affine heads at a tap, such a
 * sample orders 98 of 100 pairs as 8,192 tokens do. */
#define SWEEP_SAMPLE        4
#define SWEEP_SAMPLE_TOKENS 2048

struct sweep {
    const char *name; /* of the file, for errors; borrowed; NULL: made from flags, which errors name then */
    char *text; /* the file as it was given */
    size_t size;
    uint64_t seed; /* of the reading order and of random first values */
    int passes; /* over the training split */
    int64_t steps; /* instead of passes; -1: not given, passes count */
    int sequences; /* read per step */
    int64_t evaluate; /* steps between evaluations; 0: only before the first and after the last step */
    int64_t sample; /* held-out sequences that an evaluation before a trial's end reads; 0: all; -1: not given
                       (run_identity.h) */
    int64_t checkpoint; /* steps between checkpoints */
    int halving; /* of the trials of a tap the best 1 / halving go on at each rung (schedule.h); 0: all */
    int patience; /* evaluations without a lower KL after which a trial ends; 0: none does */
    struct gate_wish gates; /* of the best heads of the taps */
    int line[SETTING_KEYS]; /* of the file, where a setting is given; 0: it is not */
    struct trial_config *trial; /* [trials] */
    int trials;
};

/* ---- reading ---- */

/* `path` must outlive the sweep (errors of sweep_resolve name it). */
int sweep_read(const char *path, struct sweep *sweep, struct error *error);
/* The same from memory; `text` is copied. */
int sweep_parse(const char *name, const char *text, size_t size, struct sweep *sweep, struct error *error);
void sweep_free(struct sweep *sweep); /* a zeroed one is fine */

/* What `vocabulary: auto` comes to for every trial. best: the stores have the teacher's best tokens; where they
 * lack them, and that matters, a line on stderr says so. A trial that asks for a subset that it cannot have is an
 * error. Before sweep_resolve. */
int sweep_choose_vocabulary(struct sweep *sweep, bool best, struct error *error);

/* Finds every trial's tap in the model, checks each trial against the model, and names the trials. Two of the
 * same name are an error. */
int sweep_resolve(struct sweep *sweep, const struct model_config *model, struct error *error);

/* Some of a sweep's trials: trial i (of all, counted from 0) is in part i mod `count`. */
struct sweep_part {
    int index, count; /* 0 of 0: all of them */
};

/* Drops the trials of other parts from a sweep that is resolved. None may be left. */
void sweep_take_part(struct sweep *sweep, struct sweep_part part);
/* Whether trial i of the whole sweep is of the part. */
bool sweep_part_has(struct sweep_part part, int trial);

/* Fits the sweep to a training split of `sequences` sequences: a step reads at most so many. If more were asked
 * for, that is an error. */
int sweep_fit(struct sweep *sweep, uint64_t sequences, struct error *error);

/* Held-out sequences of an evaluation before a trial's end, of a split of `split` sequences of `rows` tokens. Where it
 * is not given: at least SWEEP_SAMPLE, which have at least SWEEP_SAMPLE_TOKENS tokens. */
int64_t sweep_sample(const struct sweep *sweep, int64_t split, int64_t rows);

/* All of that for stores: sweep_resolve, sweep_fit, and that they have the states which the trials read, begin
 * with and are taught by. An error is of the kind ERROR_USAGE unless memory is out. */
int sweep_take_stores(struct sweep *sweep, const struct stores *stores, struct error *error);

/* Steps of the run, for a training split of `sequences` sequences. At least 1, except with `steps: 0`. */
int64_t sweep_steps(const struct sweep *sweep, uint64_t sequences);

#endif
