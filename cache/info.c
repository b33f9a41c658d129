/* cache info: a page about a store that a person can read. */
#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/commands.h"
#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/store/split.h"
#include "common/store/target.h"

struct info_command {
    const char *path;
    bool json;
};

/* What is measured. The store knows the rest. */
struct measures {
    struct store_usage *tap; /* [taps] */
    struct store_usage tokens, source, parameters;
    uint64_t total; /* bytes */
    uint64_t sequences[SPLIT_COUNT]; /* of the split that `cache split` gave, or of the stored one */
};

enum { OPTION_JSON = 256 };

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct info_command *command = state->input;
    switch (key) {
    case OPTION_JSON: command->json = true; return 0;
    default: return cache_take_store(&command->path, key, text, state);
    }
}

static int count_sequences(struct store *store, struct measures *measures, struct error *error)
{
    const struct store_info *info = store_info(store);
    const uint64_t stored[SPLIT_COUNT] = {store_sequences(store, SPLIT_TRAIN),
                                          store_sequences(store, SPLIT_HELD_OUT)};
    struct split_list list = {0};
    if (split_parse(store_path(store), store_manifest(store), &list, error) < 0)
        return -1;
    for (enum split split = 0; split < SPLIT_COUNT; split++)
        measures->sequences[split] = split_count_shard(&list, split, stored, info->shard, info->shards);
    split_free(&list);
    return 0;
}

static int measure(struct store *store, struct measures *measures, struct error *error)
{
    if (count_sequences(store, measures, error) < 0)
        return -1;
    const int taps = store_info(store)->taps;
    if (array_alloc(&measures->tap, taps, error) < 0 ||
        store_measure(store, STORE_TOKENS, &measures->tokens, error) < 0 ||
        store_measure(store, STORE_SOURCE, &measures->source, error) < 0 ||
        store_measure(store, STORE_PARAMETERS, &measures->parameters, error) < 0)
        return -1;
    measures->total = measures->tokens.bytes + measures->source.bytes + measures->parameters.bytes;
    for (int tap = 0; tap < taps; tap++) {
        if (store_measure(store, tap, &measures->tap[tap], error) < 0)
            return -1;
        measures->total += measures->tap[tap].bytes;
    }
    return 0;
}

/* On disk, with LMDB's pages. 0 while there are no records. */
static double bits_per_value(const struct store_info *info, const struct store_usage *usage)
{
    double values = (double)usage->values * info->rows * info->hidden;
    return values > 0 ? (double)usage->bytes * 8 / values : 0;
}

/* ---- JSON ---- */

static json_t *tap_to_json(struct store *store, const struct measures *measures, int tap)
{
    const struct store_info *info = store_info(store);
    char name[TAP_NAME_SIZE];
    tap_name(info->tap[tap], info->layers, name);
    double bits = bits_per_value(info, &measures->tap[tap]);
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:o*}", "name", name, "codec", info->codec[tap].name,
                     "train", (json_int_t)store_progress(store, tap, SPLIT_TRAIN), "held_out",
                     (json_int_t)store_progress(store, tap, SPLIT_HELD_OUT), "bytes",
                     (json_int_t)measures->tap[tap].bytes, "bits_per_value", bits, "ratio",
                     bits > 0 ? 16 / bits : 0.0, "columns",
                     tap == store_find_target(info) ? columns_to_json(&info->columns) : NULL);
}

/* The manifest, and beside what was asked for what is stored. */
static json_t *to_json(struct store *store, const struct measures *measures)
{
    json_t *object = json_deep_copy(store_manifest(store)), *taps = json_array();
    json_t *stored = json_pack(
        "{s:s, s:i, s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "path", store_path(store), "format", STORE_VERSION,
        "sealed", store_is_sealed(store), "train_sequences", (json_int_t)measures->sequences[SPLIT_TRAIN],
        "held_out_sequences", (json_int_t)measures->sequences[SPLIT_HELD_OUT], "token_bytes",
        (json_int_t)measures->tokens.bytes, "source_bytes", (json_int_t)measures->source.bytes,
        "parameter_bytes", (json_int_t)measures->parameters.bytes, "bytes", (json_int_t)measures->total);
    for (int tap = 0; tap < store_info(store)->taps; tap++)
        json_array_append_new(taps, tap_to_json(store, measures, tap));
    json_object_set_new(object, "taps", taps);
    json_object_set_new(object, "store", stored);
    return object;
}

