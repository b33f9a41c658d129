/* family.h: the table of model families and of the tensors they are made of.
 *
 * The families of the Llama line share one set of roles; a family says which file formats call it what,
 * and which of the optional roles it always has. A tensor's shape, and whether a model has it at all,
 * is a function of the config.
 */
#ifndef OFFRAMP_MODEL_FAMILY_H
#define OFFRAMP_MODEL_FAMILY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/model/config.h"
#include "common/model/model.h"

enum model_format { FORMAT_GGUF, FORMAT_HF };

/* When a config.json's sliding window counts. */
enum window_rule {
    WINDOW_NEVER, /* Hugging Face's Llama has none, whatever the file says */
    WINDOW_STATED, /* when "sliding_window" is a number; Mistral */
    WINDOW_SWITCHED /* when "use_sliding_window" is true, from layer "max_window_layers" on; Qwen */
};

struct family {
    const char *name; /* config.family */
    const char *gguf; /* general.architecture; NULL: GGUF files call it by another family's name */
    const char *hf; /* model_type */
    enum rope_pairs gguf_pairs; /* GGUF's Llama conversion permutes the rows of q and k */
    bool attention_bias; /* q, k and v always have biases */
    bool head_norms;
    /* How to read a config.json. */
    bool hf_attention_bias, hf_mlp_bias; /* "attention_bias" (q, k, v, o), "mlp_bias" count */
    int hf_head_size; /* of a file without "head_dim"; 0: hidden / heads */
    enum window_rule hf_window;
};

/* NULL when there is none. `length` bytes of name, which need not end with a zero byte. */
const struct family *family_find(const char *name);
const struct family *family_find_format(enum model_format format, const char *name, size_t length);
/* "llama, mistral, ..." as that format calls them. */
void family_list(enum model_format format, char *text, size_t size);

#define TENSOR_NAME_SIZE 96

/* How a file of that format names a role's tensor; layer from 0. */
void role_tensor_name(enum tensor_role role, enum model_format format, int layer, char name[TENSOR_NAME_SIZE]);
bool role_is_per_layer(enum tensor_role role);
/* The names under which files of that format may hold it: spelling 0 is role_tensor_name; false when there is no
 * such spelling. As transformers reads it, a name may lack its "model." (a file saved from the model without its
 * head) or have one more. */
bool role_file_name(enum tensor_role role, enum model_format format, int layer, int spelling,
                    char name[TENSOR_NAME_SIZE]);

/* Dimensions (1 or 2) of a role's tensor and its shape; 0 when models of this config have no such tensor
 * of their own (an output weight that is tied). */
int role_shape(const struct model_config *config, enum tensor_role role, int64_t shape[2]);

/* Whether it is a name of the output weight, in Hugging Face's format under any prefix ("language_model."). */
bool family_names_output(enum model_format format, const char *name);

/* Tensors that real files carry beside the roles, and that hold nothing the config does not. */
bool family_ignores(const struct model_config *config, enum model_format format, const char *name);

#endif
