/* upload.h: copies tensors of a model to the memory of a backend. For layer.c and ends.c. */
#ifndef OFFRAMP_MODEL_UPLOAD_H
#define OFFRAMP_MODEL_UPLOAD_H

#include "common/model/block.h"
#include "common/model/model.h"
#include "kernels/ops.h"

/* A new buffer for rows x cols floats. */
int floats_create(struct backend *backend, int64_t rows, int64_t cols, struct buffer **buffer,
                  struct error *error);
/* A new buffer that holds `values` [rows, cols]. */
int floats_upload(struct backend *backend, const float *values, int64_t rows, int64_t cols,
                  struct buffer **buffer, struct error *error);

/* A new buffer with a vector of the model, as floats. *buffer stays as it is where the model has no such
 * vector. */
int vector_upload(const struct model *model, int layer, enum tensor_role role, struct backend *backend,
                  struct buffer **buffer, struct error *error);

/* Prepares the weights of `count` products (1 .. BLOCK_STACKED) as one weight, stacked by rows. Their biases
 * are part of it when the model has them all. `uses` as in weight_prepare. */
int products_prepare(const struct model *model, int layer, const struct block_product *products, int count,
                     struct backend *backend, unsigned uses, struct weight **weight, struct error *error);

#endif
