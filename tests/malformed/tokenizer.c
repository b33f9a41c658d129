/* Tokenizer files that are cut short, damaged, or made to do harm: an error that says what is wrong, or a
 * tokenizer that works; never a crash or a leak. */
#include <stdlib.h>

#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/base/random.h"
#include "common/base/string.h"
#include "common/text/tokenizer.h"
#include "tests/make_gguf.h"
#include "tests/test.h"

#define GOOD_VOCAB   "{'a': 0, 'b': 1, 'ab': 2}"
#define GOOD_PRE     "{'type': 'ByteLevel', 'add_prefix_space': false}"
#define NESTED       "{'type': 'Sequence', 'normalizers': ["
#define GOOD_DECODER "{'type': 'ByteLevel'}"

/* The parts of tokenizer.json; NULL: a good one. */
struct spoiled {
    const char *model, *vocab, *merges, *pre, *decoder, *rest, *error;
};

/* JSON in this file has ' for quotation marks. */
static void put_quotes(char *text)
{
    while ((text = strchr(text, '\'')))
        *text = '"';
}

static struct string write_json(struct spoiled part)
{
    struct string text = {0};
    string_print(&text, "{'pre_tokenizer': %s, 'decoder': %s%s, 'model': ", part.pre ? part.pre : GOOD_PRE,
                 part.decoder ? part.decoder : GOOD_DECODER, part.rest ? part.rest : "");
    if (part.model)
        string_print(&text, "%s}", part.model);
    else
        string_print(&text, "{'type': 'BPE', 'vocab': %s, 'merges': %s}}", part.vocab ? part.vocab : GOOD_VOCAB,
                     part.merges ? part.merges : "['a b']");
    put_quotes(text.data);
    return text;
}

/* Opens a folder with that tokenizer.json; whatever opens is used. True when it opened. */
static bool try_json(const char *path, const char *folder, const char *text, size_t size, struct error *error)
{
    struct tokenizer *tokenizer;
    make_file(path, text, size);
    if (tokenizer_open(NULL, folder, &tokenizer, error) < 0)
        return false;
    struct token_list ids = {0};
    if (tokenizer_encode(tokenizer, "ab ba\xFF<a>", 9, TOKENIZER_SPECIAL, &ids, error) == 0)
        for (size_t i = 0; i < ids.count; i++) {
            const char *bytes;
            size_t length;
            CHECK(ids.data[i] >= 0 && ids.data[i] < tokenizer_size(tokenizer));
            tokenizer_decode(tokenizer, ids.data[i], &bytes, &length);
            tokenizer_is_end(tokenizer, ids.data[i]);
        }
    free(ids.data);
    tokenizer_close(tokenizer);
    return true;
}

#define SEQUENCE(id) "{'Sequence': {'id': '" id "', 'type_id': 0}}"
#define BEGIN        "{'SpecialToken': {'id': '<b>', 'type_id': 0}}"
#define TEMPLATE(single, ids)                                                                                  \
    "{'type': 'TemplateProcessing', 'single': " single                                                         \
    ", 'pair': [], 'special_tokens': {'<b>': {'id': '<b>', "                                                   \
    "'ids': " ids ", 'tokens': ['<b>']}}}"

