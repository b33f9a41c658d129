/* identity.c: a store goes on with the command that made it; whatever differs is named, with both values. */
#include <jansson.h>

#include "common/store/target.h"
#include "extract/identity.h"
#include "tests/test.h"

static struct error error;

static json_t *make_manifest(void)
{
    return json_loads(
        "{\"model\": {\"name\": \"a.gguf\", \"fingerprint\": \"00aa\", \"layers\": 2},"
        " \"tokenizer\": \"11bb\", \"rows\": 512, \"numerics\": \"cpu avx2 f32 onednn-2.6.3\","
        " \"corpus\": {\"paths\": [\"x\"], \"files\": 3, \"bytes\": 1000, \"fingerprint\": \"22cc\","
        " \"field\": \"text\", \"held_out\": 0.05, \"tokens\": null, \"held_out_tokens\": 4096,"
        " \"end_of_text\": 0, \"before_text\": [128000], \"behind_text\": []},"
        " \"taps\": [{\"name\": \"6\", \"codec\": \"lossless\"}],"
        " \"shard\": {\"index\": 0, \"count\": 2}, \"command\": \"extract\"}",
        0, NULL);
}

/* A field of the manifest, another value of it, and how the error says so. */
static const struct {
    const char *object, *member, *value, *text;
} changes[] = {
    {"model", "fingerprint", "\"00ab\"", "--model: a.gguf, 00aa; this command has a.gguf, 00ab"},
    {NULL, "tokenizer", "\"11bc\"", "--model (its tokenizer): 11bb; this command has 11bc"},
    {NULL, "tokenizer", "null", "--model (its tokenizer): 11bb; this command has none"},
    {"corpus", "before_text", "[]",
     "--model (the tokens that go before a text): [128000]; this command has []"},
    {"corpus", "before_text", "null", "(the tokens that go before a text): [128000]; this command has none"},
    {"corpus", "behind_text", "[7, 8]", "(the tokens that go behind a text): []; this command has [7, 8]"},
    {"corpus", "files", "2", "--corpus (number of files): 3; this command has 2"},
    {"corpus", "bytes", "999", "--corpus (bytes): 1000; this command has 999"},
    {"corpus", "fingerprint", "\"22cd\"", "--corpus (fingerprint of the files): 22cc; this command has 22cd"},
    {"corpus", "field", "\"body\"", "--field: text; this command has body"},
    {"corpus", "held_out", "0.1", "--held-out: 0.05; this command has 0.1"},
    {"corpus", "tokens", "8192", "--tokens: none; this command has 8192"},
    {"corpus", "held_out_tokens", "512", "--held-out-tokens: 4096; this command has 512"},
    {"corpus", "end_of_text", "2", "--end-of-text: 0; this command has 2"},
    {NULL, "rows", "1024", "--seq-len: 512; this command has 1024"},
    {NULL, "taps", "[{\"name\": \"7\", \"codec\": \"lossless\"}]",
     "--taps, --no-target or --codec: 6 lossless; this command has 7"},
    {NULL, "taps", "[{\"name\": \"6\", \"codec\": \"raw\"}]", "6 lossless; this command has 6 raw"},
    {NULL, "shard", "{\"index\": 1, \"count\": 2}", "--shard: 0/2; this command has 1/2"},
    {NULL, "numerics", "\"cpu avx2 bf16 onednn-2.6.3\"",
     "(numerics): cpu avx2 f32 onednn-2.6.3; this command has cpu avx2 bf16 onednn-2.6.3"},
};

static json_t *change(size_t i)
{
    json_t *manifest = make_manifest();
    json_t *object = changes[i].object ? json_object_get(manifest, changes[i].object) : manifest;
    json_object_set_new(object, changes[i].member, json_loads(changes[i].value, JSON_DECODE_ANY, NULL));
    return manifest;
}

