/* upload.h: tensors of a model to the memory of a backend, for layer.c and ends.c. */
#ifndef OFFRAMP_MODEL_UPLOAD_H
#define OFFRAMP_MODEL_UPLOAD_H

#include "common/model/model.h"
#include "kernels/ops.h"

#define STACKED_MAX 3 /* weights that lie in one */

/* A new buffer for rows x cols floats. */
int floats_create(struct backend *backend, int64_t rows, int64_t cols, struct buffer **buffer,
                  struct error *error);
/* A new buffer that holds `values` [rows, cols]. */
int floats_upload(struct backend *backend, const float *values, int64_t rows, int64_t cols,
                  struct buffer **buffer, struct error *error);

/* A vector of the model as a new buffer of floats; *buffer stays as it is where the model has none. */
int vector_upload(const struct model *model, int layer, enum tensor_role role, struct backend *backend,
                  struct buffer **buffer, struct error *error);

/* Prepares the weights of `count` <= STACKED_MAX roles, stacked by rows, with their biases where the model has
 * them. bias_roles: NULL for weights that have none in any model. `uses` as in weight_prepare. */
int roles_prepare(const struct model *model, int layer, const enum tensor_role *roles,
                  const enum tensor_role *bias_roles, int count, struct backend *backend, unsigned uses,
                  struct weight **weight, struct error *error);

#endif
