/* export_model.h: tensors of the model, as a store keeps them, in a file for other programs. */
#ifndef OFFRAMP_CACHE_EXPORT_MODEL_H
#define OFFRAMP_CACHE_EXPORT_MODEL_H

#include "cache/export_file.h"
#include "common/store/shards.h"

/* names [count], such as "output". F32, F16 and BF16 stay what they are, and other types become F32;
 * NumPy has no BF16, which becomes F32, too. */
int export_model(struct shards *shards, const char *const *names, int count, const struct export_out *out,
                 struct error *error);

#endif
