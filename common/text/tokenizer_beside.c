/* What the files beside tokenizer.json say of it: which ids end a text, and what goes around one. transformers
 * has the latter in tokenizer.json; before version 5 "add_bos_token" and "add_eos_token" of
 * tokenizer_config.json went before it in Llama's class of tokenizers, and some (DeepSeek-R1's distilled ones)
 * say it only there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/text/tokenizer_parts.h"

/* A file of the folder; *value is NULL, without an error, when it is not there. */
static int read_file(const char *folder, const char *name, json_t **value, struct error *error)
{
    char *path = path_join(folder, name, error);
    *value = NULL;
    if (!path)
        return -1;
    const bool there = file_exists(path);
    if (there)
        *value = json_read_fetched(path, error);
    free(path);
    return there && !*value ? -1 : 0;
}

/* A text, or an object with the text as "content"; NULL when it is neither. */
static const json_t *token_text(const json_t *config, const char *key)
{
    const json_t *token = json_object_get(config, key);
    if (json_is_object(token))
        token = json_object_get(token, "content");
    return json_is_string(token) ? token : NULL;
}

static int32_t find_token(const struct tokenizer_parts *parts, const json_t *text)
{
    return text ? vocab_find(&parts->vocab, json_string_value(text), json_string_length(text)) : -1;
}

/* One value of eos_token_id. What is not an id of a token ends nothing, and is warned of. */
static int read_end(const char *name, const json_t *value, struct tokenizer_parts *parts, struct error *error)
{
    const int64_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    if (parts_has_token(parts, id))
        return parts_add_end(parts, id, error);
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    if (!parts->warning.text[0])
        error_set(&parts->warning,
                  "%s: \"eos_token_id\" holds %.40s, which is not an id of the tokenizer (0 .. %d): "
                  "generation does not end there",
                  name, text ? text : "a value", (int)parts->vocab.count - 1);
    free(text);
    return 0;
}

/* eos_token_id (a number or a list of them), or eos_token. `name` is the file's. */
static int read_ends(const char *name, const json_t *config, struct tokenizer_parts *parts, struct error *error)
{
    const json_t *ids = json_object_get(config, "eos_token_id");
    if (ids && !json_is_null(ids) && !json_is_array(ids) && read_end(name, ids, parts, error) < 0)
        return -1;
    for (size_t i = 0; i < json_array_size(ids); i++)
        if (read_end(name, json_array_get(ids, i), parts, error) < 0)
            return -1;
    return parts_add_end(parts, find_token(parts, token_text(config, "eos_token")), error);
}

/* Whether "add_bos_token": false takes a token away that tokenizer.json adds: not in classes that never
 * looked. */
static bool flag_removes(const json_t *config)
{
    const char *class = json_string_value(json_object_get(config, "tokenizer_class"));
    return !class || strncmp(class, "Llama", 5) == 0 || strncmp(class, "CodeLlama", 9) == 0;
}

/* "add_bos_token" and its token, for one side of the frame. */
static int read_side(const json_t *config, const char *flag, const char *key, struct tokenizer_parts *parts,
                     struct frame_side *side, bool *changed, struct error *error)
{
    const json_t *wanted = json_object_get(config, flag), *token = token_text(config, key);
    if (!wanted || json_is_null(wanted))
        return 0;
    if (!json_is_boolean(wanted))
        return error_set(error, "\"%s\" is not true or false", flag);
    if (json_is_true(wanted) && side->count == 0 && !token) {
        char name[64];
        snprintf(name, sizeof name, "%s of tokenizer_config.json", flag);
        parts_warn_unnamed(parts, side, name, key);
    }
    if (json_is_true(wanted) ? side->count > 0 || !token : side->count == 0 || !flag_removes(config))
        return 0;
    *changed = true;
    *side = (struct frame_side){0};
    if (json_is_false(wanted))
        return 0;
    const int32_t id = find_token(parts, token);
    if (id < 0)
        return error_set(error, "\"%s\" is \"%.80s\", which is not in the vocabulary", key,
                         json_string_value(token));
    return parts_frame_id(parts, id, side, error);
}

static int read_tokenizer_config(const json_t *config, struct tokenizer_parts *parts, struct error *error)
{
    bool changed = false;
    if (read_ends("tokenizer_config.json", config, parts, error) < 0 ||
        read_side(config, "add_bos_token", "bos_token", parts, &parts->frame.before, &changed, error) < 0 ||
        read_side(config, "add_eos_token", "eos_token", parts, &parts->frame.behind, &changed, error) < 0)
        return error_prefix(error, "tokenizer_config.json");
    if (changed)
        parts->frame.source = "tokenizer_config.json";
    return 0;
}

/* generation_config.json adds ends to those there are: what is wrong with it is only a warning. */
static int read_generation_config(const char *folder, struct tokenizer_parts *parts, struct error *error)
{
    json_t *config;
    if (read_file(folder, "generation_config.json", &config, error) < 0) {
        if (error_is_machines(error))
            return -1;
        error_set(&parts->warning,
                  "%s; it goes unread: generation ends at the tokens that the other files name", error->text);
        return 0;
    }
    int result = read_ends("generation_config.json", config, parts, error);
    json_decref(config);
    return result;
}

int parts_read_beside(const char *folder, struct tokenizer_parts *parts, struct error *error)
{
    json_t *config = NULL, *tokenizer_config = NULL;
    int result = -1;
    if (read_file(folder, "config.json", &config, error) == 0 &&
        read_ends("config.json", config, parts, error) == 0 &&
        read_generation_config(folder, parts, error) == 0 &&
        read_file(folder, "tokenizer_config.json", &tokenizer_config, error) == 0)
        result = read_tokenizer_config(tokenizer_config, parts, error);
    json_decref(config);
    json_decref(tokenizer_config);
    return result;
}
