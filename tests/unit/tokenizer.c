#include <stdlib.h>

#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/base/pool.h"
#include "common/base/string.h"
#include "common/text/tokenizer.h"
#include "tests/make_gguf.h"
#include "tests/test.h"

/* JSON here has ' for quotation marks. The letter é is two bytes, tokens 4 and 5. */
#define VOCAB      "{'a': 0, 'b': 1, 'c': 2, '\u0120': 3, '\u00C3': 4, '\u00A9': 5, 'ab': 6, '\u0120ab': 7}"
#define MODEL      "'type': 'BPE', 'vocab': " VOCAB ", 'merges': ['a b', ['\u0120', 'ab']]"
#define BYTE_LEVEL "{'type': 'ByteLevel', 'add_prefix_space': false}"

/* Parts of a tokenizer.json; NULL: as in the plainest one. */
struct parts {
    const char *model, *pre_tokenizer, *normalizer, *added, *processor;
    const char *config; /* tokenizer_config.json */
    const char **folder; /* where to put the folder's name */
};

static void write_json(const char *folder, const char *name, const char *text, struct error *error)
{
    char *path = path_join(folder, name, error), *json = string_copy(text, error);
    for (char *quote = json; (quote = strchr(quote, '\'')); quote++)
        *quote = '"';
    make_file(path, json, strlen(json));
    free(path);
    free(json);
}

static int open_json(struct parts parts, const char *config, struct tokenizer **tokenizer, struct error *error)
{
    const char *folder = test_folder();
    struct string text = {0};
    string_print(&text,
                 "{'version': '1.0', 'normalizer': %s, 'pre_tokenizer': %s, 'added_tokens': %s, "
                 "'post_processor': %s, 'decoder': {'type': 'ByteLevel'}, 'model': {%s}}",
                 parts.normalizer ? parts.normalizer : "null",
                 parts.pre_tokenizer ? parts.pre_tokenizer : BYTE_LEVEL, parts.added ? parts.added : "[]",
                 parts.processor ? parts.processor : "null", parts.model ? parts.model : MODEL);
    write_json(folder, "tokenizer.json", text.data, error);
    if (config)
        write_json(folder, "config.json", config, error);
    if (parts.config)
        write_json(folder, "tokenizer_config.json", parts.config, error);
    if (parts.folder)
        *parts.folder = folder;
    string_free(&text);
    return tokenizer_open(NULL, folder, tokenizer, error);
}

