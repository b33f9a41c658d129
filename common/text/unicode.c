#include "common/text/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "common/base/memory.h"
#include "common/base/string.h"

/* Length of the sequence that `lead` opens, and the range of its second byte (table 3-7 of the
 * Unicode standard); 0 when no sequence begins so. */
static size_t sequence_length(unsigned char lead, unsigned char *least, unsigned char *most)
{
    *least = 0x80, *most = 0xBF;
    if (lead < 0x80)
        return 1;
    if (lead < 0xC2 || lead > 0xF4)
        return 0;
    if (lead < 0xE0)
        return 2;
    if (lead == 0xE0)
        *least = 0xA0;
    if (lead == 0xED)
        *most = 0x9F;
    if (lead == 0xF0)
        *least = 0x90;
    if (lead == 0xF4)
        *most = 0x8F;
    return lead < 0xF0 ? 3 : 4;
}

int32_t utf8_decode(const char *text, size_t size, size_t *length)
{
    const unsigned char *bytes = (const unsigned char *)text;
    unsigned char least, most;
    size_t wanted = sequence_length(bytes[0], &least, &most);
    *length = 1;
    if (wanted == 0)
        return -1;
    if (wanted == 1)
        return bytes[0];
    int32_t code_point = bytes[0] & (0x7F >> wanted);
    for (; *length < wanted; ++*length) {
        if (*length == size || bytes[*length] < least || bytes[*length] > most)
            return -1;
        code_point = code_point << 6 | (bytes[*length] & 0x3F);
        least = 0x80, most = 0xBF;
    }
    return code_point;
}

size_t utf8_encode(int32_t code_point, char bytes[4])
{
    if (code_point < 0x80) {
        bytes[0] = (char)code_point;
        return 1;
    }
    size_t length = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = length - 1; i > 0; i--, code_point >>= 6)
        bytes[i] = (char)(0x80 | (code_point & 0x3F));
    bytes[0] = (char)(lead[length] | code_point);
    return length;
}

/* Bytes from the start that are valid UTF-8; plain ASCII is passed over eight at a time. */
size_t utf8_valid_size(const char *text, size_t size)
{
    size_t i = 0, length;
    while (i < size) {
        uint64_t word;
        if (size - i >= sizeof word) {
            memcpy(&word, text + i, sizeof word);
            if (!(word & UINT64_C(0x8080808080808080))) {
                i += sizeof word;
                continue;
            }
        }
        if (utf8_decode(text + i, size - i, &length) < 0)
            break;
        i += length;
    }
    return i;
}

bool utf8_is_valid(const char *text, size_t size)
{
    return utf8_valid_size(text, size) == size;
}

int utf8_repair(const char **text, size_t *size, char **copy, struct error *error)
{
    *copy = NULL;
    if (utf8_is_valid(*text, *size))
        return 0;
    char *out = memory_alloc(*size, 3, error); /* at worst every byte becomes U+FFFD: three bytes */
    if (!out)
        return -1;
    size_t filled = 0;
    for (size_t i = 0; i < *size;) {
        size_t length = utf8_valid_size(*text + i, *size - i);
        memcpy(out + filled, *text + i, length);
        filled += length;
        i += length;
        if (i < *size) {
            utf8_decode(*text + i, *size - i, &length);
            filled += utf8_encode(0xFFFD, out + filled);
            i += length;
        }
    }
    *text = *copy = out;
    *size = filled;
    return 0;
}

bool unicode_is_space(int32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
           c == 0x3000;
}

/* What Unicode 10 to 15 gave a combining class or a composition: first and last of each range. */
static const int32_t newer[][2] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},
    {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},
    {0xA82C, 0xA82C},   {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50},
    {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A},
    {0x11930, 0x11930}, {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34},
    {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97},
    {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
    {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
};

static bool is_newer(int32_t code_point)
{
    size_t low = 0, high = sizeof newer / sizeof *newer;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (code_point > newer[middle][1])
            low = middle + 1;
        else
            high = middle;
    }
    return low < sizeof newer / sizeof *newer && code_point >= newer[low][0];
}

/* Bytes from the start up to the first newer character. */
static size_t older_prefix(const char *text, size_t size)
{
    size_t i = 0, length;
    for (; i < size; i += length)
        if (is_newer(utf8_decode(text + i, size - i, &length)))
            break;
    return i;
}

/* Code points that grow, and room to sort a run of them. */
struct points {
    utf8proc_int32_t *data, *spare;
    size_t count, capacity, spare_capacity;
};

static unsigned combining_class(utf8proc_int32_t point)
{
    return (unsigned)utf8proc_get_property(point)->combining_class & 0xFF;
}