static const struct spoiled spoiled_json[] = {
    {.model = "[]", .error = "\"model\" is not an object"},
    {.model = "{'type': 'Unigram'}", .error = "model \"Unigram\" is not supported"},
    {.model = "{'type': 3}", .error = "the model has no \"type\""},
    {.model = "{}", .error = "\"vocab\" in \"model\" is not an object"},
    {.model = "{'type': 'BPE', 'byte_fallback': true}", .error = "\"byte_fallback\" in \"model\" is not"},
    {.model = "{'type': 'BPE', 'end_of_word_suffix': '</w>'}", .error = "\"end_of_word_suffix\""},
    {.model = "{'type': 'BPE', 'dropout': 0.1}", .error = "\"dropout\""},
    {.model = "{'vocab': " GOOD_VOCAB "}", .error = "\"merges\" in \"model\" is not an array"},
    {.model = "{'vocab': " GOOD_VOCAB ", 'merges': [], 'unk_token': '?'}",
     .error = "unk_token \"?\" is not in"},
    {.model = "{'vocab': " GOOD_VOCAB ", 'merges': [], 'ignore_merges': 1}",
     .error = "\"ignore_merges\" is not"},
    {.vocab = "['a']", .error = "\"vocab\" in \"model\" is not an object"},
    {.vocab = "{}", .error = "a vocabulary of 0 tokens"},
    {.vocab = "{'a': '0'}", .error = "the id of token \"a\" is not a number"},
    {.vocab = "{'a': 1.5}", .error = "the id of token \"a\" is not a number"},
    {.vocab = "{'a': -1}", .error = "the id of token \"a\" is not a number in 0 .. 4194303"},
    {.vocab = "{'a': 4194304}", .error = "not a number in 0 .. 4194303"},
    {.vocab = "{'a': 9223372036854775807}", .error = "not a number in 0 .. 4194303"},
    {.vocab = "{'a': 9223372036854775808}", .error = "the id of token \"a\" is not a number"},
    {.vocab = "{'a': 0, 'b': 0}", .error = "have the same id 0"},
    {.vocab = "{'': 0}", .error = "token 0 is 0 bytes long"},
    {.merges = "{}", .error = "\"merges\" in \"model\" is not an array"},
    {.merges = "[1]", .error = "merge 0 is neither"},
    {.merges = "[['a']]", .error = "merge 0 is neither"},
    {.merges = "[['a', 'b', 'c']]", .error = "merge 0 is neither"},
    {.merges = "[['a', 1]]", .error = "merge 0 is neither"},
    {.merges = "['ab']", .error = "merge 0 is \"ab\", not two tokens"},
    {.merges = "['a  b']", .error = "merge 0 is \"a  b\", not two tokens"},
    {.merges = "['']", .error = "merge 0 is \"\", not two tokens"},
    {.merges = "['a b', 'a x']", .error = "merge 1 refers to \"x\", which is not in the vocabulary"},
    {.merges = "['b a']", .error = "merge 0 refers to \"ba\", which is not in the vocabulary"},
    {.merges = "[' ']", .error = "merge 0 refers to \"\""},
    {.pre = "null", .error = "pre_tokenizer \"null\" is not supported"},
    {.pre = "[]", .error = "the pre_tokenizer has no \"type\""},
    {.pre = "{'type': 'Metaspace'}", .error = "pre_tokenizer \"Metaspace\" is not supported"},
    {.pre = "{'type': 'Digits'}", .error = "no ByteLevel pre_tokenizer"},
    {.pre = "{'type': 'Sequence'}", .error = "pre_tokenizer \"Sequence\" is not supported"},
    {.pre = "{'type': 'Sequence', 'pretokenizers': [" GOOD_PRE ", {'type': 'Digits'}]}",
     .error = "pre_tokenizer \"Digits\" after ByteLevel is not supported"},
    {.pre = "{'type': 'ByteLevel', 'add_prefix_space': 1}",
     .error = "\"add_prefix_space\" is not true or false"},
    {.pre = "{'type': 'Split'}", .error = "the pattern is neither"},
    {.pre = "{'type': 'Split', 'pattern': {'Regex': 1}}", .error = "the pattern is neither"},
    {.pre = "{'type': 'Split', 'pattern': {'Regex': 'a'}}", .error = "\"behavior\" is missing"},
    {.pre = "{'type': 'Split', 'pattern': {'Regex': 'a'}, 'behavior': 'Kept'}",
     .error = "behavior \"Kept\" is not known"},
    {.pre = "{'type': 'Split', 'pattern': {'Regex': '(a'}, 'behavior': 'Isolated'}",
     .error = "pattern \"(a\": missing closing parenthesis"},
    {.pre = "{'type': 'Split', 'pattern': {'String': ''}, 'behavior': 'Isolated'}",
     .error = "a text of 0 bytes to split at"},
    {.decoder = "null", .error = "decoder \"null\" is not supported"},
    {.decoder = "{'type': 'WordPiece'}", .error = "decoder \"WordPiece\" is not supported"},
    {.rest = ", 'normalizer': {'type': 'Lowercase'}", .error = "normalizer \"Lowercase\" is not supported"},
    {.rest = ", 'normalizer': " NESTED NESTED NESTED NESTED NESTED "{'type': 'NFC'}]}]}]}]}]}",
     .error = "normalizer \"Sequence\" is not supported"},
    {.rest = ", 'normalizer': 'NFC'", .error = "the normalizer has no \"type\""},
    {.rest = ", 'added_tokens': {}", .error = "\"added_tokens\" is not an array"},
    {.rest = ", 'added_tokens': [3]", .error = "\"id\" is missing"},
    {.rest = ", 'added_tokens': [{'id': 3}]", .error = "\"content\" is missing"},
    {.rest = ", 'added_tokens': [{'id': 3, 'content': ''}]", .error = "token 3 is 0 bytes long"},
    {.rest = ", 'added_tokens': [{'id': 4194304, 'content': '<a>'}]", .error = "\"id\" is 4194304, not in"},
    {.rest = ", 'added_tokens': [{'id': 0, 'content': '<a>'}]",
     .error = "tokens \"a\" and \"<a>\" have the same id 0"},
    {.rest = ", 'added_tokens': [{'id': 1, 'content': 'a'}]",
     .error = "\"a\" has id 1 and, in the vocabulary, 0"},
    {.rest = ", 'added_tokens': [{'id': 3, 'content': '<a>'}, {'id': 3, 'content': '<a>'}]",
     .error = "added tokens 3 and 3 are both \"<a>\""},
    {.rest = ", 'added_tokens': [{'id': 3, 'content': '<a>', 'single_word': true}]",
     .error = "\"single_word\" is not supported"},
    {.rest = ", 'added_tokens': [{'id': 3, 'content': '<a>', 'special': 'yes'}]",
     .error = "\"special\" is not true or false"},
    {.rest = ", 'post_processor': {'type': 'RobertaProcessing', 'sep': ['a', 0], 'cls': ['b', 1]}",
     .error = "post_processor: \"RobertaProcessing\" is not supported"},
    {.rest = ", 'post_processor': {'type': 'Sequence', 'processors': [{'type': 'BertProcessing'}]}",
     .error = "post_processor: \"BertProcessing\" is not supported"},
    {.rest = ", 'post_processor': {'type': 'Sequence'}",
     .error = "post_processor: \"Sequence\" is not supported"},
    {.rest = ", 'post_processor': {'type': 'Sequence', 'processors': [" TEMPLATE(
         "[" SEQUENCE("A") "]", "[0]") "," TEMPLATE("[" SEQUENCE("A") "]", "[0]") "]}",
     .error = "post_processor: more than one TemplateProcessing"},
    {.rest = ", 'post_processor': []", .error = "post_processor: \"?\" is not supported"},
    {.rest = ", 'post_processor': " TEMPLATE("'x'", "[0]"), .error = "\"single\" is not a list"},
    {.rest = ", 'post_processor': " TEMPLATE("[]", "[0]"), .error = "\"single\" does not hold the text"},
    {.rest = ", 'post_processor': " TEMPLATE("[" SEQUENCE("B") "]", "[0]"),
     .error = "more than tokens and one text"},
    {.rest = ", 'post_processor': " TEMPLATE("[" SEQUENCE("A") "," SEQUENCE("A") "]", "[0]"),
     .error = "more than tokens and one text"},
    {.rest = ", 'post_processor': " TEMPLATE("[3," SEQUENCE("A") "]", "[0]"),
     .error = "more than tokens and one text"},
    {.rest = ", 'post_processor': " TEMPLATE("[" BEGIN "," SEQUENCE("A") "]", "0"),
     .error = "\"special_tokens\" has no \"ids\" of \"<b>\""},
    {.rest = ", 'post_processor': " TEMPLATE("[" BEGIN "," SEQUENCE("A") "]", "['0']"),
     .error = "an id of \"<b>\" is not a number"},
    {.rest = ", 'post_processor': " TEMPLATE("[" BEGIN "," SEQUENCE("A") "]", "[3]"),
     .error = "token 3, which goes around a text, is not in the vocabulary"},
    {.rest = ", 'post_processor': " TEMPLATE("[" BEGIN "," SEQUENCE("A") "]", "[0,0,0,0,0,0,0,0,0]"),
     .error = "more than 8 tokens go around a text"},
};

