/* Parts of texts get what the tokenizer puts around a text, at its beginning and end alone. */
#include "extract/tokenize_parts.h"

#include <stdlib.h>

#include "common/base/file.h"
#include "tests/test.h"

/* <s> (2) goes before a text, <e> (3) behind it. */
static const char tokenizer_json[] = "{\"added_tokens\": [{\"id\": 2, \"content\": \"<s>\", \"special\": "
                                     "true}, {\"id\": 3, \"content\": \"<e>\", "
                                     "\"special\": true}], \"normalizer\": null, \"pre_tokenizer\": {\"type\": "
                                     "\"ByteLevel\", \"add_prefix_space\": "
                                     "false}, \"decoder\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": "
                                     "\"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, "
                                     "\"c\": 4}, \"merges\": []}, \"post_processor\": {\"type\": "
                                     "\"TemplateProcessing\", \"single\": [{\"SpecialToken\": "
                                     "{\"id\": \"<s>\"}}, {\"Sequence\": {\"id\": \"A\"}}, {\"SpecialToken\": "
                                     "{\"id\": \"<e>\"}}], \"special_tokens\": "
                                     "{\"<s>\": {\"ids\": [2]}, \"<e>\": {\"ids\": [3]}}}}";

struct case_part {
    const char *text; /* NULL: of a token file, with the id 1 */
    bool first, last;
    const char *ids, *ids_of_end; /* where <e> is the end between documents, too */
};

static const struct case_part cases[] = {
    {"ab", true, true, "2 0 1 3", "2 0 1"},
    {"ab", true, false, "2 0 1", "2 0 1"}, /* a long text, in three parts */
    {"b", false, false, "1", "1"},
    {"a", false, true, "0 3", "0"},
    {NULL, true, true, "1", "1"},
    {"<s>ab", true, true, "2 0 1 3", "2 0 1"},
};
enum { CASES = sizeof cases / sizeof *cases };

static void check_ids(const struct token_list *ids, const char *expected)
{
    char text[200] = "";
    size_t length = 0;
    for (size_t i = 0; i < ids->count; i++)
        length +=
            (size_t)snprintf(text + length, sizeof text - length, i > 0 ? " %d" : "%d", (int)ids->data[i]);
    if (strcmp(text, expected) != 0)
        test_fail(__FILE__, __LINE__, "%s, not %s", text, expected);
}

TEST(texts_have_their_frame)
{
    struct tokenizer *tokenizer;
    struct pool *pool;
    struct error error;
    char path[4400];
    const char *folder = test_folder();
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    REQUIRE_OK(file_write(path, tokenizer_json, sizeof tokenizer_json - 1, &error));
    REQUIRE_OK(tokenizer_open(NULL, folder, &tokenizer, &error));
    REQUIRE_OK(pool_create(2, &pool, &error));
    for (int end = 3; end <= 4; end++) {
        const struct corpus_rules rules = {.field = "text", .end = end, .vocab = 5, .tokenizer = tokenizer};
        struct document_part part[CASES] = {{0}};
        struct part_list list = {.part = part, .count = CASES, .capacity = CASES};
        for (int i = 0; i < CASES; i++) {
            part[i].first = cases[i].first;
            part[i].last = cases[i].last;
            if (cases[i].text) {
                part[i].text = strdup(cases[i].text);
                part[i].size = strlen(cases[i].text);
            } else {
                REQUIRE_OK(token_list_append(&part[i].ids, 1, &error));
            }
        }
        REQUIRE_OK(parts_tokenize(pool, &rules, &list, &error));
        for (int i = 0; i < CASES; i++)
            check_ids(&part[i].ids, end == 3 ? cases[i].ids_of_end : cases[i].ids);
        part_list_clear(&list);
    }
    pool_destroy(pool);
    tokenizer_close(tokenizer);
}

TEST_MAIN
