/* export_model.h: writes tensors of the model, which a store keeps, to a file for other programs. */
#ifndef OFFRAMP_CACHE_EXPORT_MODEL_H
#define OFFRAMP_CACHE_EXPORT_MODEL_H

#include "cache/export_file.h"
#include "common/store/shards.h"

/* names [count], such as "output". F32, F16 and BF16 keep their type. Other types become F32, and so does
 * BF16 in NumPy files. A tensor that is missing is an error, before anything is written. */
int export_model(struct shards *shards, const char *const *names, int count, const struct export_out *out,
                 struct error *error);

#endif
