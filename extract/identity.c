#include "extract/identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/string.h"
#include "common/store/target.h"
#include "extract/texts.h"

/* ---- making ---- */

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static json_t *cap_to_json(uint64_t tokens)
{
    return tokens > INT64_MAX ? json_null() : json_integer((json_int_t)tokens);
}

static json_t *paths_to_json(const struct extract_options *options)
{
    json_t *paths = json_array();
    for (size_t i = 0; i < options->corpus.count; i++)
        json_array_append_new(paths, json_string(options->corpus.path[i]));
    for (size_t i = 0; i < options->held_out_corpus.count; i++)
        json_array_append_new(paths, json_string(options->held_out_corpus.path[i]));
    return paths;
}

static json_t *corpus_to_json(const struct identity *identity)
{
    const struct extract_options *options = identity->options;
    return json_pack("{s:o, s:I, s:I, s:s, s:s, s:f, s:o, s:o, s:i, s:o, s:o}", "paths", paths_to_json(options),
                     "files", (json_int_t)identity->list->count, "bytes", (json_int_t)identity->list->bytes,
                     "fingerprint", identity->list->fingerprint, "field", options->field, "held_out",
                     options->held_out, "tokens", cap_to_json(options->tokens[SPLIT_TRAIN]), "held_out_tokens",
                     cap_to_json(options->tokens[SPLIT_HELD_OUT]), "end_of_text", (int)identity->end,
                     "before_text", texts_before(identity->tokenizer, identity->list), "behind_text",
                     texts_behind(identity->tokenizer, identity->list));
}

static json_t *taps_to_json(const struct identity *identity)
{
    json_t *taps = json_array();
    for (int i = 0; i < identity->taps; i++) {
        char name[TAP_NAME_SIZE];
        tap_name(identity->tap[i], model_config(identity->model)->layers, name);
        json_t *columns =
            strcmp(name, "target") == 0 ? columns_to_json(target_columns()) : NULL; /* else left out */
        json_array_append_new(taps, json_pack("{s:s, s:s, s:o*}", "name", name, "codec",
                                              identity->codec[i].name, "columns", columns));
    }
    return taps;
}

static json_t *model_to_json(const struct identity *identity, struct error *error)
{
    char fingerprint[17];
    if (model_fingerprint(identity->model, fingerprint, error) < 0)
        return NULL;
    json_t *object = config_to_json(model_config(identity->model), error);
    if (!object)
        return NULL;
    json_object_set_new(object, "name", json_string(last_part(model_path(identity->model))));
    json_object_set_new(object, "fingerprint", json_string(fingerprint));
    return object;
}

json_t *identity_manifest(const struct identity *identity, struct error *error)
{
    char tokenizer[17];
    json_t *model = model_to_json(identity, error);
    if (!model)
        return NULL;
    if (identity->tokenizer)
        tokenizer_fingerprint(identity->tokenizer, tokenizer);
    json_t *manifest =
        json_pack("{s:o, s:s?, s:o, s:i, s:o, s:s, s:s, s:s}", "model", model, "tokenizer",
                  identity->tokenizer ? tokenizer : NULL, "corpus", corpus_to_json(identity), "rows",
                  identity->options->rows, "taps", taps_to_json(identity), "numerics", identity->numerics,
                  "command", identity->options->command, "version", OFFRAMP_VERSION);
    if (manifest && identity->options->shards > 1)
        json_object_set_new(
            manifest, "shard",
            json_pack("{s:i, s:i}", "index", identity->options->shard, "count", identity->options->shards));
    if (!manifest)
        error_set(error, "the manifest could not be written: a path is not UTF-8, or memory is out");
    return manifest;
}

/* ---- comparing ----
 *
 * manifest_compare (common/store) compares all of two manifests; here what may differ does, and what may not
 * is called by its option. */

static const struct {
    const char *option, *object, *member; /* object NULL: a member of the manifest itself */
    const char *label; /* another member of the object, to print beside the value; or NULL */
    bool grows; /* differs where the corpus has grown */
} fields[] = {
    {"--model", "model", "fingerprint", "name", false},
    {"--model (its tokenizer)", NULL, "tokenizer", NULL, false},
    {"--model (the tokens that go before a text)", "corpus", "before_text", NULL, false},
    {"--model (the tokens that go behind a text)", "corpus", "behind_text", NULL, false},
    {"--field", "corpus", "field", NULL, false},
    {"--held-out", "corpus", "held_out", NULL, false},
    {"--tokens", "corpus", "tokens", NULL, false},
    {"--held-out-tokens", "corpus", "held_out_tokens", NULL, false},
    {"--end-of-text", "corpus", "end_of_text", NULL, false},
    {"--seq-len", NULL, "rows", NULL, false},
    {"--shard", NULL, "shard", NULL, false},
    {"--taps, --no-target or --codec", NULL, "taps", NULL, false},
    {"--device, --math or the libraries (numerics)", NULL, "numerics", NULL, false},
    {"--corpus (number of files)", "corpus", "files", NULL, true},
    {"--corpus (bytes)", "corpus", "bytes", NULL, true},
    {"--corpus (fingerprint of the files)", "corpus", "fingerprint", NULL, true},
};

