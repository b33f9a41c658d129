#include <stdlib.h>

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

TEST_MAIN
