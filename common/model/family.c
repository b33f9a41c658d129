#include "common/model/family.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The layers of the Llama line. */
static const struct block llama = {{
    [HALF_ATTENTION] = {.norm = ROLE_ATTENTION_NORM,
                        .in = {{ROLE_Q, ROLE_Q_BIAS}, {ROLE_K, ROLE_K_BIAS}, {ROLE_V, ROLE_V_BIAS}},
                        .in_norm = {ROLE_Q_NORM, ROLE_K_NORM},
                        .rotated = 2,
                        .mix = MIX_ATTENTION,
                        .out = {ROLE_O, ROLE_O_BIAS}},
    [HALF_MLP] = {.norm = ROLE_MLP_NORM,
                  .in = {{ROLE_MLP_GATE, ROLE_GATE_BIAS}, {ROLE_MLP_UP, ROLE_UP_BIAS}},
                  .mix = MIX_SWIGLU,
                  .out = {ROLE_MLP_DOWN, ROLE_DOWN_BIAS}},
}};

static const struct family families[] = {
    {
        .name = "llama",
        .gguf = "llama",
        .hf = "llama",
        .block = &llama,
        .gguf_pairs = ROPE_ADJACENT,
        .hf_attention_bias = true,
        .hf_mlp_bias = true,
        .hf_window = WINDOW_NEVER,
    },
    {
        .name = "mistral",
        .gguf = NULL, /* llama */
        .hf = "mistral",
        .block = &llama,
        .hf_window = WINDOW_STATED,
    },
    {
        .name = "qwen2",
        .gguf = "qwen2",
        .hf = "qwen2",
        .block = &llama,
        .gguf_pairs = ROPE_HALVES,
        .attention_bias = true,
        .hf_window = WINDOW_SWITCHED,
    },
    {
        .name = "qwen3",
        .gguf = "qwen3",
        .hf = "qwen3",
        .block = &llama,
        .gguf_pairs = ROPE_HALVES,
        .qk_norms = true,
        .hf_attention_bias = true,
        .hf_head_size = 128,
        .hf_window = WINDOW_SWITCHED,
    },
};
enum { FAMILY_COUNT = sizeof families / sizeof *families };

static const char *format_name(const struct family *family, enum model_format format)
{
    return format == FORMAT_GGUF ? family->gguf : family->hf;
}

const struct family *family_find(const char *name)
{
    for (int i = 0; i < FAMILY_COUNT; i++)
        if (strcmp(families[i].name, name) == 0)
            return &families[i];
    return NULL;
}

const struct family *family_find_format(enum model_format format, const char *name, size_t length)
{
    for (int i = 0; i < FAMILY_COUNT; i++) {
        const char *own = format_name(&families[i], format);
        if (own && strlen(own) == length && memcmp(own, name, length) == 0)
            return &families[i];
    }
    return NULL;
}

void family_list(enum model_format format, char *text, size_t size)
{
    size_t length = 0;
    text[0] = 0;
    for (int i = 0; i < FAMILY_COUNT; i++) {
        const char *own = format_name(&families[i], format);
        if (own && length < size)
            length += (size_t)snprintf(text + length, size - length, "%s%s", length ? ", " : "", own);
    }
}
