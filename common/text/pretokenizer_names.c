/* The names that GGUF files give their pre-tokenizers (tokenizer.ggml.pre), as llama.cpp reads them: many stand
 * for one way of splitting. Those of ways that are not here are left out. */
#include <string.h>

#include "common/text/pretokenize.h"

enum way { GPT2, GPT2_DIGITS, LLAMA3, QWEN2, TEKKEN };

static const struct {
    bool digits; /* a Digits stage, each digit on its own, comes first */
    enum known_pattern pattern;
} ways[] = {
    [GPT2] = {false, PATTERN_GPT2},   [GPT2_DIGITS] = {true, PATTERN_GPT2}, [LLAMA3] = {false, PATTERN_LLAMA3},
    [QWEN2] = {false, PATTERN_QWEN2}, [TEKKEN] = {false, PATTERN_TEKKEN},
};

/* Normalization is in no GGUF file; it is that of the tokenizer.json of the models a name stands for, where
 * that is known. */
#define LLAMA3_TRAITS                                                                                          \
    {                                                                                                          \
        .ignore_merges = true, .begins = true                                                                  \
    }
#define COMPOSED                                                                                               \
    {                                                                                                          \
        .compose = true                                                                                        \
    }

static const struct name {
    const char *name;
    enum way way;
    struct pretokenizer_traits traits;
} names[] = {
    {"gpt-2", GPT2, {0}},
    {"a.x-4.0", GPT2, {0}},
    {"exaone4", GPT2, {0}},
    {"gigachat", GPT2, {0}},
    {"granite-docling", GPT2, {0}},
    {"jais", GPT2, {0}},
    {"jina-de", GPT2, {0}},
    {"jina-es", GPT2, {0}},
    {"jina-v2-de", GPT2, {0}},
    {"jina-v2-es", GPT2, {0}},
    {"mellum", GPT2, {0}},
    {"modern-bert", GPT2, {0}},
    {"mpt", GPT2, {0}},
    {"olmo", GPT2, {0}},
    {"phi-2", GPT2, {0}},
    {"trillion", GPT2, {0}},
    {"smollm", GPT2_DIGITS, {0}},
    {"codeshell", GPT2_DIGITS, {0}},
    {"command-r", GPT2_DIGITS, {0}},
    {"exaone", GPT2_DIGITS, {0}},
    {"minerva-7b", GPT2_DIGITS, {0}},
    {"refact", GPT2_DIGITS, {0}},
    {"starcoder", GPT2_DIGITS, {0}},
    {"llama-bpe", LLAMA3, LLAMA3_TRAITS},
    {"llama3", LLAMA3, LLAMA3_TRAITS},
    {"llama-v3", LLAMA3, LLAMA3_TRAITS},
    {"falcon3", LLAMA3, LLAMA3_TRAITS},
    {"falcon-h1", LLAMA3, LLAMA3_TRAITS},
    {"jina-v5-nano", LLAMA3, LLAMA3_TRAITS},
    {"lfm2", LLAMA3, LLAMA3_TRAITS},
    {"midm-2.0", LLAMA3, LLAMA3_TRAITS},
    {"pixtral", LLAMA3, LLAMA3_TRAITS},
    {"chatglm-bpe", LLAMA3, {0}},
    {"dbrx", LLAMA3, {0}},
    {"glm4", LLAMA3, {0}},
    {"smaug-bpe", LLAMA3, {0}},
    {"qwen2", QWEN2, COMPOSED},
    {"deepseek-r1-qwen", QWEN2, COMPOSED},
    {"f2llmv2", QWEN2, COMPOSED},
    {"grok-2", QWEN2, {0}},
    {"hunyuan", QWEN2, {0}},
    {"kormo", QWEN2, {0}},
    {"megrez", QWEN2, {0}},
    {"solar-open", QWEN2, {0}},
    {"stablelm2", QWEN2, {0}},
    {"tekken", TEKKEN, LLAMA3_TRAITS},
};

static const struct name *find_name(const char *name, size_t size)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i].name) == size && memcmp(names[i].name, name, size) == 0)
            return &names[i];
    return NULL;
}

int pretokenizer_by_name(const char *name, size_t size, struct pretokenizer **pretokenizer,
                         struct pretokenizer_traits *traits, struct error *error)
{
    const struct name *found = find_name(name, size);
    struct pretokenizer *new = NULL;
    *pretokenizer = NULL;
    if (!found)
        return error_set(
            error,
            "pre-tokenizer \"%.*s\" is not known (those that split as gpt-2, smollm, llama-bpe, qwen2 "
            "or tekken do are)",
            (int)(size < 80 ? size : 80), name);
    if (pretokenizer_create(&new, error) < 0 ||
        (ways[found->way].digits && pretokenizer_add_digits(new, true, error) < 0) ||
        pretokenizer_add_known(new, ways[found->way].pattern, error) < 0) {
        pretokenizer_destroy(new);
        return -1;
    }
    *traits = found->traits;
    *pretokenizer = new;
    return 0;
}