static int print_json(struct store *store, const struct measures *measures, struct error *error)
{
    return json_print(store_path(store), to_json(store, measures), stdout, error);
}

/* ---- for people ---- */

static const char *text_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_string(value) ? json_string_value(value) : NULL;
}

static void print_model(const struct store *store)
{
    const struct store_info *info = store_info(store);
    const json_t *manifest = store_manifest(store), *model = json_object_get(manifest, "model");
    const char *name = text_of(model, "name"), *family = text_of(model, "family");
    const char *fingerprint = text_of(model, "fingerprint");
    printf("model       %s%s%s%s%d layers, hidden size %d, vocabulary %d\n", name ? name : "", name ? ": " : "",
           family ? family : "", family ? ", " : "", info->layers, info->hidden, info->vocab);
    if (fingerprint)
        printf("            fingerprint %s\n", fingerprint);
    if (info->shards > 1)
        printf("shard       %d of %d (counted from 0)\n", info->shard, info->shards);
}

/* What extract holds out, and what `cache split` has made of the sequences. */
static void print_split(const struct store *store, uint64_t train, uint64_t held_out)
{
    const json_t *split = json_object_get(store_manifest(store), "split");
    const uint64_t stored = store_all_sequences(store);
    const char *by = text_of(split, "by");
    const char *way = text_of(json_object_get(store_manifest(store), "corpus"), "split");
    if (way && strcmp(way, "documents") == 0)
        printf("            whole documents are held out\n");
    else if (way && strcmp(way, "runs") == 0)
        printf("            runs of sequences are held out, and those beside them left out\n");
    if (split)
        printf("            by `cache split`: %zu runs of %s%s, %" PRIu64 " sequences beside them left out\n",
               json_array_size(json_object_get(split, "runs")), by ? by : "?",
               store_info(store)->shards > 1 ? " in all shards" : "", stored - train - held_out);
}

static void print_ids(const char *label, const json_t *ids)
{
    for (size_t i = 0; i < json_array_size(ids); i++)
        printf("%s%" JSON_INTEGER_FORMAT, i > 0 ? " " : label, json_integer_value(json_array_get(ids, i)));
}

/* The ids around the texts of the corpus. Of token files there are none. */
static void print_texts(const struct store *store)
{
    const json_t *corpus = json_object_get(store_manifest(store), "corpus");
    const json_t *before = json_object_get(corpus, "before_text"),
                 *behind = json_object_get(corpus, "behind_text");
    const json_t *end = json_object_get(corpus, "end_of_text");
    if (!json_is_array(before))
        return;
    print_ids("            before each text the ids ", before);
    if (json_array_size(before) == 0)
        printf("            before each text no token");
    print_ids(", behind it ", behind);
    if (json_is_integer(end))
        printf(", between documents %" JSON_INTEGER_FORMAT, json_integer_value(end));
    printf("\n");
}

static void print_sequences(const struct store *store, const uint64_t sequences[SPLIT_COUNT])
{
    const int rows = store_info(store)->rows;
    const uint64_t train = sequences[SPLIT_TRAIN], held_out = sequences[SPLIT_HELD_OUT];
    printf("sequences   %" PRIu64 " train and %" PRIu64 " held-out of %d tokens: %" PRIu64 " and %" PRIu64
           " tokens\n",
           train, held_out, rows, train * (uint64_t)rows, held_out * (uint64_t)rows);
    print_split(store, train, held_out);
    print_texts(store);
}

static void print_usage(const char *name, const struct store_usage *usage, const char *what)
{
    char bytes[32];
    format_bytes((double)usage->bytes, bytes, sizeof bytes);
    printf("%-11s %-9s %10s  %s\n", name, "", bytes, what);
}

