#include <stdlib.h>
#include <utf8proc.h>

#include "common/text/unicode.h"
#include "tests/test.h"

static void check_repair(const char *text, size_t size, const char *expected)
{
    struct error error = {0};
    const char *result = text;
    char *copy;
    REQUIRE_OK(utf8_repair(&result, &size, &copy, &error));
    if (size != strlen(expected) || memcmp(result, expected, size) != 0)
        test_fail(__FILE__, __LINE__, "repaired to \"%.*s\", not \"%s\"", (int)size, result, expected);
    CHECK((copy == NULL) == (result == text));
    free(copy);
}
#define CHECK_REPAIR(text, expected) check_repair(text, sizeof(text) - 1, expected)

TEST(utf8_valid_text_is_not_copied)
{
    CHECK_REPAIR("", "");
    CHECK_REPAIR("plain text of more than eight bytes", "plain text of more than eight bytes");
    CHECK_REPAIR(
        "\x7F \xC2\x80 \xDF\xBF \xE0\xA0\x80 \xED\x9F\xBF \xEF\xBF\xBF \xF0\x90\x80\x80 \xF4\x8F\xBF\xBF",
        "\x7F \xC2\x80 \xDF\xBF \xE0\xA0\x80 \xED\x9F\xBF \xEF\xBF\xBF \xF0\x90\x80\x80 \xF4\x8F\xBF\xBF");
}

#define R "\xEF\xBF\xBD"
TEST(utf8_each_maximal_subpart_is_one_replacement)
{
    CHECK_REPAIR("\x80", R);
    CHECK_REPAIR("a\xFFz", "a" R "z");
    CHECK_REPAIR("\xC0\xAF", R R); /* overlong */
    CHECK_REPAIR("\xE0\x80\x80", R R R);
    CHECK_REPAIR("\xF0\x8F\xBF\xBF", R R R R);
    CHECK_REPAIR("\xED\xA0\x80", R R R); /* a surrogate */
    CHECK_REPAIR("\xF4\x90\x80\x80", R R R R); /* above U+10FFFF */
    CHECK_REPAIR("\xF5\x80", R R);
    CHECK_REPAIR("\xE2\x82", R); /* cut short */
    CHECK_REPAIR("\xE2\x82z", R "z");
    CHECK_REPAIR("\xF0\x9F\x98", R);
    CHECK_REPAIR("\xF0\x9F\x98\xE2\x82\xAC", R "\xE2\x82\xAC");
    CHECK_REPAIR("12345678\xC3", "12345678" R); /* behind a run that is passed over as words */
    CHECK_REPAIR("\xC3\xC3\xC3", R R R);
}

TEST(utf8_encode_and_decode_every_code_point)
{
    int wrong = 0;
    for (int32_t c = 0; c < 0x110000; c++) {
        char bytes[4];
        size_t length, size = utf8_encode(c, bytes);
        int32_t decoded = utf8_decode(bytes, size, &length);
        bool surrogate = c >= 0xD800 && c < 0xE000;
        wrong += surrogate ? decoded != -1 || length != 1 : decoded != c || length != size;
    }
    CHECK(wrong == 0);
}

TEST(unicode_space_is_the_white_space_property)
{
    int count = 0;
    for (int32_t c = 0; c < 0x110000; c++)
        count += unicode_is_space(c);
    CHECK(count == 25);
    CHECK(unicode_is_space(0x85) && unicode_is_space(0x2029) && unicode_is_space(0x3000));
    CHECK(!unicode_is_space(0x180E) && !unicode_is_space(0x200B) && !unicode_is_space(0xFEFF) &&
          !unicode_is_space(-1));
}