TEST(malformed_tokenizer_json)
{
    const char *folder = test_folder();
    struct error error = {0};
    char *path = path_join(folder, "tokenizer.json", &error);
    for (size_t i = 0; i < sizeof spoiled_json / sizeof *spoiled_json; i++) {
        struct string text = write_json(spoiled_json[i]);
        if (try_json(path, folder, text.data, text.length, &error))
            test_fail(__FILE__, __LINE__, "opened: %s", text.data);
        CHECK_TEXT(error.text, spoiled_json[i].error);
        CHECK_TEXT(error.text, "tokenizer.json: ");
        string_free(&text);
    }
    free(path);
}

/* What is strange in the files beside tokenizer.json: an error where no text could be encoded rightly without
 * it (tokenizer_config.json says what goes around one), else what is not an id is none, and a damaged file is a
 * warning. */
TEST(malformed_tokenizer_files_beside)
{
    static const struct {
        const char *name, *text, *error; /* NULL: none */
        bool warns;
    } cases[] = {
        {"generation_config.json", "{'eos_token_id': 0}", NULL, false},
        {"generation_config.json", "{'eos_token_id': null}", NULL, false},
        {"generation_config.json", "{'eos_token_id': []}", NULL, false},
        {"generation_config.json", "{'eos_token_id': 77}", NULL, true},
        {"generation_config.json", "{'eos_token_id': -1}", NULL, true},
        {"generation_config.json", "{'eos_token_id': 0.5}", NULL, true},
        {"generation_config.json", "{'eos_token_id': 'b'}", NULL, true},
        {"generation_config.json", "{'eos_token_id': [0, 'b', null, 4294967296, 1e400]}", NULL, true},
        {"generation_config.json", "{'eos_token': '</s>'}", NULL, false},
        {"generation_config.json", "[]", NULL, false},
        {"generation_config.json", "{'eos_token_id': ", NULL, true},
        {"generation_config.json", "{'a': 1,\n}", NULL, true},
        {"generation_config.json", "", NULL, true},
        {"tokenizer_config.json", "{'model_max_length': 1000000000000000019884624838656}", NULL, false},
        {"tokenizer_config.json", "{'eos_token': '</s>', 'bos_token': 7, 'add_bos_token': false}", NULL, false},
        {"tokenizer_config.json", "{'eos_token': {'content': null}}", NULL, false},
        {"tokenizer_config.json", "{'bos_token': null, 'add_bos_token': true}", NULL, false},
        {"tokenizer_config.json", "{'a': 1,\n}", "tokenizer_config.json: line 2", false},
        {"tokenizer_config.json", "{'add_bos_token': 1}", "\"add_bos_token\" is not true or false", false},
        {"tokenizer_config.json", "{'bos_token': '<s>', 'add_bos_token': true}",
         "\"bos_token\" is \"<s>\", which is not in the vocabulary", false},
        {"config.json", "{'eos_token_id': 0}", NULL, false},
        {"config.json", "{'eos_token_id': [0, 77]}", NULL, true},
        {"config.json", "{'eos_token_id': ", "config.json: line 1", false},
    };
    const char *folder = test_folder();
    struct error error = {0};
    struct tokenizer *tokenizer;
    CHECK(tokenizer_open(NULL, folder, &tokenizer, &error) == -1);
    CHECK_TEXT(error.text, "tokenizer.json");
    char *path = path_join(folder, "tokenizer.json", &error);
    struct string text = write_json((struct spoiled){0});
    make_file(path, text.data, text.length);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *json = string_copy(cases[i].text, &error), *beside = path_join(folder, cases[i].name, &error);
        put_quotes(json);
        make_file(beside, json, strlen(json));
        free(json);
        if ((tokenizer_open(NULL, folder, &tokenizer, &error) == 0) != !cases[i].error)
            test_fail(__FILE__, __LINE__, "%s: %s", cases[i].text, tokenizer ? "opened" : error.text);
        if (!tokenizer)
            CHECK_TEXT(error.text, cases[i].error ? cases[i].error : "");
        else if (cases[i].warns)
            CHECK_TEXT(tokenizer_warning(tokenizer) ? tokenizer_warning(tokenizer) : "", cases[i].name);
        else
            CHECK(!tokenizer_warning(tokenizer));
        tokenizer_close(tokenizer);
        remove(beside);
        free(beside);
    }
    string_free(&text);
    free(path);
}

