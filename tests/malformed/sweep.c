/* Sweep files that are cut anywhere, and of which any byte is another: each is read, or refused with its name and
 * most often its line. */
#include <stdlib.h>
#include <string.h>

#include "tests/small_config.h"
#include "tests/test.h"
#include "train/sweep.h"

static const char text[] = "# a sweep\n"
                           "seed: 1\n"
                           "defaults: &d {tap: 5, head: affine, init: ridge}\n"
                           "grid:\n"
                           "- tap: [6, 12.mid, \"final\"]\n"
                           "  rate: [1e-3, 3e-4]\n"
                           "- {tap: 18, loss: cross-entropy}\n"
                           "trials:\n"
                           "- *d\n"
                           "random:\n"
                           "  count: 3\n"
                           "  tap: [1, 2]\n"
                           "  rate: {log_uniform: [1e-4, 1e-2]}\n"
                           "  warmup: {integer: [0, 20]}\n";

/* Whether it is accepted. The copy has exactly that size, so that the sanitizers see every read outside. */
static bool accepted(const char *bytes, size_t size)
{
    struct error error = {0};
    struct sweep sweep;
    char *copy = malloc(size ? size : 1);
    memcpy(copy, bytes, size);
    int result = sweep_parse("s.yaml", copy, size, &sweep, &error);
    free(copy);
    if (result == 0) {
        CHECK(sweep.trials > 0);
        result = sweep_resolve(&sweep, &small, &error);
    }
    if (result < 0) {
        CHECK(!strncmp(error.text, "s.yaml: ", 8) && error.kind == ERROR_INPUT);
        CHECK(!strchr(error.text, '\n'));
    }
    sweep_free(&sweep);
    return result == 0;
}

/* What is there before a cut may be a sweep by itself. */
TEST(malformed_sweep_is_cut)
{
    int good = 0;
    for (size_t size = 0; size < sizeof text - 1; size++)
        good += accepted(text, size);
    CHECK(good > 10 && good < (int)sizeof text / 2);
}

TEST(malformed_sweep_has_another_byte)
{
    static const char others[] = " \n\t:,-[]{}&*#'\"?|>%@!<x0\x01\x80";
    char changed[sizeof text];
    for (size_t at = 0; at < sizeof text - 1; at++) {
        for (size_t i = 0; i < sizeof others; i++) { /* the zero byte behind them, too */
            memcpy(changed, text, sizeof text);
            changed[at] = others[i];
            accepted(changed, sizeof text - 1);
        }
    }
}

TEST_MAIN