TEST(unicode_compose_makes_form_c)
{
    static const char *const cases[][2] = {
        {"e\u0301", "\u00E9"},
        {"\u212B", "\u00C5"}, /* a character that form C takes apart and puts together otherwise */
        {"a\u0307\u0323", "\u1EA1\u0307"}, /* marks change places */
        {"\u1100\u1161\u11A8", "\uAC01"}, /* Hangul */
        {"\uFB01", "\uFB01"}, /* compatibility characters stay */
        {"a\u0315\u1DF6\u0300", "a\u0315\u1DF6\u0300"}, /* U+1DF6 came with Unicode 10 */
        {"e\u0301\u1DF6e\u0301", "\u00E9\u1DF6\u00E9"},
        {"\U00011935\U00011930", "\U00011935\U00011930"}, /* U+11938 with Unicode 13 */
        {"\u0958", "\u0915\u093C"}, /* excluded from composition */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        const char *text = cases[i][0];
        size_t size = strlen(text);
        char *copy;
        REQUIRE_OK(unicode_compose(&text, &size, &copy, &error));
        CHECK(size == strlen(cases[i][1]) && memcmp(text, cases[i][1], size) == 0);
        free(copy);
    }
    const char *text = "Stra\u00DFe";
    size_t size = strlen(text);
    char *copy;
    struct error error = {0};
    CHECK(unicode_compose(&text, &size, &copy, &error) == 0 && copy == NULL);
}

/* Marks of several classes, and letters that they join; all of them older than Unicode 10. */
static const int32_t few[] = {'e',   'A',   0x301, 0x323,  0x327,  0x315,
                              0x345, 0x308, 0x3B9, 0x1100, 0x1161, 0x11A8};

/* Canonical order and composition by utf8proc, whose time is the square of a run's length. */
static void check_against_slow(const char *text, size_t size)
{
    struct error error = {0};
    const char *composed = text;
    size_t length = size;
    char *copy;
    utf8proc_uint8_t *slow = NULL;
    const utf8proc_ssize_t slow_length = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size,
                                                      &slow, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    REQUIRE_OK(unicode_compose(&composed, &length, &copy, &error));
    if (slow_length < 0 || (size_t)slow_length != length || memcmp(slow, composed, length) != 0)
        test_fail(__FILE__, __LINE__, "\"%.*s\" becomes \"%.*s\"", (int)size, text, (int)length, composed);
    free(copy);
    free(slow);
}

TEST(unicode_compose_orders_marks_as_utf8proc_does)
{
    uint32_t random = 1;
    for (int round = 0; round < 20000; round++) {
        char text[64];
        size_t size = 0;
        for (int i = 0; i < 12; i++) {
            random = random * 1664525 + 1013904223;
            size += utf8_encode(few[(random >> 16) % (sizeof few / sizeof *few)], text + size);
        }
        check_against_slow(text, size);
    }
    for (int32_t c = 0x80; c < 0x3100; c++) { /* each with marks of three classes behind it */
        char text[64];
        size_t size = utf8_encode(c, text);
        for (int i = 2; i < 6; i++)
            size += utf8_encode(few[i], text + size);
        if (utf8proc_get_property(c)->combining_class == 0) /* newer marks are kept in place here, not there */
            check_against_slow(text, size);
    }
}

TEST(unicode_compose_takes_a_long_run_of_marks_in_one_go)
{
    enum { PAIRS = 300000, SIZE = 1 + 4 * PAIRS };
    struct error error = {0};
    char *text = malloc(SIZE), *copy;
    REQUIRE(text);
    text[0] = 'e';
    for (size_t i = 0; i < PAIRS; i++)
        memcpy(text + 1 + 4 * i, "\u0301\u0323", 4);
    const char *composed = text;
    size_t size = SIZE;
    REQUIRE_OK(unicode_compose(&composed, &size, &copy, &error)); /* minutes where time is the square */
    /* e with the dot below is one character; then the other dots (class 220), then the accents (230). */
    bool right = size == 3 + 2 * (PAIRS - 1) + 2 * PAIRS && memcmp(composed, "\u1EB9", 3) == 0;
    for (size_t i = 0; right && i < 2 * PAIRS - 1; i++)
        right = memcmp(composed + 3 + 2 * i, i < PAIRS - 1 ? "\u0323" : "\u0301", 2) == 0;
    CHECK(right);
    free(copy);
    free(text);
}

TEST_MAIN
