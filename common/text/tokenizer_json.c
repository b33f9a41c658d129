/* The tokenizer of a Hugging Face folder: its tokenizer.json. */
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/text/tokenizer_parts.h"

enum { NESTING_LIMIT = 4 }; /* of Sequence in Sequence; real files have one */

/* A member that may be missing or null: then *value is `otherwise`. */
static int get_bool(const json_t *object, const char *key, bool otherwise, bool *value, struct error *error)
{
    const json_t *found = json_object_get(object, key);
    *value = otherwise;
    if (!found || json_is_null(found))
        return 0;
    if (!json_is_boolean(found))
        return error_set(error, "\"%s\" is not true or false", key);
    *value = json_is_true(found);
    return 0;
}

/* The "type" of a part, "" for null, NULL for something else. */
static const char *type_of(const json_t *part)
{
    if (!part || json_is_null(part))
        return "";
    return json_string_value(json_object_get(part, "type"));
}

static int unsupported(const char *part, const char *type, struct error *error)
{
    if (!type)
        return error_set(error, "the %s has no \"type\"", part);
    return error_set(error,
                     "%s \"%.80s\" is not supported (byte-level BPE is), so give the corpus as a token file",
                     part, *type ? type : "null");
}

/* null, NFC, or a Sequence of those. */
static int read_normalizer(const json_t *normalizer, int depth, struct tokenizer_parts *parts,
                           struct error *error)
{
    const char *type = type_of(normalizer);
    if (type && !*type)
        return 0;
    if (type && strcmp(type, "NFC") == 0) {
        parts->compose = true;
        return 0;
    }
    const json_t *inner = json_object_get(normalizer, "normalizers");
    if (!type || strcmp(type, "Sequence") != 0 || !json_is_array(inner) || depth == NESTING_LIMIT)
        return unsupported("normalizer", type, error);
    for (size_t i = 0; i < json_array_size(inner); i++)
        if (read_normalizer(json_array_get(inner, i), depth + 1, parts, error) < 0)
            return -1;
    return 0;
}

