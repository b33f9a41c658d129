#include "generate/stream.h"

#include <stdlib.h>

#include "tests/test.h"

/* Writes parts of a text and tells after each how much has come out. */
static void check_parts(const char *const *parts, const size_t *expected, int count)
{
    struct error error;
    char *out = NULL, whole[64] = "";
    size_t size = 0;
    FILE *file = open_memstream(&out, &size);
    struct stream stream = {.file = file};
    REQUIRE(file);
    for (int i = 0; i < count; i++) {
        REQUIRE_OK(stream_write(&stream, parts[i], strlen(parts[i]), &error));
        strcat(whole, parts[i]);
        if (size != expected[i])
            test_fail(__FILE__, __LINE__, "part %d: %zu bytes are out, not %zu", i, size, expected[i]);
    }
    REQUIRE_OK(stream_finish(&stream, &error));
    CHECK(size == strlen(whole) && !memcmp(out, whole, size));
    fclose(file);
    free(out);
}

TEST(stream_whole_characters)
{
    /* a, the euro sign in three parts, b; an emoji in two, with a letter behind it */
    check_parts((const char *const[]){"a\xe2", "\x82", "\xacyb", "\xf0\x9f\x98", "\x80z"},
                (const size_t[]){1, 1, 6, 6, 11}, 5);
    check_parts((const char *const[]){"\xc3", "\xa9\xc3", "\xa9"}, (const size_t[]){0, 2, 4}, 3);
    check_parts((const char *const[]){"", "plain", ""}, (const size_t[]){0, 5, 5}, 3);
}

/* Bytes that are not UTF-8 are not held for ever. */
TEST(stream_other_bytes)
{
    check_parts((const char *const[]){"\xe2", "xy"}, (const size_t[]){0, 3}, 2);
    check_parts((const char *const[]){"\xff\xfe", "\x80\x80\x80\x80"}, (const size_t[]){2, 6}, 2);
    check_parts((const char *const[]){"\xe2", "\xf0", "\x9f\x98\x80"}, (const size_t[]){0, 1, 5}, 3);
    check_parts((const char *const[]){"ab\xe2\x82"}, (const size_t[]){2}, 1); /* ends inside */
}

TEST(stream_full_disk)
{
    struct error error;
    FILE *file = fopen("/dev/full", "w");
    struct stream stream = {.file = file};
    if (!file) {
        test_skip("there is no /dev/full");
        return;
    }
    CHECK(stream_write(&stream, "text", 4, &error) < 0);
    CHECK_TEXT(error.text, "No space left");
    fclose(file);
}

TEST_MAIN