/* Sequence in Sequence, and arrays in arrays, a hundred thousand deep. */
TEST(malformed_tokenizer_nesting)
{
    static const char open[] = "{'type': 'Sequence', 'pretokenizers': [", close[] = "]}";
    const char *folder = test_folder();
    struct error error = {0};
    char *path = path_join(folder, "tokenizer.json", &error);
    for (int depth = 5; depth <= 50000; depth *= 100) {
        struct string pre = {0}, text;
        for (int i = 0; i < depth; i++)
            string_append(&pre, open, sizeof open - 1);
        string_append(&pre, GOOD_PRE, sizeof GOOD_PRE - 1);
        for (int i = 0; i < depth; i++)
            string_append(&pre, close, sizeof close - 1);
        text = write_json((struct spoiled){.pre = pre.data});
        CHECK(!try_json(path, folder, text.data, text.length, &error));
        CHECK_TEXT(error.text, depth > 1000 ? "depth" : "pre_tokenizer \"Sequence\" is not supported");
        string_free(&pre);
        string_free(&text);
    }
    free(path);
}

static struct string whole_json(void)
{
    return write_json((struct spoiled){
        .pre = "{'type': 'Sequence', 'pretokenizers': [{'type': 'Split', 'pattern': {'Regex': "
               "'(?i:ab)|[^\\\\r\\\\p{L}]?\\\\p{L}+|\\\\s+(?!\\\\S)|\\\\p{N}{1,3}'}, 'behavior': "
               "'Isolated', 'invert': false}, "
               "{'type': 'Digits', 'individual_digits': true}, " GOOD_PRE "]}",
        .rest = ", 'normalizer': {'type': 'NFC'}, 'added_tokens': [{'id': 3, 'content': '<a>', "
                "'special': true, "
                "'normalized': true, 'lstrip': true, 'rstrip': true}]"});
}

