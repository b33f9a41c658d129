/* The demo model's tokenizer against ids that Hugging Face `tokenizers` computed: tests/golden/tokenizer.jsonl,
 * written by tests/interop/tokenizer.py --golden. */
#include <stdlib.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/text/tokenizer.h"
#include "tests/test.h"

static void check_line(const struct tokenizer *tokenizer, const char *line, size_t size)
{
    struct error error = {0};
    struct token_list ids = {0};
    json_t *expected = json_loadb(line, size, JSON_ALLOW_NUL, NULL);
    json_t *text = json_object_get(expected, "text"), *wanted = json_object_get(expected, "ids");
    if (tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text), TOKENIZER_SPECIAL, &ids,
                         &error) < 0)
        test_fail(__FILE__, __LINE__, "%s", error.text);
    bool same = ids.count == json_array_size(wanted) && ids.count > 0;
    for (size_t i = 0; i < ids.count && same; i++)
        same = json_integer_value(json_array_get(wanted, i)) == ids.data[i];
    if (!same)
        test_fail(__FILE__, __LINE__, "other ids than those of %.*s", (int)size, line);
    free(ids.data);
    json_decref(expected);
}

TEST(tokenizer_golden)
{
    struct error error = {0};
    struct gguf *gguf = NULL;
    struct tokenizer *tokenizer = NULL;
    char *text = NULL;
    size_t size;
    int lines = 0;
    if (!test_model()) {
        test_skip("no model: set OFFRAMP_TEST_MODEL");
        return;
    }
    REQUIRE_OK(file_read("tests/golden/tokenizer.jsonl", &text, &size, &error));
    REQUIRE_OK(gguf_open(test_model(), &gguf, &error));
    REQUIRE_OK(tokenizer_open(gguf, NULL, &tokenizer, &error));
    gguf_close(gguf); /* nothing of it may be needed from here on */
    for (const char *line = text, *end; (end = strchr(line, '\n')); line = end + 1, lines++)
        check_line(tokenizer, line, (size_t)(end - line));
    CHECK(lines == 210);
    CHECK(tokenizer_size(tokenizer) == 49152);
    CHECK(tokenizer_end(tokenizer) == 0); /* <|endoftext|>, not the eos, which is <|im_end|> */
    CHECK(tokenizer_is_end(tokenizer, 0) && tokenizer_is_end(tokenizer, 2) && !tokenizer_is_end(tokenizer, 1));
    tokenizer_close(tokenizer);
    free(text);
}

TEST_MAIN
