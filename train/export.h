/* export.h: a finished trial's head as other software reads it.
 *
 *     const struct export_options options = {
 *         .trial = "run/trials/12-affine-ridge-distillation-0.001", .format = "torch", .out = "head",
 *         .store = paths, .stores = 1};
 *     export_trial(&options, error);
 *
 * A format is a row of a table (export_format.h); docs/formats.md says what each writes. The folder `out` appears whole
 * or not at all, and the same export has the same bytes. An export that is there already is replaced; a folder that holds
 * anything else is refused.
 */
#ifndef OFFRAMP_TRAIN_EXPORT_H
#define OFFRAMP_TRAIN_EXPORT_H

#include "common/base/error.h"

struct export_options {
    const char *trial; /* RUN/trials/ID */
    const char *format; /* "torch", "ee-llm", "eagle3" */
    const char *out; /* the folder that is made */
    const char *const *store; /* [stores] from which the trial was trained: they keep what the model is */
    int stores;
    const char *model; /* eagle3: where readers find the model; NULL: by the name that the store has for it */
};

/* Says on stdout what was written. A head that the format cannot hold, a trial that has not ended and an unknown format
 * are errors, before anything is written. */
int export_trial(const struct export_options *options, struct error *error);

#endif