TEST(malformed_tokenizer_cut_short)
{
    const char *folder = test_folder();
    struct error error = {0};
    char *path = path_join(folder, "tokenizer.json", &error);
    struct string text = whole_json();
    CHECK(try_json(path, folder, text.data, text.length, &error));
    for (size_t size = 0; size < text.length; size++)
        CHECK(!try_json(path, folder, text.data, size, &error));
    string_free(&text);
    free(path);
}

/* One to three bytes changed at random. */
TEST(malformed_tokenizer_damaged)
{
    const char *folder = test_folder();
    struct error error = {0};
    char *path = path_join(folder, "tokenizer.json", &error);
    struct random random = {7};
    int opened = 0;
    for (int round = 0; round < 3000; round++) {
        static const char bytes[] = "\"{}[]:,\\0123456789.-eabxtrue\xC3\xFF\x01";
        struct string text = whole_json();
        for (uint64_t change = random_next(&random) % 3 + 1; change > 0; change--)
            text.data[random_next(&random) % text.length] = bytes[random_next(&random) % (sizeof bytes - 1)];
        opened += try_json(path, folder, text.data, text.length, &error);
        string_free(&text);
    }
    CHECK(opened > 100 && opened < 2900); /* both ways are taken */
    free(path);
}

/* The same for the tokenizer's keys in a GGUF file, whose structure tests/malformed/model.c damages. */
TEST(malformed_tokenizer_gguf_damaged)
{
    static const char *const names[] = {"a", "b", "ab", "<a>"};
    struct error error = {0};
    char *path = path_join(test_folder(), "model.gguf", &error);
    struct random random = {8};
    int opened = 0;
    for (int round = 0; round < 3000; round++) {
        struct gguf_maker maker = {.version = 3, .alignment = 32};
        struct gguf *gguf;
        struct tokenizer *tokenizer;
        maker_string(&maker, "tokenizer.ggml.model", "gpt2");
        maker_string(&maker, "tokenizer.ggml.pre", "qwen2");
        struct string *array = maker_array(&maker, "tokenizer.ggml.tokens", GGUF_STRING, 4);
        for (int i = 0; i < 4; i++)
            maker_string_bytes(array, names[i]);
        array = maker_array(&maker, "tokenizer.ggml.token_type", GGUF_I32, 4);
        for (int i = 0; i < 4; i++)
            maker_u32_bytes(array, i < 3 ? 1 : 3);
        maker_string_bytes(maker_array(&maker, "tokenizer.ggml.merges", GGUF_STRING, 1), "a b");
        maker_u32(&maker, "tokenizer.ggml.eos_token_id", 3);
        struct string file = maker_finish(&maker);
        file.data[24 + random_next(&random) % (file.length - 24)] ^= (char)(1 << random_next(&random) % 8);
        make_file(path, file.data, file.length);
        string_free(&file);
        if (gguf_open(path, &gguf, &error) < 0)
            continue;
        if (tokenizer_open(gguf, NULL, &tokenizer, &error) == 0) {
            struct token_list ids = {0};
            CHECK(tokenizer_encode(tokenizer, "ab ba<a>", 8, TOKENIZER_SPECIAL, &ids, &error) == 0);
            free(ids.data);
            tokenizer_close(tokenizer);
            opened++;
        }
        gguf_close(gguf);
    }
    CHECK(opened > 100 && opened < 2900);
    free(path);
}

TEST_MAIN