static void print_columns(const struct columns *columns)
{
    printf("%-11s", "  columns");
    for (int i = 0; i < columns->count; i++) {
        printf("%s %s", i > 0 ? "," : "", columns->column[i].name);
        if (columns->column[i].width > 1)
            printf(" x %d", columns->column[i].width);
    }
    printf("\n");
}

static void print_taps(struct store *store, const struct measures *measures)
{
    const struct store_info *info = store_info(store);
    printf("\n%-11s %-9s %10s %11s %9s %19s\n", "tap", "codec", "size", "bits/value", "of bf16",
           "train, held-out");
    for (int tap = 0; tap < info->taps; tap++) {
        char name[TAP_NAME_SIZE], bytes[32];
        double bits = bits_per_value(info, &measures->tap[tap]);
        tap_name(info->tap[tap], info->layers, name);
        format_bytes((double)measures->tap[tap].bytes, bytes, sizeof bytes);
        printf("%-11s %-9s %10s", name, info->codec[tap].name, bytes);
        if (bits > 0)
            printf(" %11.2f %8.2fx", bits, 16 / bits);
        else
            printf(" %11s %9s", "-", "-");
        printf(" %11" PRIu64 ", %6" PRIu64 "\n", store_progress(store, tap, SPLIT_TRAIN),
               store_progress(store, tap, SPLIT_HELD_OUT));
    }
    if (info->columns.count > 0)
        print_columns(&info->columns);
    print_usage("tokens", &measures->tokens, "");
    print_usage("tensors", &measures->source, "of the model, for heads to copy");
    if (measures->parameters.values > 0)
        print_usage("parameters", &measures->parameters, "of codecs, with a copy");
    char total[32];
    format_bytes((double)measures->total, total, sizeof total);
    printf("%-11s %-9s %10s\n", "all", "", total);
}

/* cache repair notes the numerics of records that it computed with --allow-numerics. */
static void print_numerics(struct store *store)
{
    const char *numerics = text_of(store_manifest(store), "numerics");
    struct error ignored;
    void *other = NULL;
    size_t size;
    if (numerics)
        printf("numerics    %s\n", numerics);
    if (store_get_note(store, "numerics", &other, &size, &ignored) == 0 && other)
        printf("repaired    in part with the numerics %.*s\n", (int)size, (const char *)other);
    free(other);
}

static void print_state(struct store *store)
{
    const char *command = text_of(store_manifest(store), "command");
    if (store_is_sealed(store))
        printf("\nfinished: sealed, read without locks\n");
    else
        printf("\nnot finished: give the command that made it again, and it goes on\n");
    print_numerics(store);
    if (command)
        printf("made by     %s\n", command);
}

static int print_page(struct store *store, const struct measures *measures)
{
    printf("store       %s (format %d)\n", store_path(store), STORE_VERSION);
    print_model(store);
    print_sequences(store, measures->sequences);
    print_taps(store, measures);
    print_state(store);
    return 0;
}

static int run(const struct info_command *command, struct error *error)
{
    struct store *store;
    struct measures measures = {0};
    if (store_open(command->path, STORE_READ, &store, error) < 0)
        return -1;
    int result = measure(store, &measures, error);
    if (result == 0)
        result = command->json ? print_json(store, &measures, error) : print_page(store, &measures);
    free(measures.tap);
    store_close(store);
    return result;
}

int cache_info(int argc, char **argv)
{
    static const struct argp_option options[] = {{"json", OPTION_JSON, NULL, 0, "Print the page as JSON", 0},
                                                 {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .args_doc = "STORE",
        .doc = "Say what a store holds: model, taps, sizes, how far it has come, the command that made it."
               "\vSizes are what the file uses on disk. The store may be in the making.",
    };
    struct info_command command = {0};
    struct error error;
    cli_parse(&argp, argc, argv, 0, &command);
    return cache_finish(argv[0], run(&command, &error), &error);
}