static int read_behavior(const json_t *split, enum split_behavior *behavior, struct error *error)
{
    static const char *const names[] = {
        [SPLIT_ISOLATED] = "Isolated",
        [SPLIT_REMOVED] = "Removed",
        [SPLIT_CONTIGUOUS] = "Contiguous",
        [SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
        [SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
    };
    const char *name;
    if (json_get_string("Split", split, "behavior", &name, error) < 0)
        return -1;
    for (int i = 0; i <= SPLIT_MERGED_WITH_NEXT; i++)
        if (strcmp(names[i], name) == 0) {
            *behavior = (enum split_behavior)i;
            return 0;
        }
    return error_set(error, "Split: behavior \"%.80s\" is not known", name);
}

static int read_split(const json_t *split, struct pretokenizer *pretokenizer, struct error *error)
{
    const json_t *pattern = json_object_get(split, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex"), *literal = json_object_get(pattern, "String");
    const json_t *text = regex ? regex : literal;
    enum split_behavior behavior = SPLIT_ISOLATED;
    bool invert;
    if (!json_is_string(text))
        return error_set(error, "Split: the pattern is neither {\"Regex\": text} nor {\"String\": text}");
    if (read_behavior(split, &behavior, error) < 0 || get_bool(split, "invert", false, &invert, error) < 0)
        return -1;
    return pretokenizer_add_split(pretokenizer, json_string_value(text), json_string_length(text), !regex,
                                  behavior, invert, error);
}

/* Stages are added as they come; `byte_level` says whether the last one, which turns text into bytes, has
 * been. */
static int read_pretokenizer(const json_t *stage, int depth, struct pretokenizer *pretokenizer,
                             bool *byte_level, struct error *error)
{
    const char *type = type_of(stage);
    bool prefix, regex, individual;
    if (type && *byte_level)
        return error_set(error, "pre_tokenizer \"%.80s\" after ByteLevel is not supported", type);
    if (type && strcmp(type, "ByteLevel") == 0) {
        *byte_level = true;
        if (get_bool(stage, "add_prefix_space", true, &prefix, error) < 0 ||
            get_bool(stage, "use_regex", true, &regex, error) < 0)
            return -1;
        return pretokenizer_add_byte_level(pretokenizer, prefix, regex, error);
    }
    if (type && strcmp(type, "Split") == 0)
        return read_split(stage, pretokenizer, error);
    if (type && strcmp(type, "Digits") == 0) {
        if (get_bool(stage, "individual_digits", false, &individual, error) < 0)
            return -1;
        return pretokenizer_add_digits(pretokenizer, individual, error);
    }
    const json_t *inner = json_object_get(stage, "pretokenizers");
    if (!type || strcmp(type, "Sequence") != 0 || !json_is_array(inner) || depth == NESTING_LIMIT)
        return unsupported("pre_tokenizer", type, error);
    for (size_t i = 0; i < json_array_size(inner); i++)
        if (read_pretokenizer(json_array_get(inner, i), depth + 1, pretokenizer, byte_level, error) < 0)
            return -1;
    return 0;
}

/* What changes how a BPE model works is there as null, false, 0 or "" in byte-level models. */
static int check_model(const json_t *model, struct error *error)
{
    static const char *const unused[] = {"byte_fallback", "dropout", "continuing_subword_prefix",
                                         "end_of_word_suffix"};
    if (!json_is_object(model))
        return error_set(error, "\"model\" is not an object");
    const json_t *type = json_object_get(model, "type"); /* GPT-2's own file has none */
    if (type && (!json_is_string(type) || strcmp(json_string_value(type), "BPE") != 0))
        return unsupported("model", type_of(model), error);
    for (size_t i = 0; i < sizeof unused / sizeof *unused; i++) {
        const json_t *value = json_object_get(model, unused[i]);
        bool nothing = !value || json_is_null(value) || json_is_false(value) ||
                       (json_is_string(value) && json_string_length(value) == 0) ||
                       (json_is_number(value) && json_number_value(value) == 0);
        if (!nothing)
            return error_set(error, "\"%s\" in \"model\" is not supported, so give the corpus as a token file",
                             unused[i]);
    }
    return 0;
}

/* The largest id in the vocabulary and among the added tokens; their ids need not be in a row. */
static int read_size(json_t *vocab, const json_t *added, size_t *size, struct error *error)
{
    const char *name;
    json_t *id;
    size_t index;
    *size = 0;
    json_object_foreach(vocab, name, id)
    {
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= VOCAB_LIMIT)
            return error_set(error, "the id of token \"%.80s\" is not a number in 0 .. %d", name,
                             VOCAB_LIMIT - 1);
        if ((size_t)json_integer_value(id) >= *size)
            *size = (size_t)json_integer_value(id) + 1;
    }
    json_array_foreach(added, index, id)
    {
        int64_t value;
        if (json_get_integer("added_tokens", id, "id", 0, VOCAB_LIMIT - 1, &value, error) < 0)
            return -1;
        if ((size_t)value >= *size)
            *size = (size_t)value + 1;
    }
    return 0;
}

static int read_vocab(json_t *vocab, const json_t *added, struct tokenizer_parts *parts, struct error *error)
{
    const char *name;
    json_t *id;
    size_t size;
    if (!json_is_object(vocab))
        return error_set(error, "\"vocab\" in \"model\" is not an object");
    if (added && !json_is_array(added))
        return error_set(error, "\"added_tokens\" is not an array");
    if (read_size(vocab, added, &size, error) < 0 || vocab_create(&parts->vocab, size, error) < 0)
        return -1;
    json_object_foreach(vocab, name, id) if (vocab_set(&parts->vocab, json_integer_value(id), name,
                                                       strlen(name), TOKEN_MODEL, error) < 0) return -1;
    return 0;
}

/* A token may be in the vocabulary as well, with the same id. */
static int read_added_token(const json_t *entry, struct tokenizer_parts *parts, struct error *error)
{
    const char *content;
    int64_t id;
    bool special, normalized, single_word, lstrip, rstrip;
    if (json_get_string("added_tokens", entry, "content", &content, error) < 0 ||
        json_get_integer("added_tokens", entry, "id", 0, parts->vocab.count - 1, &id, error) < 0 ||
        get_bool(entry, "special", false, &special, error) < 0 ||
        get_bool(entry, "normalized", true, &normalized, error) < 0 ||
        get_bool(entry, "single_word", false, &single_word, error) < 0 ||
        get_bool(entry, "lstrip", false, &lstrip, error) < 0 ||
        get_bool(entry, "rstrip", false, &rstrip, error) < 0)
        return -1;
    if (single_word)
        return error_set(error, "added token \"%.80s\": \"single_word\" is not supported", content);
    enum token_kind kind = special ? TOKEN_SPECIAL : TOKEN_ADDED;
    int32_t there = vocab_find(&parts->vocab, content, strlen(content));
    if (there >= 0 && there != id)
        return error_set(error, "added token \"%.80s\" has id %d and, in the vocabulary, %d", content, (int)id,
                         there);
    if (there >= 0)
        vocab_add(&parts->vocab, there, kind);
    else if (vocab_set(&parts->vocab, id, content, strlen(content), kind, error) < 0)
        return -1;
    int flags =
        (special ? ADDED_SPECIAL : 0) | (lstrip ? ADDED_STRIP_LEFT : 0) | (rstrip ? ADDED_STRIP_RIGHT : 0);
    return parts_add_token(parts, (int32_t)id, normalized, flags, error);
}

/* "a b" or ["a", "b"]. */
static int read_merge(const json_t *merge, size_t rank, struct tokenizer_parts *parts, struct error *error)
{
    if (json_is_string(merge))
        return parts_split_merge(parts, rank, json_string_value(merge), json_string_length(merge), error);
    const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
    if (json_array_size(merge) != 2 || !json_is_string(left) || !json_is_string(right))
        return error_set(error, "merge %zu is neither \"a b\" nor [\"a\", \"b\"]", rank);
    return parts_add_merge(parts, rank, json_string_value(left), json_string_length(left),
                           json_string_value(right), json_string_length(right), error);
}

static int read_rules(const json_t *model, struct tokenizer_parts *parts, struct error *error)
{
    const json_t *merges = json_object_get(model, "merges"), *unknown = json_object_get(model, "unk_token");
    struct bpe_rules *rules = &parts->rules;
    if (!json_is_array(merges))
        return error_set(error, "\"merges\" in \"model\" is not an array");
    for (size_t i = 0; i < json_array_size(merges); i++)
        if (read_merge(json_array_get(merges, i), i, parts, error) < 0)
            return -1;
    rules->unknown = -1;
    if (json_is_string(unknown)) {
        rules->unknown = vocab_find(&parts->vocab, json_string_value(unknown), json_string_length(unknown));
        if (rules->unknown < 0)
            return error_set(error, "unk_token \"%.80s\" is not in the vocabulary", json_string_value(unknown));
    }
    if (get_bool(model, "fuse_unk", false, &rules->fuse_unknown, error) < 0)
        return -1;
    return get_bool(model, "ignore_merges", false, &rules->ignore_merges, error);
}

static int read_tokenizer(const json_t *root, struct tokenizer_parts *parts, struct error *error)
{
    json_t *model = json_object_get(root, "model"), *added = json_object_get(root, "added_tokens");
    const char *decoder = type_of(json_object_get(root, "decoder"));
    bool byte_level = false;
    if (check_model(model, error) < 0 ||
        read_normalizer(json_object_get(root, "normalizer"), 0, parts, error) < 0 ||
        pretokenizer_create(&parts->pretokenizer, error) < 0 ||
        read_pretokenizer(json_object_get(root, "pre_tokenizer"), 0, parts->pretokenizer, &byte_level, error) <
            0)
        return -1;
    if (!byte_level)
        return error_set(error,
                         "no ByteLevel pre_tokenizer (only byte-level BPE is supported), so give the corpus as "
                         "a token file");
    if (!decoder || strcmp(decoder, "ByteLevel") != 0)
        return unsupported("decoder", decoder, error);
    if (json_is_null(added))
        added = NULL;
    if (read_vocab(json_object_get(model, "vocab"), added, parts, error) < 0)
        return -1;
    for (size_t i = 0; i < json_array_size(added); i++)
        if (read_added_token(json_array_get(added, i), parts, error) < 0)
            return -1;
    if (added_sort(&parts->added, error) < 0 || added_sort(&parts->added_composed, error) < 0)
        return -1;
    return read_rules(model, parts, error) < 0
               ? -1
               : parts_read_frame(json_object_get(root, "post_processor"), parts, error);
}

int parts_from_folder(const char *folder, struct tokenizer_parts *parts, struct error *error)
{
    char *path = path_join(folder, "tokenizer.json", error);
    json_t *root = path ? json_read_fetched(path, error) : NULL;
    int result = -1;
    if (root) {
        result = read_tokenizer(root, parts, error);
        if (result < 0)
            error_prefix(error, "%s", path);
    }
    json_decref(root);
    free(path);
    return result < 0 ? -1 : parts_read_beside(folder, parts, error);
}
