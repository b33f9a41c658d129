/* The tokenizer in a GGUF file: the keys tokenizer.ggml.* of ggml's docs/gguf.md. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/text/tokenizer_parts.h"

/* tokenizer.ggml.token_type */
enum { GGUF_NORMAL = 1, GGUF_UNKNOWN = 2, GGUF_CONTROL = 3, GGUF_USER_DEFINED = 4, GGUF_UNUSED = 5 };

static bool string_is(struct gguf_string string, const char *text)
{
    return string.length == strlen(text) && memcmp(string.data, text, string.length) == 0;
}

static int check_model(const struct gguf *gguf, struct error *error)
{
    struct gguf_string model;
    if (gguf_get_string(gguf, "tokenizer.ggml.model", &model, error) < 0)
        return -1;
    if (string_is(model, "gpt2"))
        return 0;
    return error_set(
        error,
        "%s: tokenizer.ggml.model is \"%.*s\"; only byte-level BPE (\"gpt2\") is supported, so give "
        "the corpus as a token file",
        gguf_path(gguf), (int)(model.length < 80 ? model.length : 80), model.data);
}

/* Errors from here on get the file's name from the caller. */
static int set_token(struct tokenizer_parts *parts, size_t id, struct gguf_string name, int64_t type,
                     struct error *error)
{
    enum token_kind kind = TOKEN_MODEL;
    if (type == GGUF_CONTROL || type == GGUF_UNKNOWN)
        kind = TOKEN_SPECIAL;
    else if (type == GGUF_USER_DEFINED)
        kind = TOKEN_ADDED;
    else if (type != GGUF_NORMAL && type != GGUF_UNUSED)
        return error_set(error, "tokenizer.ggml.token_type of token %zu is %" PRId64 ", not 1 .. 5", id, type);
    if (vocab_set(&parts->vocab, (int64_t)id, name.data, name.length, kind, error) < 0)
        return -1;
    if (kind == TOKEN_MODEL)
        return 0;
    return parts_add_token(parts, (int32_t)id, false, kind == TOKEN_SPECIAL ? ADDED_SPECIAL : 0, error);
}

static int read_tokens(const struct gguf *gguf, struct tokenizer_parts *parts, struct error *error)
{
    struct gguf_string *names = NULL;
    int64_t *types = NULL;
    size_t count = 0, type_count = 0;
    int result = -1;
    if (gguf_get_strings(gguf, "tokenizer.ggml.tokens", &names, &count, error) < 0 ||
        gguf_get_integers(gguf, "tokenizer.ggml.token_type", &types, &type_count, error) < 0)
        goto done;
    if (type_count != count)
        result = error_set(error, "%zu entries in tokenizer.ggml.token_type for %zu tokens", type_count, count);
    else
        result = vocab_create(&parts->vocab, count, error);
    for (size_t i = 0; i < count && result == 0; i++)
        result = set_token(parts, i, names[i], types[i], error);
    if (result == 0)
        result = added_sort(&parts->added, error);
    if (result < 0)
        error_prefix(error, "%s", gguf_path(gguf));
done:
    free(names);
    free(types);
    return result;
}

static int read_merges(const struct gguf *gguf, struct tokenizer_parts *parts, struct error *error)
{
    struct gguf_string *merges = NULL;
    size_t count = 0;
    if (gguf_get_strings(gguf, "tokenizer.ggml.merges", &merges, &count, error) < 0)
        return -1;
    int result = 0;
    for (size_t i = 0; i < count && result == 0; i++)
        result = parts_split_merge(parts, i, merges[i].data, merges[i].length, error);
    free(merges);
    return result < 0 ? error_prefix(error, "%s", gguf_path(gguf)) : 0;
}

