/* family.h: the table of model families: what file formats call a family, and what its models have that their
 * files do not say.
 */
#ifndef OFFRAMP_MODEL_FAMILY_H
#define OFFRAMP_MODEL_FAMILY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/model/block.h"
#include "common/model/config.h"
#include "common/model/role.h"

/* When the sliding window of a config.json counts. */
enum window_rule {
    WINDOW_NEVER, /* Hugging Face's Llama has none, whatever the file says */
    WINDOW_STATED, /* when "sliding_window" is a number; Mistral */
    WINDOW_SWITCHED /* when "use_sliding_window" is true, from layer "max_window_layers" on; Qwen */
};

struct family {
    const char *name; /* config.family */
    const char *gguf; /* general.architecture; NULL: GGUF files have it under another family's name */
    const char *hf; /* model_type */
    const struct block *block; /* what its layers are */
    enum rope_pairs gguf_pairs; /* GGUF's Llama conversion permutes the rows of q and k */
    bool attention_bias; /* q, k and v always have biases */
    bool qk_norms; /* q and k are normed per attention head */
    /* How a config.json is read. */
    bool hf_attention_bias, hf_mlp_bias; /* its "attention_bias" (of q, k, v, o) and "mlp_bias" count */
    int hf_head_size; /* where it has no "head_dim"; 0: hidden / attention heads */
    enum window_rule hf_window;
};

/* NULL when there is none. `length` bytes of name, which need not end with a zero byte. */
const struct family *family_find(const char *name);
const struct family *family_find_format(enum model_format format, const char *name, size_t length);
/* "llama, mistral, ..." as that format calls them. */
void family_list(enum model_format format, char *text, size_t size);

#endif
