#include "common/text/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "common/text/unicode.h"

void parts_free(struct tokenizer_parts *parts)
{
    vocab_free(&parts->vocab);
    free(parts->rules.merges);
    pretokenizer_destroy(parts->pretokenizer);
    added_free(&parts->added);
    added_free(&parts->added_composed);
    free(parts->ends);
    *parts = (struct tokenizer_parts){0};
}

int parts_add_token(struct tokenizer_parts *parts, int32_t id, bool composed, int flags, struct error *error)
{
    const struct vocab_token *token = &parts->vocab.tokens[id];
    const char *content = token->name;
    size_t size = token->name_size;
    if (!composed || !parts->compose)
        return added_put(composed ? &parts->added_composed : &parts->added, content, size, id, flags, error);
    char *copy;
    if (!utf8_is_valid(content, size))
        return error_set(error, "added token %d is not UTF-8", id);
    if (unicode_compose(&content, &size, &copy, error) < 0)
        return -1;
    int result = added_put(&parts->added_composed, content, size, id, flags, error);
    free(copy);
    return result;
}

static int find_part(const struct tokenizer_parts *parts, size_t rank, const char *name, size_t size,
                     int32_t *id, struct error *error)
{
    *id = vocab_find(&parts->vocab, name, size);
    if (*id < 0)
        return error_set(error, "merge %zu refers to \"%.*s\", which is not in the vocabulary", rank,
                         (int)(size < 80 ? size : 80), name);
    return 0;
}

int parts_add_merge(struct tokenizer_parts *parts, size_t rank, const char *left, size_t left_size,
                    const char *right, size_t right_size, struct error *error)
{
    struct bpe_rules *rules = &parts->rules;
    struct bpe_merge merge;
    if (find_part(parts, rank, left, left_size, &merge.left, error) < 0 ||
        find_part(parts, rank, right, right_size, &merge.right, error) < 0)
        return -1;
    char *joined = memory_alloc(left_size + right_size, 1, error); /* both are names: 65535 bytes at most */
    if (!joined)
        return -1;
    memcpy(joined, left, left_size);
    memcpy(joined + left_size, right, right_size);
    int result = find_part(parts, rank, joined, left_size + right_size, &merge.joined, error);
    free(joined);
    if (result < 0 || array_grow(&rules->merges, &rules->capacity, rules->count + 1, error) < 0)
        return -1;
    rules->merges[rules->count++] = merge;
    return 0;
}

int parts_split_merge(struct tokenizer_parts *parts, size_t rank, const char *pair, size_t size,
                      struct error *error)
{
    const char *space = memchr(pair, ' ', size);
    size_t left = space ? (size_t)(space - pair) : 0;
    if (!space || memchr(space + 1, ' ', size - left - 1))
        return error_set(error, "merge %zu is \"%.*s\", not two tokens with a space between", rank,
                         (int)(size < 80 ? size : 80), pair);
    return parts_add_merge(parts, rank, pair, left, space + 1, size - left - 1, error);
}

bool parts_has_token(const struct tokenizer_parts *parts, int64_t id)
{
    return id >= 0 && id < parts->vocab.count && parts->vocab.tokens[id].kind != TOKEN_ABSENT;
}

int parts_add_end(struct tokenizer_parts *parts, int64_t id, struct error *error)
{
    if (!parts_has_token(parts, id))
        return 0;
    if (!parts->ends) {
        if (array_alloc(&parts->ends, parts->vocab.count, error) < 0)
            return -1;
        parts->first_end = (int32_t)id;
    }
    parts->ends[id] = true;
    return 0;
}

void parts_warn_unnamed(struct tokenizer_parts *parts, const struct frame_side *side, const char *flag,
                        const char *key)
{
    const bool before = side == &parts->frame.before;
    error_set(&parts->frame_warning,
              "%s asks for %s token, but the file does not name it (%s is missing): texts are used without it",
              flag, before ? "a begin-of-text" : "an end-of-text", key);
}