TEST(identity_names_what_differs)
{
    json_t *there = make_manifest();
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        json_t *wanted = change(i);
        CHECK(identity_compare("store", there, wanted, &error) < 0);
        CHECK_TEXT(error.text, changes[i].text);
        CHECK(!identity_may_have_grown(there, wanted));
        json_decref(wanted);
    }
    json_decref(there);
}

/* A model's file, the corpus's folders and the command may have other names. */
TEST(identity_lets_names_differ)
{
    json_t *there = make_manifest(), *wanted = make_manifest();
    json_object_set_new(json_object_get(wanted, "model"), "name", json_string("b.gguf"));
    json_object_set_new(json_object_get(wanted, "corpus"), "paths", json_array());
    json_object_set_new(wanted, "command", json_string("/usr/bin/extract"));
    REQUIRE_OK(identity_compare("store", there, wanted, &error));
    json_decref(there);
    json_decref(wanted);
}

/* A target goes on with the columns that it has, where this program can make them. */
TEST(identity_keeps_columns)
{
    static const struct {
        const char *there;
        bool kept;
    } lists[] = {
        {"[{\"name\": \"loss\", \"type\": \"f32\", \"width\": 1}]", true},
        {"[{\"name\": \"best\", \"type\": \"i32\", \"width\": 3},"
         " {\"name\": \"best_probability\", \"type\": \"f16\", \"width\": 3}]",
         true},
        {"[{\"name\": \"best\", \"type\": \"i32\", \"width\": 9},"
         " {\"name\": \"best_probability\", \"type\": \"f16\", \"width\": 9}]",
         false},
        {"[{\"name\": \"best\", \"type\": \"i32\", \"width\": 3}]", false},
        {"[{\"name\": \"loss\", \"type\": \"f16\", \"width\": 1}]", false},
        {"[{\"name\": \"words\", \"type\": \"i32\", \"width\": 1}]", false},
        {"[]", false},
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        json_t *there = make_manifest(), *wanted = make_manifest();
        json_array_append_new(json_object_get(there, "taps"),
                              json_pack("{ss ss so}", "name", "target", "codec", "klt:4", "columns",
                                        json_loads(lists[i].there, 0, NULL)));
        CHECK(!identity_keep_columns(there, wanted)); /* no target is wanted */
        json_array_append_new(json_object_get(wanted, "taps"),
                              json_pack("{ss ss so}", "name", "target", "codec", "klt:4", "columns",
                                        columns_to_json(target_columns())));
        CHECK(identity_compare("store", there, wanted, &error) < 0);
        CHECK(identity_keep_columns(there, wanted) == lists[i].kept);
        CHECK((identity_compare("store", there, wanted, &error) == 0) == lists[i].kept);
        CHECK(!identity_keep_columns(there, wanted)); /* they are the same now, or cannot be */
        json_decref(there);
        json_decref(wanted);
    }
}

TEST(identity_may_grow)
{
    json_t *there = make_manifest(), *wanted = make_manifest(), *corpus = json_object_get(wanted, "corpus");
    json_object_set_new(corpus, "fingerprint", json_string("33"));
    CHECK(!identity_may_have_grown(there, wanted)); /* of the same size */
    json_object_set_new(corpus, "bytes", json_integer(1001));
    CHECK(identity_may_have_grown(there, wanted));
    json_object_set_new(corpus, "files", json_integer(4));
    CHECK(identity_may_have_grown(there, wanted));
    CHECK(identity_compare("store", there, wanted, &error) < 0);
    json_object_set_new(corpus, "files", json_integer(2));
    CHECK(!identity_may_have_grown(there, wanted));
    json_object_set_new(corpus, "files", json_integer(4));
    json_object_set_new(wanted, "rows", json_integer(8));
    CHECK(!identity_may_have_grown(there, wanted));
    CHECK(identity_compare("store", there, wanted, &error) < 0);
    CHECK_TEXT(error.text, "--seq-len: 512; this command has 8"); /* not the corpus, which could go on */
    json_decref(there);
    json_decref(wanted);
}

TEST_MAIN
