#include "common/model/ends.h"

#include <stdlib.h>

#include "common/base/memory.h"
#include "common/model/upload.h"

struct ends {
    const struct model_config *config;
    struct weight *embedding; /* [V, H] */
    struct weight *output; /* [V, H]; NULL when tied or not wanted */
    bool tied; /* the embedding is the output weight, and that was wanted */
    struct buffer *final_norm; /* [H] */
};

int ends_load(const struct model *model, struct backend *backend, bool with_output, unsigned uses,
              struct ends **result, struct error *error)
{
    static const struct block_product embedding = {.weight = ROLE_EMBEDDING}, output = {.weight = ROLE_OUTPUT};
    bool tied = model_config(model)->tied;
    unsigned embedding_uses = with_output && tied ? WEIGHT_ROWS | uses : WEIGHT_ROWS;
    struct ends *ends;
    *result = NULL;
    if (array_alloc(&ends, 1, error) < 0)
        return -1;
    ends->config = model_config(model);
    ends->tied = with_output && tied;
    if (products_prepare(model, 0, &embedding, 1, backend, embedding_uses, &ends->embedding, error) < 0 ||
        (with_output && !tied &&
         products_prepare(model, 0, &output, 1, backend, uses, &ends->output, error) < 0) ||
        vector_upload(model, 0, ROLE_FINAL_NORM, backend, &ends->final_norm, error) < 0) {
        ends_destroy(ends);
        return -1;
    }
    *result = ends;
    return 0;
}

int ends_load_output(const struct model *model, struct backend *backend, unsigned uses, struct ends **result,
                     struct error *error)
{
    static const struct block_product output = {.weight = ROLE_OUTPUT};
    struct ends *ends;
    *result = NULL;
    if (array_alloc(&ends, 1, error) < 0)
        return -1;
    ends->config = model_config(model);
    if (products_prepare(model, 0, &output, 1, backend, uses, &ends->output, error) < 0 ||
        vector_upload(model, 0, ROLE_FINAL_NORM, backend, &ends->final_norm, error) < 0) {
        ends_destroy(ends);
        return -1;
    }
    *result = ends;
    return 0;
}

void ends_destroy(struct ends *ends)
{
    if (!ends)
        return;
    weight_destroy(ends->embedding);
    weight_destroy(ends->output);
    buffer_destroy(ends->final_norm);
    free(ends);
}

void ends_embed(const struct ends *ends, struct queue *queue, struct matrix ids, struct matrix x)
{
    op_embed(queue, ends->embedding, ids, x);
}

struct matrix ends_final_norm(const struct ends *ends)
{
    return matrix_f32(ends->final_norm, 1, ends->config->hidden);
}

const struct weight *ends_output(const struct ends *ends)
{
    return ends->tied ? ends->embedding : ends->output;
}
