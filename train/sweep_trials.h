/* sweep_trials.h: the trials that the sections of a sweep file stand for. */
#ifndef OFFRAMP_TRAIN_SWEEP_TRIALS_H
#define OFFRAMP_TRAIN_SWEEP_TRIALS_H

#include <stdint.h>

#include "common/base/error.h"
#include "train/sweep_yaml.h"
#include "train/trial_config.h"

/* trials [count], freshly allocated; free() them. First those of grids, then single ones, then random ones, each
 * in the order of the file. Random ones differ from all before them. Every value of the file is checked, those that
 * no trial has, too. name: of the file; NULL: the document was made from flags. seed: of the run. */
int sweep_trials_read(const struct sweep_document *document, const char *name, uint64_t seed,
                      struct trial_config **trials, int *count, struct error *error);

#endif