static void check_ids(const struct tokenizer *tokenizer, const char *text, size_t size, int flags,
                      const char *expected)
{
    struct error error = {0};
    struct token_list ids = {0};
    struct string joined = {0};
    if (tokenizer_encode(tokenizer, text, size, flags, &ids, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s", error.text);
    for (size_t i = 0; i < ids.count; i++)
        string_print(&joined, i ? " %d" : "%d", ids.data[i]);
    if (strcmp(joined.data ? joined.data : "", expected) != 0)
        test_fail(__FILE__, __LINE__, "\"%s\" became %s, not %s", text, joined.data, expected);
    string_free(&joined);
    free(ids.data);
}
#define CHECK_IDS(tokenizer, text, expected)                                                                   \
    check_ids(tokenizer, text, sizeof(text) - 1, TOKENIZER_SPECIAL, expected)

TEST(tokenizer_encodes_and_decodes)
{
    struct tokenizer *tokenizer;
    struct error error = {0};
    REQUIRE_OK(open_json((struct parts){0}, NULL, &tokenizer, &error));
    CHECK(tokenizer_size(tokenizer) == 8);
    CHECK(tokenizer_end(tokenizer) == -1);
    CHECK(!tokenizer_is_end(tokenizer, 0));
    CHECK_IDS(tokenizer, "", "");
    CHECK_IDS(tokenizer, "abc ab  ab", "6 2 7 3 7");
    CHECK_IDS(tokenizer, "a\u00E9b", "0 4 5 1"); /* the two bytes of a letter are two tokens */
    CHECK_IDS(tokenizer, "a\xC3", "0"); /* U+FFFD, whose bytes this vocabulary lacks */
    const char *bytes;
    size_t size;
    tokenizer_decode(tokenizer, 7, &bytes, &size);
    CHECK(size == 3 && memcmp(bytes, " ab", 3) == 0);
    tokenizer_decode(tokenizer, 4, &bytes, &size);
    CHECK(size == 1 && memcmp(bytes, "\xC3", 1) == 0);
    tokenizer_close(tokenizer);
}

TEST(tokenizer_appends_and_leaves_the_list_alone_after_an_error)
{
    struct tokenizer *tokenizer;
    struct token_list ids = {0};
    struct error error = {0};
    struct parts runaway = {.pre_tokenizer =
                                "{'type': 'Sequence', 'pretokenizers': [{'type': 'Split', 'pattern': "
                                "{'Regex': 'c|(a+)+[bc]'}, 'behavior': 'Isolated'}, " BYTE_LEVEL "]}"};
    REQUIRE_OK(open_json(runaway, NULL, &tokenizer, &error));
    REQUIRE_OK(tokenizer_encode(tokenizer, "ab", 2, TOKENIZER_PLAIN, &ids, &error));
    REQUIRE_OK(tokenizer_encode(tokenizer, "c", 1, TOKENIZER_PLAIN, &ids, &error));
    CHECK(ids.count == 2 && ids.data[1] == 2);
    const char *text = "cccaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    CHECK(tokenizer_encode(tokenizer, text, strlen(text), TOKENIZER_PLAIN, &ids, &error) == -1);
    CHECK_TEXT(error.text, "match limit exceeded");
    CHECK(ids.count == 2);
    free(ids.data);
    tokenizer_close(tokenizer);
}

TEST(tokenizer_added_tokens)
{
    static const char added[] = "[{'id': 8, 'content': '<a>', 'special': true, 'normalized': false}, "
                                "{'id': 9, 'content': '<a>b', 'normalized': false}, "
                                "{'id': 10, 'content': 'a><', 'special': true, 'normalized': false}, "
                                "{'id': 6, 'content': 'ab', 'normalized': false}, "
                                "{'id': 11, 'content': '<l>', 'normalized': false, 'lstrip': true}, "
                                "{'id': 12, 'content': '<r>', 'normalized': false, 'rstrip': true}]";
    struct tokenizer *tokenizer;
    struct error error = {0};
    struct parts parts = {.added = added};
    REQUIRE_OK(open_json(parts, NULL, &tokenizer, &error));
    CHECK_IDS(tokenizer, "c<a>bc", "2 9 2"); /* the longest */
    CHECK_IDS(tokenizer, "<a><a>c", "8 8 2"); /* the first of those that overlap */
    CHECK_IDS(tokenizer, "ca><", "2 10");
    CHECK_IDS(tokenizer, "cab ab", "2 6 3 6"); /* no " ab" across a token that is cut out */
    CHECK_IDS(tokenizer, "a \u3000<l> a", "0 11 3 0");
    CHECK_IDS(tokenizer, "a <r> \n <l>b", "0 3 12 11 1"); /* white space is taken once */
    CHECK_IDS(tokenizer, "<r", "");
    check_ids(tokenizer, "c<a>bc", 6, TOKENIZER_PLAIN, "2 9 2");
    check_ids(tokenizer, "c<a>c", 5, TOKENIZER_PLAIN, "2 0 2");
    tokenizer_close(tokenizer);
}

TEST(tokenizer_normalizes_between_tokens)
{
    struct tokenizer *tokenizer;
    struct error error = {0};
    struct parts parts = {.normalizer = "{'type': 'Sequence', 'normalizers': [{'type': 'NFC'}]}",
                          .added = "[{'id': 8, 'content': 'e\u0301', 'normalized': false}, "
                                   "{'id': 9, 'content': 'e\u0301a', 'normalized': true}]"};
    REQUIRE_OK(open_json(parts, NULL, &tokenizer, &error));
    CHECK_IDS(tokenizer, "e\u0301", "8"); /* before form C is made of it */
    CHECK_IDS(tokenizer, "\u00E9", "4 5");
    CHECK_IDS(tokenizer, "\u00E9a", "9"); /* the token, in form C */
    CHECK_IDS(tokenizer, "e\u0301a", "8 0");
    tokenizer_close(tokenizer);
}

TEST(tokenizer_prefix_space)
{
    struct tokenizer *tokenizer;
    struct error error = {0};
    struct parts parts = {.pre_tokenizer = "{'type': 'ByteLevel', 'add_prefix_space': true}",
                          .added = "[{'id': 8, 'content': '<a>'}]"};
    REQUIRE_OK(open_json(parts, NULL, &tokenizer, &error));
    CHECK_IDS(tokenizer, "ab<a>ab", "7 8 7"); /* behind every added token anew */
    CHECK_IDS(tokenizer, " ab", "7");
    tokenizer_close(tokenizer);
}

TEST(tokenizer_ends)
{
    static const struct {
        const char *added, *config;
        int end, also, not ;
    } cases[] = {
        {"[]", NULL, -1, -1, 0},
        {"[]", "{'eos_token_id': 2}", 2, -1, 0},
        {"[]", "{'eos_token_id': [1, 2]}", 1, 2, 0},
        {"[]", "{'eos_token': 'b'}", 1, -1, 0},
        {"[]", "{'eos_token': {'content': 'b'}}", 1, -1, 0},
        {"[{'id': 8, 'content': '</s>', 'special': true}]", "{'eos_token_id': 2}", 8, 2, 0},
        {"[{'id': 8, 'content': '</s>', 'special': true}, {'id': 9, 'content': '<|endoftext|>', 'special': "
         "true}]",
         "{'eos_token_id': null}", 9, 8, 2},
        {"[{'id': 8, 'content': '</s>'}]", "{'eos_token_id': 2}", 2, -1, 8}, /* not special: text */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tokenizer *tokenizer;
        struct error error = {0};
        REQUIRE_OK(open_json((struct parts){.added = cases[i].added}, cases[i].config, &tokenizer, &error));
        CHECK(tokenizer_end(tokenizer) == cases[i].end);
        CHECK(cases[i].end < 0 || tokenizer_is_end(tokenizer, cases[i].end));
        CHECK(cases[i].also < 0 || tokenizer_is_end(tokenizer, cases[i].also));
        CHECK(!tokenizer_is_end(tokenizer, cases[i].not ));
        tokenizer_close(tokenizer);
    }
}

/* Ends of texts, turns and messages together: by id in any of the files, in a list, or by name. */
TEST(tokenizer_ends_together)
{
    static const char added[] = "[{'id': 8, 'content': '<|im_end|>', 'special': true}, {'id': 9, 'content': "
                                "'<|eot_id|>', 'special': true}, {'id': 10, 'content': '<|end|>'}, {'id': 11, "
                                "'content': '<|endoftext|>', 'special': true}, {'id': 12, 'content': "
                                "'<\uFF5Cend\u2581of\u2581sentence\uFF5C>', 'special': true}]";
    static const char *const files[][2] = {{"generation_config.json", "{'eos_token_id': [2, 3, 3, 77, -1]}"},
                                           {"tokenizer_config.json", "{'eos_token': 'ab'}"}};
    static const bool expected[13] = {
        [1] = true, [2] = true, [3] = true, [6] = true, [8] = true, [9] = true, [11] = true, [12] = true};
    struct tokenizer *tokenizer;
    struct error error = {0};
    const char *folder = NULL;
    REQUIRE_OK(open_json((struct parts){.added = added, .folder = &folder}, "{'eos_token_id': 1}", &tokenizer,
                         &error));
    tokenizer_close(tokenizer);
    for (int i = 0; i < 2; i++)
        write_json(folder, files[i][0], files[i][1], &error);
    REQUIRE_OK(tokenizer_open(NULL, folder, &tokenizer, &error));
    for (int id = 0; id < 13; id++)
        if (tokenizer_is_end(tokenizer, id) != expected[id])
            test_fail(__FILE__, __LINE__, "%d is %s end", id, expected[id] ? "no" : "an");
    CHECK(!tokenizer_is_end(tokenizer, -1) && !tokenizer_is_end(tokenizer, 77));
    CHECK(tokenizer_end(tokenizer) == 11);
    tokenizer_close(tokenizer);
}

/* What goes around a text: by the post-processor, and by tokenizer_config.json where that says more. */
TEST(tokenizer_frame_of_a_folder)
{
#define SPECIAL(name) "{'SpecialToken': {'id': '" name "', 'type_id': 0}}"
#define TEMPLATE(list)                                                                                         \
    "{'type': 'TemplateProcessing', 'single': [" list "], 'pair': [], 'special_tokens': " TOKENS "}"
#define TOKENS                                                                                                 \
    "{'<s>': {'id': '<s>', 'ids': [8], 'tokens': ['<s>']}, '<e>': {'id': '<e>', 'ids': [9], 'tokens': "        \
    "['<e>']}}"
#define TEXT "{'Sequence': {'id': 'A', 'type_id': 0}}"
#define TRIM "{'type': 'ByteLevel', 'trim_offsets': false}"
    static const struct {
        const char *processor, *config, *expected; /* of "a" */
        const char *source;
    } cases[] = {
        {"null", NULL, "0", NULL},
        {TRIM, "{'bos_token': '<s>', 'eos_token': '<e>'}", "0", NULL},
        {TEMPLATE(SPECIAL("<s>") "," TEXT), NULL, "8 0", "post_processor"},
        {TEMPLATE(TEXT "," SPECIAL("<e>")), NULL, "0 9", "post_processor"},
        {TEMPLATE(SPECIAL("<s>") "," SPECIAL("<s>") "," TEXT "," SPECIAL("<e>")), NULL, "8 8 0 9",
         "post_processor"},
        {TEMPLATE(TEXT), NULL, "0", NULL},
        {"{'type': 'Sequence', 'processors': [" TRIM "," TEMPLATE(SPECIAL("<s>") "," TEXT) "]}", NULL, "8 0",
         "post_processor"},
        {TRIM, "{'bos_token': '<s>', 'add_bos_token': true}", "8 0", "tokenizer_config.json"},
        {TRIM, "{'bos_token': {'content': '<s>'}, 'add_bos_token': true}", "8 0", "tokenizer_config.json"},
        {TRIM, "{'eos_token': '<e>', 'add_eos_token': true, 'add_bos_token': true}", "0 9",
         "tokenizer_config.json"},
        {TEMPLATE(SPECIAL("<s>") "," TEXT), "{'bos_token': '<s>', 'add_bos_token': null}", "8 0",
         "post_processor"},
        {TEMPLATE(SPECIAL("<s>") "," TEXT), "{'bos_token': '<e>', 'add_bos_token': true}", "8 0",
         "post_processor"},
        {TEMPLATE(SPECIAL("<s>") "," TEXT), "{'bos_token': '<s>', 'add_bos_token': false}", "0",
         "tokenizer_config.json"},
        {TEMPLATE(SPECIAL("<s>") "," TEXT), "{'tokenizer_class': 'LlamaTokenizerFast', 'add_bos_token': false}",
         "0", "tokenizer_config.json"},
        {TEMPLATE(SPECIAL("<s>") "," TEXT),
         "{'tokenizer_class': 'PreTrainedTokenizerFast', 'add_bos_token': false}", "8 0",
         "post_processor"}, /* which does not look at it */
    };
    static const char added[] = "[{'id': 8, 'content': '<s>', 'special': true}, {'id': 9, 'content': '<e>', "
                                "'special': true}]";
    const int around = TOKENIZER_SPECIAL | TOKENIZER_BEGIN | TOKENIZER_END;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tokenizer *tokenizer;
        struct error error = {0};
        const struct parts parts = {.added = added, .processor = cases[i].processor, .config = cases[i].config};
        REQUIRE_OK(open_json(parts, NULL, &tokenizer, &error));
        check_ids(tokenizer, "a", 1, around, cases[i].expected);
        check_ids(tokenizer, "a", 1, TOKENIZER_SPECIAL, "0");
        const char *source = tokenizer_frame(tokenizer)->source;
        CHECK(!source == !cases[i].source);
        CHECK_TEXT(source ? source : "", cases[i].source ? cases[i].source : "");
        tokenizer_close(tokenizer);
    }
}

/* A token that is wanted and that no file names is warned of. */
TEST(tokenizer_frame_without_a_name)
{
    static const struct {
        const char *processor, *config, *warning; /* NULL: none */
    } cases[] = {
        {TRIM, "{'add_bos_token': true}",
         "add_bos_token of tokenizer_config.json asks for a begin-of-text token, but the file does not name "
         "it"},
        {TRIM, "{'add_bos_token': true, 'bos_token': null}", "asks for a begin-of-text token"},
        {TRIM, "{'add_eos_token': true}", "asks for an end-of-text token"},
        {TRIM, "{'add_bos_token': false}", NULL},
        {TRIM, "{'add_bos_token': true, 'bos_token': '<s>'}", NULL},
        {TEMPLATE(SPECIAL("<s>") "," TEXT), "{'add_bos_token': true}", NULL},
    };
    static const char added[] = "[{'id': 8, 'content': '<s>', 'special': true}, {'id': 9, 'content': '<e>', "
                                "'special': true}]";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tokenizer *tokenizer;
        struct error error = {0};
        const struct parts parts = {.added = added, .processor = cases[i].processor, .config = cases[i].config};
        REQUIRE_OK(open_json(parts, NULL, &tokenizer, &error));
        const char *warning = tokenizer_frame_warning(tokenizer);
        CHECK(!warning == !cases[i].warning);
        CHECK_TEXT(warning ? warning : "", cases[i].warning ? cases[i].warning : "");
        tokenizer_close(tokenizer);
    }
}

