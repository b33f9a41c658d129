/* make_model.h: small random Llama models in Hugging Face's layout, for tests that run a whole program. */
#ifndef OFFRAMP_TESTS_MAKE_MODEL_H
#define OFFRAMP_TESTS_MAKE_MODEL_H

#include <stdio.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/base/random.h"
#include "common/model/safetensors.h"

struct made_model {
    int layers, hidden, attention_heads, kv_heads, head_size, intermediate, vocab, context;
    uint64_t seed;
    bool untied;
};

enum { MADE_LAYER_TENSORS = 9 };

/* Tensor `number`: the embedding, the final norm, then nine a layer, and untied the output weight. rows 0: a
 * vector. */
static inline void made_tensor(const struct made_model *made, int number, char name[64], int64_t *rows,
                               int64_t *cols)
{
    const int64_t hidden = made->hidden, inner = made->intermediate;
    const int64_t q = (int64_t)made->attention_heads * made->head_size,
                  kv = (int64_t)made->kv_heads * made->head_size;
    const struct {
        const char *name;
        int64_t rows, cols;
    } parts[MADE_LAYER_TENSORS] = {
        {"input_layernorm", 0, hidden},   {"self_attn.q_proj", q, hidden},
        {"self_attn.k_proj", kv, hidden}, {"self_attn.v_proj", kv, hidden},
        {"self_attn.o_proj", hidden, q},  {"post_attention_layernorm", 0, hidden},
        {"mlp.gate_proj", inner, hidden}, {"mlp.up_proj", inner, hidden},
        {"mlp.down_proj", hidden, inner},
    };
    if (number < 2) {
        snprintf(name, 64, "%s", number == 0 ? "model.embed_tokens.weight" : "model.norm.weight");
        *rows = number == 0 ? made->vocab : 0;
        *cols = hidden;
        return;
    }
    if (number == 2 + made->layers * MADE_LAYER_TENSORS) {
        snprintf(name, 64, "lm_head.weight");
        *rows = made->vocab;
        *cols = hidden;
        return;
    }
    const int part = (number - 2) % MADE_LAYER_TENSORS;
    snprintf(name, 64, "model.layers.%d.%s.weight", (number - 2) / MADE_LAYER_TENSORS, parts[part].name);
    *rows = parts[part].rows;
    *cols = parts[part].cols;
}

static inline int made_write_values(struct safetensors_writer *writer, struct random *random, int64_t rows,
                                    int64_t cols, struct error *error)
{
    const int64_t count = (rows ? rows : 1) * cols;
    float *values;
    if (array_alloc(&values, count, error) < 0)
        return -1;
    for (int64_t i = 0; i < count; i++) {
        const double normal = random_normal(random);
        values[i] = (float)(rows ? 0.15 * normal : 1 + 0.1 * normal);
    }
    int result = safetensors_write(writer, values, (size_t)count * sizeof *values, error);
    free(values);
    return result;
}

static inline int made_write_weights(const struct made_model *made, const char *path, struct error *error)
{
    const int count = 2 + made->layers * MADE_LAYER_TENSORS + made->untied;
    struct random random = {made->seed};
    struct safetensors_writer *writer = NULL;
    struct tensor *tensors = NULL;
    char(*names)[64] = NULL;
    int64_t rows, cols;
    int result = -1;
    if (array_alloc(&tensors, count, error) < 0 || array_alloc(&names, count, error) < 0)
        goto done;
    for (int i = 0; i < count; i++) {
        made_tensor(made, i, names[i], &rows, &cols);
        tensors[i] = (struct tensor){.name = names[i], .type = DTYPE_F32, .dims = rows ? 2 : 1};
        tensors[i].shape[0] = rows ? rows : cols;
        tensors[i].shape[1] = rows ? cols : 0;
        tensors[i].bytes = (size_t)((rows ? rows : 1) * cols) * sizeof(float);
    }
    if (safetensors_create(path, tensors, (size_t)count, NULL, &writer, error) < 0)
        goto done;
    for (int i = 0; i < count; i++) {
        made_tensor(made, i, names[i], &rows, &cols);
        if (made_write_values(writer, &random, rows, cols, error) < 0) {
            safetensors_abandon(writer);
            goto done;
        }
    }
    result = safetensors_finish(writer, error);
done:
    free(tensors);
    free(names);
    return result;
}

static inline int made_write_config(const struct made_model *made, const char *folder, struct error *error)
{
    char path[4096];
    json_t *config =
        json_pack("{ss si si si si si si si si sb sf si}", "model_type", "llama", "num_hidden_layers",
                  made->layers, "hidden_size", made->hidden, "intermediate_size", made->intermediate,
                  "num_attention_heads", made->attention_heads, "num_key_value_heads", made->kv_heads,
                  "head_dim", made->head_size, "vocab_size", made->vocab, "max_position_embeddings",
                  made->context, "tie_word_embeddings", !made->untied, "rms_norm_eps", 1e-5, "eos_token_id", 2);
    snprintf(path, sizeof path, "%s/config.json", folder);
    int result = json_write(path, config, error);
    json_decref(config);
    return result;
}

/* Writes config.json and model.safetensors into the folder, which is made. Token 2 ends a text. */
static inline int make_model(const struct made_model *made, const char *folder, struct error *error)
{
    char path[4096];
    if (directory_create(folder, error) < 0 || made_write_config(made, folder, error) < 0)
        return -1;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    return made_write_weights(made, path, error);
}

#endif
