/* What --codec says of each tap, and the numerics that codecs add to. */
#include <string.h>
#include <zstd.h>

#include "common/store/codecs.h"
#include "tests/test.h"

enum { LAYERS = 4, TAPS = 4 };

static const struct tap taps[TAPS] = {
    {2, true}, {2, false}, {4, false}, {5, false}}; /* 2.mid, 2, final, target */

TEST(codecs_of_taps)
{
    static const struct {
        const char *text, *names[TAPS];
    } good[] = {
        {"raw", {"raw", "raw", "raw", "raw"}},
        {"2=q8", {"lossless", "q8", "lossless", "lossless"}},
        {"klt:4,final=raw", {"klt:4", "klt:4", "raw", "raw"}},
        {"klt:kl=0.01", {"klt:kl=0.01", "klt:kl=0.01", "klt:kl=0.01", "lossless"}},
        {"2=klt:kl=0.01,q8", {"q8", "klt:kl=0.01", "q8", "q8"}},
        {"2.mid=raw:f32,klt:kl=0.5,target=klt:3", {"raw:f32", "klt:kl=0.5", "klt:kl=0.5", "klt:3"}},
        {"4=klt:kl=1e-3,2=raw:f32", {"lossless", "raw:f32", "klt:kl=0.001", "lossless"}},
    };
    struct error error;
    struct codec_choice choices[TAPS];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        REQUIRE_OK(codecs_check(good[i].text, &error));
        REQUIRE_OK(codecs_parse(good[i].text, taps, TAPS, LAYERS, choices, &error));
        for (int tap = 0; tap < TAPS; tap++)
            if (strcmp(choices[tap].name, good[i].names[tap]) != 0)
                test_fail(__FILE__, __LINE__, "%s: tap %d has %s", good[i].text, tap, choices[tap].name);
    }
}

TEST(codecs_that_are_wrong)
{
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"kl=0.01", "\"kl=0.01\": kl is not a tap: write TAP=CODEC (12=klt:3, final=klt:kl=0.01), or CODEC"},
        {"raw,kl=0.01", "\"kl=0.01\": kl is not a tap"},
        {"klt=4", "\"klt=4\": klt is not a tap"},
        {"2=kl=0.01",
         "there is no codec \"kl=0.01\"; choose one of raw:f32, raw, lossless, q8, klt:BITS or klt:kl=NATS"},
        {"klt", "klt: say how fine, as klt:BITS or klt:kl=NATS"},
        {"klt:kl", "klt:kl"},
        {"=raw", "\"=raw\":  is not a tap"},
        {"2=", "there is no codec \"\""},
        {"bits=raw", "bits is not a tap"},
    };
    struct error error;
    struct codec_choice choices[TAPS];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(codecs_check(bad[i].text, &error) < 0);
        CHECK_TEXT(error.text, bad[i].part);
        CHECK(codecs_parse(bad[i].text, taps, TAPS, LAYERS, choices, &error) < 0);
        CHECK_TEXT(error.text, bad[i].part);
    }
    REQUIRE_OK(codecs_check("3=raw", &error));
    CHECK(codecs_parse("3=raw", taps, TAPS, LAYERS, choices, &error) < 0);
    CHECK_TEXT(error.text, "tap 3 is not one of the store's taps");
}

/* zstd's version is part of a store's numerics where its bytes are zstd's, and there alone. */
TEST(codecs_add_to_numerics)
{
    static const struct {
        const char *codecs;
        bool packs;
    } cases[] = {
        {"raw", false},       {"raw:f32", false},      {"klt:4", false},   {"lossless", true},
        {"q8", true},         {"raw,target=q8", true}, {"raw,2=q8", true}, {"klt:4,final=lossless", true},
        {"klt:kl=0.01", true} /* of the target */};
    struct error error;
    struct codec_choice choices[TAPS];
    char expected[NUMERICS_SIZE], text[NUMERICS_SIZE];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        REQUIRE_OK(codecs_parse(cases[i].codecs, taps, TAPS, LAYERS, choices, &error));
        snprintf(expected, sizeof expected, "cpu avx2 f32 onednn-2.6.3%s%s", cases[i].packs ? " zstd-" : "",
                 cases[i].packs ? ZSTD_versionString() : "");
        codecs_numerics("cpu avx2 f32 onednn-2.6.3", choices, TAPS, text);
        CHECK(strcmp(text, expected) == 0);
        codecs_numerics("cpu avx2 f32 onednn-2.6.3 zstd-0.9.1", choices, TAPS, text); /* another store's */
        CHECK(strcmp(text, expected) == 0);
    }
}

TEST_MAIN