/* Once, also where a text has it written out; parts of a text have their own side alone. */
TEST(tokenizer_frame_is_there_once)
{
    static const char added[] = "[{'id': 8, 'content': '<s>', 'special': true}, {'id': 9, 'content': '<e>', "
                                "'special': true}]";
    struct tokenizer *tokenizer;
    struct error error = {0};
    struct token_list ids = {0};
    char text[64];
    REQUIRE_OK(open_json(
        (struct parts){.added = added, .processor = TEMPLATE(SPECIAL("<s>") "," TEXT "," SPECIAL("<e>"))}, NULL,
        &tokenizer, &error));
    const int begin = TOKENIZER_SPECIAL | TOKENIZER_BEGIN, end = TOKENIZER_SPECIAL | TOKENIZER_END;
    check_ids(tokenizer, "", 0, begin | end, "8 9");
    check_ids(tokenizer, "", 0, begin, "8");
    check_ids(tokenizer, "a", 1, begin, "8 0");
    check_ids(tokenizer, "a", 1, end, "0 9");
    check_ids(tokenizer, "<s>a", 4, begin | end, "8 0 9");
    check_ids(tokenizer, "<s><s>a", 7, begin, "8 8 0");
    check_ids(tokenizer, "a<s>", 4, begin, "8 0 8");
    check_ids(tokenizer, "a<e>", 4, begin | end, "8 0 9");
    check_ids(tokenizer, "<s><e>", 6, begin | end, "8 9");
    check_ids(tokenizer, "<s>", 3, begin | end, "8 9");
    REQUIRE_OK(tokenizer_encode(tokenizer, "<s>", 3, TOKENIZER_SPECIAL, &ids, &error));
    REQUIRE_OK(
        tokenizer_encode(tokenizer, "a", 1, begin | end, &ids, &error)); /* what is there is another text */
    CHECK(ids.count == 4 && ids.data[0] == 8 && ids.data[1] == 8 && ids.data[2] == 0 && ids.data[3] == 9);
    tokenizer_frame_text(tokenizer, &tokenizer_frame(tokenizer)->before, text, sizeof text);
    CHECK(strcmp(text, "<s> (8)") == 0);
    free(ids.data);
    tokenizer_close(tokenizer);
}

