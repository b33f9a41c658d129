/* head_taps.c: the taps that a head reads: of a draft up to HEAD_TAPS, of other kinds one. */
#include <stdio.h>
#include <string.h>

#include "common/head/head.h"

int head_spec_taps(const struct head_spec *spec, struct tap taps[HEAD_TAPS])
{
    for (int i = 0; i < spec->befores; i++)
        taps[i] = spec->before[i];
    taps[spec->befores] = spec->tap;
    return spec->befores + 1;
}

int head_spec_parse_taps(const char *text, int layers, struct head_spec *spec, struct error *error)
{
    spec->befores = 0;
    for (const char *at = text;;) {
        const size_t length = strcspn(at, "+");
        char name[TAP_NAME_SIZE];
        struct tap tap;
        if (length >= sizeof name)
            return error_set(error, "\"%.40s\" is not a tap (such as 12, 12.mid or final)", at);
        memcpy(name, at, length);
        name[length] = 0;
        if (tap_parse(name, layers, &tap, error) < 0)
            return -1;
        const bool last = !at[length];
        if (spec->befores > 0 && tap_compare(spec->before[spec->befores - 1], tap) >= 0)
            return error_set(error, "the taps of \"%.40s\" do not ascend; write for instance 2+15+27", text);
        if (last) {
            spec->tap = tap;
            return 0;
        }
        if (spec->befores == HEAD_TAPS - 1)
            return error_set(error, "\"%.40s\" are more than %d taps", text, HEAD_TAPS);
        spec->before[spec->befores++] = tap;
        at += length + 1;
    }
}

void head_spec_name_taps(const struct head_spec *spec, int layers, char name[TAPS_NAME_SIZE])
{
    struct tap taps[HEAD_TAPS];
    const int count = head_spec_taps(spec, taps);
    size_t used = 0;
    for (int i = 0; i < count; i++) {
        char one[TAP_NAME_SIZE];
        tap_name(taps[i], layers, one);
        used += (size_t)snprintf(name + used, TAPS_NAME_SIZE - used, "%s%s", i ? "+" : "", one);
    }
}

bool head_spec_equal(const struct head_spec *a, const struct head_spec *b)
{
    struct tap one[HEAD_TAPS], other[HEAD_TAPS];
    const int count = head_spec_taps(a, one);
    bool same = head_specs_join(a, b) && a->output == b->output && a->draft_vocab == b->draft_vocab &&
                head_spec_taps(b, other) == count;
    for (int i = 0; i < count && same; i++)
        same = tap_compare(one[i], other[i]) == 0;
    return same;
}
