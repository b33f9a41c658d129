/* Where a text may be cut so that its tokens stay as they are. Each stage of tokenizer_encode has its condition:
 *
 * - Added tokens: none lies across the place, so that the search finds the same ones on both sides. None ends
 *   there, since it may take the white space behind it, and none begins there behind white space, which it may
 *   take; further away, the character before the place ends what is taken, unless that is white space, and then
 *   the one behind it does.
 * - Normalization: the characters beside the place are neither changed nor moved by others.
 * - The pretokenizer: pretokenizer_parts. Merges stay within its pieces.
 */
#include "common/text/tokenizer_parts.h"
#include "common/text/unicode.h"

/* A place between two characters of a text. */
struct place {
    const char *text;
    size_t size, at;
    size_t before, behind; /* the first byte of the character before it, the end of the one behind it */
};

static bool is_continuation(char byte)
{
    return ((unsigned char)byte & 0xC0) == 0x80;
}

static bool is_apart(const struct added *added, const struct place *place, bool space_before)
{
    struct added_token token;
    const size_t first = place->at > added->longest ? place->at - added->longest : 0;
    for (size_t begin = first; begin < place->at; begin++)
        if (added_at(added, place->text + begin, place->size - begin, &token) &&
            begin + token.size >= place->at)
            return false;
    return !space_before || !added_at(added, place->text + place->at, place->size - place->at, &token);
}

/* Tokens that are looked for in normalized text lie where they do in this one: it has, as far as they reach,
 * nothing that normalization changes. */
static bool is_inert(const struct added *composed, const struct place *place)
{
    const size_t reach = composed->longest + UTF8_LONGEST;
    const size_t end = place->at + reach < place->size ? place->at + reach : place->size;
    size_t i = place->at > reach ? place->at - reach : 0, length;
    while (i > 0 && is_continuation(place->text[i]))
        i--;
    for (; i < end; i += length)
        if (!unicode_is_inert(utf8_decode(place->text + i, place->size - i, &length)))
            return false;
    return true;
}

static bool is_cut(const struct tokenizer_parts *parts, const struct place *place,
                   struct pretokenizer_work *work)
{
    const char *pair = place->text + place->before;
    size_t length;
    if (!pretokenizer_parts(parts->pretokenizer, pair, place->behind - place->before, work))
        return false;
    const int32_t left = utf8_decode(pair, place->at - place->before, &length);
    const int32_t right = utf8_decode(place->text + place->at, place->behind - place->at, &length);
    const bool space = unicode_is_space(left);
    if (parts->compose && (!unicode_is_inert(left) || !unicode_is_inert(right) ||
                           (parts->added_composed.count > 0 && !is_inert(&parts->added_composed, place))))
        return false;
    return is_apart(&parts->added, place, space) && is_apart(&parts->added_composed, place, space);
}

size_t parts_find_cut(const struct tokenizer_parts *parts, const char *text, size_t from, size_t size)
{
    struct pretokenizer_work work = {0};
    const size_t composed = parts->added_composed.longest + 2 * UTF8_LONGEST;
    const size_t reach = parts->added.longest > composed ? parts->added.longest : composed;
    struct place place = {.text = text, .size = size, .at = size > reach ? size - reach : 0};
    while (place.at > 0 && is_continuation(text[place.at]))
        place.at--;
    for (; place.at > from; place.at = place.before) {
        place.before = place.at - 1;
        while (place.before > 0 && is_continuation(text[place.before]))
            place.before--;
        place.behind = place.at + 1;
        while (place.behind < size && is_continuation(text[place.behind]))
            place.behind++;
        if (is_cut(parts, &place, &work))
            break;
    }
    pretokenizer_work_free(&work);
    return place.at > from ? place.at : 0;
}