/* The target among a manifest's taps, or NULL. */
static json_t *find_target(const json_t *manifest)
{
    const json_t *taps = json_object_get(manifest, "taps");
    json_t *tap = json_array_get(taps, json_array_size(taps) - 1);
    const char *name = json_string_value(json_object_get(tap, "name"));
    return name && strcmp(name, "target") == 0 ? tap : NULL;
}

bool identity_keep_columns(const json_t *there, json_t *wanted)
{
    json_t *list = json_object_get(find_target(there), "columns"), *target = find_target(wanted);
    struct columns columns;
    struct error ignored;
    if (!list || !target || json_equal(list, json_object_get(target, "columns")) ||
        columns_parse(list, &columns, &ignored) < 0 || target_check_made(&columns, &ignored) < 0)
        return false;
    json_object_set_new(target, "columns", json_deep_copy(list));
    return true;
}

/* " (top, loss)", where they are not the usual ones. */
static void print_columns(const json_t *columns, struct string *text)
{
    json_t *usual = columns_to_json(target_columns());
    for (size_t i = 0; i < json_array_size(columns) && !json_equal(columns, usual); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(columns, i), "name"));
        string_print(text, "%s%s%s", i > 0 ? ", " : " (", name ? name : "?",
                     i + 1 == json_array_size(columns) ? ")" : "");
    }
    json_decref(usual);
}

/* "6 lossless, final lossless": taps are read more easily so than as JSON. */
static char *print_taps(const json_t *taps)
{
    struct string text = {0};
    struct error ignored;
    for (size_t i = 0; i < json_array_size(taps); i++) {
        const json_t *tap = json_array_get(taps, i);
        const char *name = json_string_value(json_object_get(tap, "name"));
        const char *codec = json_string_value(json_object_get(tap, "codec"));
        string_print(&text, "%s%s %s", i > 0 ? ", " : "", name ? name : "?", codec ? codec : "?");
        print_columns(json_object_get(tap, "columns"), &text);
    }
    if (!string_failed(&text, &ignored))
        return text.data;
    string_free(&text);
    return NULL;
}

static char *print_shard(const json_t *shard)
{
    char *text;
    const json_int_t index = json_integer_value(json_object_get(shard, "index"));
    const json_int_t count = json_integer_value(json_object_get(shard, "count"));
    return asprintf(&text, "%lld/%lld", (long long)index, (long long)count) < 0 ? NULL : text;
}

static char *print_value(const json_t *value, const json_t *label)
{
    char *text;
    if (json_is_array(value) && json_is_object(json_array_get(value, 0)))
        return print_taps(value);
    if (!value || json_is_null(value))
        return strdup("none");
    if (json_is_object(value))
        return print_shard(value);
    if (!json_is_string(value))
        return json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    if (!json_is_string(label))
        return strdup(json_string_value(value));
    return asprintf(&text, "%s, %s", json_string_value(label), json_string_value(value)) < 0 ? NULL : text;
}

int identity_compare(const char *store, const json_t *there, const json_t *wanted, struct error *error)
{
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const char *object = fields[i].object, *label = fields[i].label;
        const json_t *old_parent = object ? json_object_get(there, object) : there;
        const json_t *new_parent = object ? json_object_get(wanted, object) : wanted;
        const json_t *old = json_object_get(old_parent, fields[i].member);
        const json_t *new = json_object_get(new_parent, fields[i].member);
        if (json_equal(old, new) || (!old && !new))
            continue;
        char *before = print_value(old, label ? json_object_get(old_parent, label) : NULL);
        char *now = print_value(new, label ? json_object_get(new_parent, label) : NULL);
        error_set_kind(error, fields[i].grows ? ERROR_INPUT : ERROR_USAGE,
                       "%s: was made with another %s: %s; this command has %s: give the same, or another --out",
                       store, fields[i].option, before ? before : "?", now ? now : "?");
        free(before);
        free(now);
        return -1;
    }
    return 0;
}

bool identity_may_have_grown(const json_t *there, const json_t *wanted)
{
    const json_t *old_corpus = json_object_get(there, "corpus"),
                 *new_corpus = json_object_get(wanted, "corpus");
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const char *object = fields[i].object;
        const json_t *old = json_object_get(object ? json_object_get(there, object) : there, fields[i].member);
        const json_t *new =
            json_object_get(object ? json_object_get(wanted, object) : wanted, fields[i].member);
        if (!fields[i].grows && !json_equal(old, new) && (old || new))
            return false;
    }
    return json_integer_value(json_object_get(new_corpus, "bytes")) >
               json_integer_value(json_object_get(old_corpus, "bytes")) &&
           json_integer_value(json_object_get(new_corpus, "files")) >=
               json_integer_value(json_object_get(old_corpus, "files"));
}