TEST(tokenizer_ids_need_not_be_in_a_row)
{
    struct tokenizer *tokenizer;
    struct error error = {0};
    const char *bytes;
    size_t size;
    REQUIRE_OK(open_json((struct parts){.added = "[{'id': 100, 'content': '<a>'}]"}, NULL, &tokenizer, &error));
    CHECK(tokenizer_size(tokenizer) == 101);
    tokenizer_decode(tokenizer, 50, &bytes, &size);
    CHECK(size == 0);
    CHECK_IDS(tokenizer, "a<a>", "0 100");
    tokenizer_close(tokenizer);
}

/* The plainest tokenizer above as a GGUF file, with a special and an added token. */
static void make_tokenizer(struct gguf_maker *maker)
{
    static const char *const names[] = {"a",      "b",  "c",        "\u0120",        "\u00C3",
                                        "\u00A9", "ab", "\u0120ab", "<|endoftext|>", "<a>"};
    static const uint32_t types[] = {1, 1, 1, 1, 1, 1, 1, 1, 3, 4};
    *maker = (struct gguf_maker){.version = 3, .alignment = 32};
    maker_string(maker, "tokenizer.ggml.model", "gpt2");
    maker_string(maker, "tokenizer.ggml.pre", "gpt-2");
    struct string *array = maker_array(maker, "tokenizer.ggml.tokens", GGUF_STRING, 10);
    for (int i = 0; i < 10; i++)
        maker_string_bytes(array, names[i]);
    array = maker_array(maker, "tokenizer.ggml.token_type", GGUF_I32, 10);
    for (int i = 0; i < 10; i++)
        maker_u32_bytes(array, types[i]);
    array = maker_array(maker, "tokenizer.ggml.merges", GGUF_STRING, 2);
    maker_string_bytes(array, "a b");
    maker_string_bytes(array, "\u0120 ab");
    maker_u32(maker, "tokenizer.ggml.eos_token_id", 2);
}

