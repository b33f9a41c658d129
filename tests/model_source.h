/* model_source.h: the frozen tensors that heads copy, straight from a model instead of from a store.
 *
 *     const struct head_source source = {model_source, model};
 *     head_initialise(head, INIT_COPY, 0, &source, error);
 */
#ifndef OFFRAMP_TESTS_MODEL_SOURCE_H
#define OFFRAMP_TESTS_MODEL_SOURCE_H

#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "common/model/model.h"

/* As head_source's get; context: the model. The model's tensor of a name as stores have it: "final_norm", "12/mlp_gate". */
static inline int model_source(void *context, const char *name, float **values, int64_t *rows, int64_t *cols,
                               struct error *error)
{
    const char *slash = strchr(name, '/');
    const int layer = slash ? atoi(name) - 1 : 0;
    for (int role = 0; role < ROLE_COUNT; role++) {
        const struct tensor *tensor = model_tensor(context, layer, (enum tensor_role)role);
        if (!tensor || strcmp(role_name((enum tensor_role)role), slash ? slash + 1 : name) != 0)
            continue;
        *rows = tensor->dims == 2 ? tensor->shape[0] : 1;
        *cols = tensor->shape[tensor->dims - 1];
        if (array_alloc(values, *rows * *cols, error) < 0)
            return -1;
        dtype_to_f32(tensor->type, tensor->data, *rows * *cols, *values);
        return 0;
    }
    return error_set(error, "the model has no %s", name);
}

#endif