static int read_pretokenizer(const struct gguf *gguf, struct tokenizer_parts *parts,
                             struct pretokenizer_traits *traits, struct error *error)
{
    static const char key[] = "tokenizer.ggml.pre";
    struct gguf_string name;
    if (!gguf_has(gguf, key))
        return error_set(
            error,
            "%s: %s is missing, so how text is to be split is not known: convert the model anew, or use "
            "its Hugging Face folder",
            gguf_path(gguf), key);
    if (gguf_get_string(gguf, key, &name, error) < 0)
        return -1;
    if (pretokenizer_by_name(name.data, name.length, &parts->pretokenizer, traits, error) < 0)
        return error_prefix(error, "%s: %s", gguf_path(gguf), key);
    parts->compose = traits->compose;
    parts->rules.ignore_merges = traits->ignore_merges;
    return 0;
}

/* llama.cpp leaves an id that no token has as it was before: none. */
static int read_id(const struct gguf *gguf, const char *key, int64_t *id, struct error *error)
{
    *id = -1;
    return gguf_has(gguf, key) ? gguf_get_integer(gguf, key, INT64_MIN, INT64_MAX, id, error) : 0;
}

static int read_ends(const struct gguf *gguf, struct tokenizer_parts *parts, struct error *error)
{
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    static const char list[] = "tokenizer.ggml.eos_token_ids"; /* of files that Ollama wrote */
    int64_t id, *ids = NULL;
    size_t count = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (read_id(gguf, keys[i], &id, error) < 0 || parts_add_end(parts, id, error) < 0)
            return -1;
    if (gguf_has(gguf, list) && gguf_get_integers(gguf, list, &ids, &count, error) < 0)
        return -1;
    int result = 0;
    for (size_t i = 0; i < count && result == 0; i++)
        result = parts_add_end(parts, ids[i], error);
    free(ids);
    return result;
}

/* One side of the frame: `wanted` without the key. A token that the file does not name cannot be added. */
static int read_side(const struct gguf *gguf, const char *flag, const char *key, bool *wanted,
                     struct tokenizer_parts *parts, struct frame_side *side, struct error *error)
{
    int64_t value = *wanted, id;
    if (gguf_has(gguf, flag) && gguf_get_integer(gguf, flag, 0, 1, &value, error) < 0)
        return -1;
    *wanted = value == 1;
    if (*wanted && !gguf_has(gguf, key) && gguf_has(gguf, flag))
        parts_warn_unnamed(parts, side, flag, key);
    if (!*wanted || !gguf_has(gguf, key))
        return 0;
    if (read_id(gguf, key, &id, error) < 0)
        return -1;
    return parts_frame_id(parts, id, side, error) < 0 ? error_prefix(error, "%s: %s", gguf_path(gguf), key) : 0;
}

static int read_frame(const struct gguf *gguf, bool begins, struct tokenizer_parts *parts, struct error *error)
{
    static const char add_bos[] = "tokenizer.ggml.add_bos_token", add_eos[] = "tokenizer.ggml.add_eos_token";
    struct frame *frame = &parts->frame;
    bool ends = false;
    if (read_side(gguf, add_bos, "tokenizer.ggml.bos_token_id", &begins, parts, &frame->before, error) < 0 ||
        read_side(gguf, add_eos, "tokenizer.ggml.eos_token_id", &ends, parts, &frame->behind, error) < 0)
        return -1;
    if (gguf_has(gguf, add_bos) && (!begins || frame->before.count > 0))
        frame->source = add_bos;
    else if (frame->before.count > 0)
        frame->source = "tokenizer.ggml.pre, as llama.cpp reads it";
    else if (frame->behind.count > 0)
        frame->source = add_eos;
    return 0;
}

int parts_from_gguf(const struct gguf *gguf, struct tokenizer_parts *parts, struct error *error)
{
    struct pretokenizer_traits traits;
    parts->rules.unknown = -1;
    if (check_model(gguf, error) < 0 || read_pretokenizer(gguf, parts, &traits, error) < 0 ||
        read_tokens(gguf, parts, error) < 0 || read_merges(gguf, parts, error) < 0 ||
        read_ends(gguf, parts, error) < 0)
        return -1;
    return read_frame(gguf, traits.begins, parts, error);
}