static void maker_bool(struct gguf_maker *maker, const char *name, bool value)
{
    maker_bytes(maker_key(maker, name, GGUF_BOOL), &value, 1);
}

/* id -1 and add -1: the key is left out. */
static void maker_bos(struct gguf_maker *maker, int id, int add)
{
    if (id >= 0)
        maker_u32(maker, "tokenizer.ggml.bos_token_id", (uint32_t)id);
    if (add >= 0)
        maker_bool(maker, "tokenizer.ggml.add_bos_token", add == 1);
}

static int open_gguf(struct gguf_maker *maker, struct tokenizer **tokenizer, struct error *error)
{
    struct gguf *gguf = NULL;
    char *path = path_join(test_folder(), "model.gguf", error);
    *tokenizer = NULL;
    maker_write(maker, path);
    int result = gguf_open(path, &gguf, error);
    if (result == 0)
        result = tokenizer_open(gguf, NULL, tokenizer, error);
    gguf_close(gguf);
    free(path);
    return result;
}

TEST(tokenizer_from_gguf)
{
    struct gguf_maker maker;
    struct tokenizer *tokenizer;
    struct error error = {0};
    make_tokenizer(&maker);
    REQUIRE_OK(open_gguf(&maker, &tokenizer, &error));
    CHECK_IDS(tokenizer, "abc ab<|endoftext|>\u00E9<a>", "6 2 7 8 4 5 9");
    check_ids(tokenizer, "c<|endoftext|><a>", 17, TOKENIZER_PLAIN, "2 9");
    CHECK(tokenizer_end(tokenizer) == 8);
    CHECK(tokenizer_is_end(tokenizer, 2) && tokenizer_is_end(tokenizer, 8) && !tokenizer_is_end(tokenizer, 9));
    tokenizer_close(tokenizer);
}

