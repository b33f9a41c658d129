#include "common/text/added.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "common/text/unicode.h"

void added_free(struct added *added)
{
    for (size_t i = 0; i < added->count; i++)
        free(added->tokens[i].content);
    free(added->tokens);
    *added = (struct added){0};
}

int added_put(struct added *added, const char *content, size_t size, int32_t id, int flags, struct error *error)
{
    if (size == 0 || !utf8_is_valid(content, size))
        return error_set(error, "added token %d is empty or not UTF-8", id);
    if (array_grow(&added->tokens, &added->capacity, added->count + 1, error) < 0)
        return -1;
    char *copy = memory_alloc(1, size, error);
    if (!copy)
        return -1;
    memcpy(copy, content, size);
    added->tokens[added->count++] = (struct added_token){copy, size, id, flags};
    added->begins[(unsigned char)content[0]] = true;
    if (size > added->longest)
        added->longest = size;
    return 0;
}

static int compare_contents(const void *a, const void *b)
{
    const struct added_token *left = a, *right = b;
    size_t shared = left->size < right->size ? left->size : right->size;
    int order = memcmp(left->content, right->content, shared);
    return order ? order : (left->size > right->size) - (left->size < right->size);
}

int added_sort(struct added *added, struct error *error)
{
    if (added->count == 0)
        return 0;
    qsort(added->tokens, added->count, sizeof *added->tokens, compare_contents);
    for (size_t i = 1; i < added->count; i++)
        if (compare_contents(&added->tokens[i - 1], &added->tokens[i]) == 0)
            return error_set(
                error, "added tokens %d and %d are both \"%.*s\"", added->tokens[i - 1].id, added->tokens[i].id,
                (int)(added->tokens[i].size < 80 ? added->tokens[i].size : 80), added->tokens[i].content);
    return 0;
}

/* The first token of low .. high-1 whose byte at `depth` is at least `byte`; all share what is before. A
 * token that ends at `depth` comes before all others. */
static size_t lower_bound(const struct added *added, size_t low, size_t high, size_t depth, int byte)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct added_token *token = &added->tokens[middle];
        int there = token->size > depth ? (unsigned char)token->content[depth] : -1;
        if (there < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest token that begins the text, or NULL: the sorted tokens are walked like a trie. */
static const struct added_token *longest(const struct added *added, const char *text, size_t size)
{
    if (size == 0 || !added->begins[(unsigned char)text[0]])
        return NULL;
    const struct added_token *best = NULL;
    size_t low = 0, high = added->count;
    for (size_t depth = 0; depth < size; depth++) {
        int byte = (unsigned char)text[depth];
        low = lower_bound(added, low, high, depth, byte);
        high = lower_bound(added, low, high, depth, byte + 1);
        if (low == high)
            break;
        if (added->tokens[low].size == depth + 1)
            best = &added->tokens[low];
    }
    return best;
}

bool added_at(const struct added *added, const char *text, size_t size, struct added_token *token)
{
    const struct added_token *found = longest(added, text, size);
    if (found)
        *token = *found;
    return found != NULL;
}

/* Where the white space before `at` begins. */
static size_t strip_left(const char *text, size_t at)
{
    while (at > 0) {
        size_t begin = at - 1, length;
        while (begin > 0 && ((unsigned char)text[begin] & 0xC0) == 0x80)
            begin--;
        if (!unicode_is_space(utf8_decode(text + begin, at - begin, &length)))
            break;
        at = begin;
    }
    return at;
}

/* Where the white space from `at` on ends. */
static size_t strip_right(const char *text, size_t size, size_t at)
{
    size_t length;
    while (at < size && unicode_is_space(utf8_decode(text + at, size - at, &length)))
        at += length;
    return at;
}

bool added_find(const struct added *added, const char *text, size_t size, bool skip_special, size_t *search,
                struct added_match *match)
{
    if (added->count == 0)
        return false;
    for (size_t at = *search; at < size; at++) {
        const struct added_token *token = longest(added, text + at, size - at);
        if (!token)
            continue;
        size_t end = at + token->size;
        if (skip_special && token->flags & ADDED_SPECIAL) {
            at = end - 1;
            continue;
        }
        match->id = token->id;
        match->begin = token->flags & ADDED_STRIP_LEFT ? strip_left(text, at) : at;
        match->end = token->flags & ADDED_STRIP_RIGHT ? strip_right(text, size, end) : end;
        *search = end;
        return true;
    }
    return false;
}