/* Counting sort of a run of marks by class; those of one class keep their order. A run may be as long as the
 * text. */
static int sort_run(struct points *points, size_t begin, size_t end, struct error *error)
{
    size_t position[257] = {0};
    if (array_grow(&points->spare, &points->spare_capacity, end - begin, error) < 0)
        return -1;
    for (size_t i = begin; i < end; i++)
        position[combining_class(points->data[i]) + 1]++;
    for (size_t class = 1; class < 256; class ++)
        position[class] += position[class - 1];
    for (size_t i = begin; i < end; i++)
        points->spare[position[combining_class(points->data[i])]++] = points->data[i];
    memcpy(points->data + begin, points->spare, (end - begin) * sizeof *points->data);
    return 0;
}

/* The canonical order: by class within each run of characters whose class is not 0. utf8proc orders by swapping
 * neighbours, which takes the square of a run's length. */
static int order_marks(struct points *points, struct error *error)
{
    for (size_t i = 0; i < points->count; i++) {
        const size_t begin = i;
        bool ordered = true;
        unsigned class, before = 0;
        for (; i < points->count && (class = combining_class(points->data[i])) != 0; i++) {
            ordered = ordered && before <= class;
            before = class;
        }
        if (!ordered && sort_run(points, begin, i, error) < 0)
            return -1;
    }
    return 0;
}

#define LONGEST_DECOMPOSITION 4 /* code points; Unicode promises never to have a longer canonical one */

static int decompose(struct points *points, const char *text, size_t size, struct error *error)
{
    int boundary = 0; /* of graphemes: not asked for */
    for (size_t i = 0, length; i < size; i += length) {
        if (array_grow(&points->data, &points->capacity, points->count + LONGEST_DECOMPOSITION + 1, error) < 0)
            return -1;
        const utf8proc_int32_t point = utf8_decode(text + i, size - i, &length);
        const utf8proc_ssize_t added =
            utf8proc_decompose_char(point, points->data + points->count, LONGEST_DECOMPOSITION,
                                    UTF8PROC_STABLE | UTF8PROC_COMPOSE, &boundary);
        if (added < 0 || added > LONGEST_DECOMPOSITION)
            return error_set(error, "normalization of %zu bytes of text: byte %zu is not UTF-8", size, i);
        points->count += (size_t)added;
    }
    return 0;
}

static int append_composed(struct string *out, const char *text, size_t size, struct error *error)
{
    struct points points = {0};
    int result = -1;
    if (size == 0)
        return 0;
    if (decompose(&points, text, size, error) < 0 || order_marks(&points, error) < 0)
        goto done;
    const utf8proc_ssize_t length =
        utf8proc_reencode(points.data, (utf8proc_ssize_t)points.count, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (length < 0) {
        error_set(error, "normalization of %zu bytes of text: %s", size, utf8proc_errmsg(length));
        goto done;
    }
    string_append(out, (const char *)points.data, (size_t)length);
    result = string_failed(out, error) ? -1 : 0;
done:
    free(points.data);
    free(points.spare);
    return result;
}

int unicode_compose(const char **text, size_t *size, char **copy, struct error *error)
{
    struct string out = {0};
    size_t i = 0;
    *copy = NULL;
    /* Nothing below U+0300 (lead byte 0xCC) combines, changes places, or is written otherwise in form C. */
    while (i < *size && (unsigned char)(*text)[i] < 0xCC)
        i++;
    if (i == *size)
        return 0;
    for (i = 0; i < *size;) { /* a newer character keeps apart what is before and behind it */
        size_t length = older_prefix(*text + i, *size - i);
        if (append_composed(&out, *text + i, length, error) < 0)
            goto fail;
        i += length;
        if (i < *size) {
            utf8_decode(*text + i, *size - i, &length);
            string_append(&out, *text + i, length);
            i += length;
        }
    }
    if (string_failed(&out, error))
        goto fail;
    *text = *copy = out.data;
    *size = out.length;
    return 0;
fail:
    string_free(&out);
    return -1;
}

bool unicode_is_inert(int32_t c)
{
    char bytes[UTF8_LONGEST], *copy;
    const char *text = bytes;
    size_t size;
    struct error ignored;
    if (c < 0x300)
        return true;
    const utf8proc_category_t category = utf8proc_category(c);
    const bool mark = category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
                      category == UTF8PROC_CATEGORY_ME;
    const bool jamo = c >= 0x1100 && c <= 0x11FF; /* the only others that join what is before them */
    size = utf8_encode(c, bytes);
    if (mark || jamo || unicode_compose(&text, &size, &copy, &ignored) < 0)
        return false;
    const bool same = size == utf8_encode(c, bytes) && memcmp(text, bytes, size) == 0;
    free(copy);
    return same;
}