/* The key where it is there, else what llama.cpp does for that pre-tokenizer. */
TEST(tokenizer_frame_of_gguf)
{
    static const struct {
        const char *pre;
        int bos, add; /* -1: without the key */
        const char *expected, *source;
    } cases[] = {
        {"gpt-2", 9, -1, "0", NULL},
        {"gpt-2", 9, 0, "0", "tokenizer.ggml.add_bos_token"},
        {"gpt-2", 9, 1, "9 0", "tokenizer.ggml.add_bos_token"},
        {"gpt-2", -1, 1, "0", NULL}, /* and a warning */
        {"gpt-2", -1, 0, "0", "tokenizer.ggml.add_bos_token"},
        {"llama-bpe", 9, -1, "9 0", "tokenizer.ggml.pre"},
        {"llama3", 9, -1, "9 0", "tokenizer.ggml.pre"},
        {"llama-bpe", 9, 0, "0", "tokenizer.ggml.add_bos_token"},
        {"llama-bpe", -1, -1, "0", NULL},
        {"llama-bpe", 77, 0, "0", "tokenizer.ggml.add_bos_token"},
        {"tekken", 9, -1, "9 0", "tokenizer.ggml.pre"},
        {"smaug-bpe", 9, -1, "0", NULL},
        {"deepseek-r1-qwen", 9, -1, "0", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct gguf_maker maker;
        struct tokenizer *tokenizer;
        struct error error = {0};
        make_tokenizer(&maker);
        maker_string(&maker, "tokenizer.ggml.pre", cases[i].pre);
        maker_bos(&maker, cases[i].bos, cases[i].add);
        REQUIRE_OK(open_gguf(&maker, &tokenizer, &error));
        check_ids(tokenizer, "a", 1, TOKENIZER_SPECIAL | TOKENIZER_BEGIN | TOKENIZER_END, cases[i].expected);
        const char *source = tokenizer_frame(tokenizer)->source;
        CHECK(!source == !cases[i].source);
        CHECK_TEXT(source ? source : "", cases[i].source ? cases[i].source : "");
        const char *warning = tokenizer_frame_warning(tokenizer);
        CHECK(!warning == !(cases[i].bos < 0 && cases[i].add == 1));
        CHECK_TEXT(warning ? warning : "tokenizer.ggml.add_bos_token asks for a begin-of-text token",
                   "tokenizer.ggml.add_bos_token asks for a begin-of-text token");
        tokenizer_close(tokenizer);
    }
    struct gguf_maker maker;
    struct tokenizer *tokenizer;
    struct error error = {0};
    make_tokenizer(&maker);
    maker_bool(&maker, "tokenizer.ggml.add_eos_token", true);
    REQUIRE_OK(open_gguf(&maker, &tokenizer, &error));
    check_ids(tokenizer, "a", 1, TOKENIZER_SPECIAL | TOKENIZER_BEGIN | TOKENIZER_END, "0 2");
    tokenizer_close(tokenizer);
}

TEST(tokenizer_ends_of_gguf)
{
    struct gguf_maker maker;
    struct tokenizer *tokenizer;
    struct error error = {0};
    make_tokenizer(&maker); /* eos 2; 8 by its name */
    maker_u32(&maker, "tokenizer.ggml.eot_token_id", 3);
    maker_u32(&maker, "tokenizer.ggml.eom_token_id", 4);
    struct string *list = maker_array(&maker, "tokenizer.ggml.eos_token_ids", GGUF_I32, 3);
    maker_u32_bytes(list, 2);
    maker_u32_bytes(list, 6);
    maker_u32_bytes(list, 10); /* no token's */
    REQUIRE_OK(open_gguf(&maker, &tokenizer, &error));
    for (int id = 0; id < 10; id++)
        CHECK(tokenizer_is_end(tokenizer, id) == (id == 2 || id == 3 || id == 4 || id == 6 || id == 8));
    tokenizer_close(tokenizer);
    make_tokenizer(&maker);
    maker_u32(&maker, "tokenizer.ggml.eos_token_id", 10);
    REQUIRE_OK(open_gguf(&maker, &tokenizer, &error));
    CHECK(!tokenizer_is_end(tokenizer, 2) && tokenizer_is_end(tokenizer, 8) && tokenizer_end(tokenizer) == 8);
    tokenizer_close(tokenizer);
}

/* One thing wrong each time; the error names it. */
TEST(tokenizer_gguf_errors)
{
    static const char *const texts[] = {
        "is \"llama\"; only byte-level BPE",
        "tokenizer.ggml.pre is missing",
        "tokenizer.ggml.pre: pre-tokenizer \"llama-spm\" is not known",
        "1 entries in tokenizer.ggml.token_type for 10 tokens",
        "merge 0 is \"ab\", not two tokens",
        "merge 0 refers to \"x\", which is not in the vocabulary",
        "merge 0 refers to \"bc\"",
        "tokenizer.ggml.bos_token_id: token 10, which goes around a text, is not in the vocabulary",
        "tokens 0 and 1 are both \"a\"",
        "token_type of token 0 is 6, not 1 .. 5",
        "added token 0 is empty or not UTF-8",
        "merge 0 is \"a b c\", not two tokens"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        static const char *const merges[] = {[4] = "ab", [5] = "x b", [6] = "b c", [11] = "a b c"};
        struct gguf_maker maker;
        struct tokenizer *tokenizer;
        struct error error = {0};
        struct string *array;
        make_tokenizer(&maker);
        if (i == 0)
            maker_string(&maker, "tokenizer.ggml.model", "llama");
        else if (i == 1)
            maker_drop_key(&maker, "tokenizer.ggml.pre");
        else if (i == 2)
            maker_string(&maker, "tokenizer.ggml.pre", "llama-spm");
        else if (i == 3 || i == 9)
            maker_u32_bytes(maker_array(&maker, "tokenizer.ggml.token_type", GGUF_I32, 1), 6);
        else if (i < 7 || i == 11)
            maker_string_bytes(maker_array(&maker, "tokenizer.ggml.merges", GGUF_STRING, 1), merges[i]);
        else if (i == 7)
            maker_bos(&maker, 10, 1);
        if (i == 8) {
            array = maker_array(&maker, "tokenizer.ggml.tokens", GGUF_STRING, 2);
            maker_string_bytes(array, "a");
            maker_string_bytes(array, "a");
            array = maker_array(&maker, "tokenizer.ggml.token_type", GGUF_I32, 2);
            maker_u32_bytes(array, 1);
            maker_u32_bytes(array, 1);
        }
        if (i == 9 || i == 10)
            maker_string_bytes(maker_array(&maker, "tokenizer.ggml.tokens", GGUF_STRING, 1),
                               i == 9 ? "a" : "\xFF");
        if (i == 10)
            maker_u32_bytes(maker_array(&maker, "tokenizer.ggml.token_type", GGUF_I32, 1), 4);
        CHECK(open_gguf(&maker, &tokenizer, &error) == -1);
        CHECK(tokenizer == NULL);
        CHECK_TEXT(error.text, texts[i]);
        CHECK_TEXT(error.text, "model.gguf: ");
    }
}

TEST(tokenizer_fingerprint_knows_what_changes_ids)
{
    static const struct parts variants[] = {
        {0},
        {.normalizer = "{'type': 'NFC'}"},
        {.pre_tokenizer = "{'type': 'ByteLevel', 'add_prefix_space': true}"},
        {.pre_tokenizer = "{'type': 'ByteLevel', 'add_prefix_space': false, 'use_regex': false}"},
        {.pre_tokenizer = "{'type': 'Sequence', 'pretokenizers': [{'type': 'Digits'}, " BYTE_LEVEL "]}"},
        {.pre_tokenizer =
             "{'type': 'Sequence', 'pretokenizers': [{'type': 'Digits', 'individual_digits': true}, " BYTE_LEVEL
             "]}"},
        {.added = "[{'id': 8, 'content': '<a>'}]"},
        {.added = "[{'id': 8, 'content': '<a>', 'special': true}]"},
        {.added = "[{'id': 8, 'content': '<a>', 'lstrip': true}]"},
        {.model = MODEL ", 'ignore_merges': true"},
        {.model = MODEL ", 'unk_token': 'a'"},
        {.model = "'vocab': " VOCAB ", 'merges': []"},
        {.model = "'vocab': {'a': 1, 'b': 0}, 'merges': []"},
    };
    enum { COUNT = sizeof variants / sizeof *variants };
    char fingerprints[COUNT][17];
    for (int i = 0; i < COUNT; i++) {
        struct tokenizer *tokenizer;
        struct error error = {0};
        REQUIRE_OK(open_json(variants[i], NULL, &tokenizer, &error));
        tokenizer_fingerprint(tokenizer, fingerprints[i]);
        tokenizer_close(tokenizer);
        for (int j = 0; j < i; j++)
            if (strcmp(fingerprints[i], fingerprints[j]) == 0)
                test_fail(__FILE__, __LINE__, "variants %d and %d have the same fingerprint", j, i);
    }
}

/* Several threads encode at once with one tokenizer; each gets what one alone gets. */
enum { THREADS = 4, TASKS = 64 };
struct shared {
    const struct tokenizer *tokenizer;
    size_t counts[TASKS];
    int64_t sums[TASKS];
};

static void encode_task(void *context, int task, int worker)
{
    struct shared *shared = context;
    struct token_list ids = {0};
    struct error error = {0};
    char text[2048];
    (void)worker;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "aab bc"[(i * (size_t)(task % 8 + 1) + i / 7) % 6];
    if (tokenizer_encode(shared->tokenizer, text, sizeof text, TOKENIZER_SPECIAL, &ids, &error) < 0)
        return;
    shared->counts[task] = ids.count;
    for (size_t i = 0; i < ids.count; i++)
        shared->sums[task] += ids.data[i] * (int64_t)(i + 1);
    free(ids.data);
}

TEST(tokenizer_is_shared_by_threads)
{
    struct tokenizer *tokenizer;
    struct pool *pool;
    struct error error = {0};
    REQUIRE_OK(open_json((struct parts){0}, NULL, &tokenizer, &error));
    REQUIRE_OK(pool_create(THREADS, &pool, &error));
    struct shared shared = {.tokenizer = tokenizer};
    pool_run(pool, TASKS, encode_task, &shared);
    for (int i = 0; i < TASKS; i++)
        CHECK(shared.counts[i] > 0 && shared.counts[i] == shared.counts[i % 8] &&
              shared.sums[i] == shared.sums[i % 8]);
    pool_destroy(pool);
    tokenizer_close(tokenizer);
}

TEST_MAIN
