/* Where a text may be cut so that its tokens stay as they are. Each stage of tokenizer_encode has a condition:
 *
 * - Added tokens: the search finds the same ones on both sides, because none lies across the boundary. None ends there, because it may
 *   take the white space behind it. None begins there after white space, because it may take that. A token further away takes white
 *   space only up to the character before the boundary, or, where that is white space, up to the one behind it.
 * - Normalization: other characters neither change nor move those beside the boundary.
 * - The pretokenizer: pretokenizer_parts. Merges stay within its pretokens.
 */
#include "common/text/tokenizer_parts.h"
#include "common/text/unicode.h"

/* A boundary between two characters of a text. */
struct boundary {
    const char *text;
    size_t size, at;
    size_t before, behind; /* the first byte of the character before it, the end of the one behind it */
};

static bool is_continuation(char byte)
{
    return ((unsigned char)byte & 0xC0) == 0x80;
}

static bool is_apart(const struct added *added, const struct boundary *boundary, bool space_before)
{
    struct added_token token;
    const size_t first = boundary->at > added->longest ? boundary->at - added->longest : 0;
    for (size_t begin = first; begin < boundary->at; begin++)
        if (added_at(added, boundary->text + begin, boundary->size - begin, &token) &&
            begin + token.size >= boundary->at)
            return false;
    return !space_before ||
           !added_at(added, boundary->text + boundary->at, boundary->size - boundary->at, &token);
}

/* Tokens that are looked for in normalized text lie where they do in this one: it has, as far as they reach,
 * nothing that normalization changes. */
static bool is_inert(const struct added *composed, const struct boundary *boundary)
{
    const size_t reach = composed->longest + UTF8_LONGEST;
    const size_t end = boundary->at + reach < boundary->size ? boundary->at + reach : boundary->size;
    size_t i = boundary->at > reach ? boundary->at - reach : 0, length;
    while (i > 0 && is_continuation(boundary->text[i]))
        i--;
    for (; i < end; i += length)
        if (!unicode_is_inert(utf8_decode(boundary->text + i, boundary->size - i, &length)))
            return false;
    return true;
}

static bool is_cut(const struct tokenizer_parts *parts, const struct boundary *boundary,
                   struct pretokenizer_work *work)
{
    const char *pair = boundary->text + boundary->before;
    size_t length;
    if (!pretokenizer_parts(parts->pretokenizer, pair, boundary->behind - boundary->before, work))
        return false;
    const int32_t left = utf8_decode(pair, boundary->at - boundary->before, &length);
    const int32_t right = utf8_decode(boundary->text + boundary->at, boundary->behind - boundary->at, &length);
    const bool space = unicode_is_space(left);
    if (parts->compose && (!unicode_is_inert(left) || !unicode_is_inert(right) ||
                           (parts->added_composed.count > 0 && !is_inert(&parts->added_composed, boundary))))
        return false;
    return is_apart(&parts->added, boundary, space) && is_apart(&parts->added_composed, boundary, space);
}

size_t parts_find_cut(const struct tokenizer_parts *parts, const char *text, size_t from, size_t size)
{
    struct pretokenizer_work work = {0};
    const size_t composed = parts->added_composed.longest + 2 * UTF8_LONGEST;
    const size_t reach = parts->added.longest > composed ? parts->added.longest : composed;
    struct boundary boundary = {.text = text, .size = size, .at = size > reach ? size - reach : 0};
    while (boundary.at > 0 && is_continuation(text[boundary.at]))
        boundary.at--;
    for (; boundary.at > from; boundary.at = boundary.before) {
        boundary.before = boundary.at - 1;
        while (boundary.before > 0 && is_continuation(text[boundary.before]))
            boundary.before--;
        boundary.behind = boundary.at + 1;
        while (boundary.behind < size && is_continuation(text[boundary.behind]))
            boundary.behind++;
        if (is_cut(parts, &boundary, &work))
            break;
    }
    pretokenizer_work_free(&work);
    return boundary.at > from ? boundary.at : 0;
}
