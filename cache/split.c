/* cache split: a held-out split for a store that was made without one. */
#include <argp.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cache/commands.h"
#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/base/option.h"
#include "common/base/progress.h"
#include "common/store/extend.h"
#include "common/store/shards.h"
#include "common/store/split_choose.h"

#define HELD_OUT_SHARE 0.05

struct split_command {
    struct cache_stores stores;
    double held_out;
    bool replace;
};

enum { OPTION_HELD_OUT = 256, OPTION_REPLACE };

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct split_command *command = state->input;
    switch (key) {
    case OPTION_HELD_OUT:
        command->held_out = option_number(state, "held-out", text, 0, SPLIT_SHARE_MAX);
        return 0;
    case OPTION_REPLACE: command->replace = true; return 0;
    default: return cache_take_stores(&command->stores, key, state);
    }
}

/* ---- choosing ---- */

/* All shards' documents, in the order of the sequences. */
static int read_documents(struct shards *shards, struct split_chooser *chooser, struct error *error)
{
    const uint64_t count = shards_sequences(shards, SPLIT_TRAIN), rows = (uint64_t)shards_info(shards)->rows;
    struct shards_reader *reader = NULL;
    struct progress progress;
    int32_t *starts = NULL;
    int number, result = -1;
    if (array_alloc(&starts, rows + 1, error) < 0 || shards_reader_open(shards, &reader, error) < 0)
        goto done;
    result = 0;
    progress_start(&progress, "split", "sequences", count);
    for (uint64_t i = 0; i < count && result == 0; i++) {
        struct sequence sequence = {SPLIT_TRAIN, i};
        struct reader *of = shards_reader_of(reader, &sequence);
        result = cli_interrupted()
                     ? error_set_kind(error, ERROR_INTERRUPTED, "interrupted; nothing was changed")
                     : reader_starts(of, sequence, starts, &number, error);
        for (int j = 0; result == 0 && j < number; j++)
            result = split_chooser_document(chooser, i * rows + (uint64_t)starts[j], error);
        progress_update(&progress, i + 1);
    }
    progress_finish(&progress);
done:
    shards_reader_close(reader);
    free(starts);
    return result;
}

/* ---- what extract held out ---- */

/* What extract held out counts towards the share. Returns the share of the training sequences that is still
 * missing, 0 if none is. It is the same whatever split is there. */
static double missing_share(const struct split_command *command, const struct shards *shards)
{
    const double own = (double)shards_sequences(shards, SPLIT_HELD_OUT),
                 train = (double)shards_sequences(shards, SPLIT_TRAIN),
                 missing = floor(command->held_out * (own + train) + 0.5) - own;
    if (own == 0)
        return command->held_out;
    return missing > 0 && train > 0 ? missing / train : 0;
}

/* Says what becomes of it. An error if it is to be taken away. */
static int check_own(const struct split_command *command, const struct shards *shards, double share,
                     struct error *error)
{
    const uint64_t own = shards_sequences(shards, SPLIT_HELD_OUT),
                   all = own + shards_sequences(shards, SPLIT_TRAIN);
    const double has = all > 0 ? 100 * (double)own / (double)all : 0;
    if (own == 0)
        return 0;
    if (command->held_out == 0 && !json_object_get(shards_manifest(shards), "split"))
        return error_set(
            error,
            "%s: extract itself held out %" PRIu64
            " sequences. That split cannot be taken away: extract the store again with --held-out 0",
            command->stores.path[0], own);
    if (command->held_out == 0)
        cli_say("the %" PRIu64 " sequences that extract held out (%.3g %%) stay held out", own, has);
    else if (share > 0)
        cli_say("the %" PRIu64
                " sequences that extract held out (%.3g %%) stay held out. Training sequences are "
                "added, up to about %.3g %% of all",
                own, has, 100 * command->held_out);
    else
        cli_say("the %" PRIu64
                " sequences that extract held out stay held out. They are %.3g %% of all, so no more "
                "are held out",
                own, has);
    return 0;
}

/* The manifest's member, or NULL. */
static json_t *choose(const struct split_command *command, struct shards *shards, double share,
                      struct error *error)
{
    struct split_chooser *chooser = NULL;
    struct split_list list = {0};
    json_t *split = NULL;
    const char *by;
    if (split_chooser_create(shards_sequences(shards, SPLIT_TRAIN), shards_info(shards)->rows, share, &chooser,
                             error) < 0)
        error_prefix(error, "%s", command->stores.path[0]);
    else if (read_documents(shards, chooser, error) == 0 && (by = split_chooser_finish(chooser, &list, error)))
        split = split_to_json(&list, command->held_out, by, error);
    split_chooser_free(chooser);
    split_free(&list);
    return split;
}

/* ---- giving ---- */

/* An error if the store has another split, and the command line does not say that it is replaced. */
static int check_store(const struct split_command *command, const struct store *store, const json_t *split,
                       struct error *error)
{
    const json_t *there = json_object_get(store_manifest(store), "split");
    if (command->replace || (there && split && json_equal(there, split)))
        return 0;
    if (there)
        return error_set_kind(error, ERROR_USAGE,
                              "%s: the store has another split already; --replace replaces it",
                              store_path(store));
    if (store_sequences(store, SPLIT_HELD_OUT) > 0 && command->held_out > 0)
        return error_set_kind(
            error, ERROR_USAGE,
            "%s: extract held out %" PRIu64
            " sequences already; with --replace they stay held out, and more are added up to the share",
            store_path(store), store_sequences(store, SPLIT_HELD_OUT));
    return 0;
}

static int give_split(const char *path, json_t *split, struct error *error)
{
    struct store *store;
    if (store_open(path, STORE_WRITE, &store, error) < 0)
        return -1;
    const json_t *there = json_object_get(store_manifest(store), "split");
    int result = 0;
    if (split != there && !json_equal(split, there)) {
        json_t *manifest = json_deep_copy(store_manifest(store));
        if (!manifest || (split && json_object_set(manifest, "split", split) < 0))
            result = error_set_kind(error, ERROR_NO_MEMORY, "out of memory for the manifest");
        else if (!split)
            json_object_del(manifest, "split");
        if (result == 0)
            result = extend_manifest(store, manifest, error);
        json_decref(manifest);
    }
    store_close(store);
    return result;
}

static int print_split(const struct split_command *command, const json_t *split, struct error *error)
{
    struct shards *shards;
    if (shards_open(command->stores.path, command->stores.count, &shards, error) < 0)
        return -1;
    const uint64_t train = shards_sequences(shards, SPLIT_TRAIN),
                   held_out = shards_sequences(shards, SPLIT_HELD_OUT);
    shards_forget_split(shards);
    const uint64_t all = shards_all_sequences(shards);
    printf("%" PRIu64 " train and %" PRIu64 " held-out sequences", train, held_out);
    if (split)
        printf(", in %zu runs of %s; %" PRIu64 " beside them are left out",
               json_array_size(json_object_get(split, "runs")), json_string_value(json_object_get(split, "by")),
               all - train - held_out);
    printf("\n");
    shards_close(shards);
    return 0;
}

/* Every shard gets the same split, in a transaction of its own. After a stop the same command goes on. */
static int run(const struct split_command *command, struct error *error)
{
    struct shards *shards;
    json_t *split = NULL;
    if (shards_open_stored(command->stores.path, command->stores.count, &shards, error) < 0)
        return -1;
    int result = shards_check_finished(shards, error);
    const double share = missing_share(command, shards);
    if (result == 0 && share > 0 && !(split = choose(command, shards, share, error)))
        result = -1;
    for (int i = 0; i < command->stores.count && result == 0; i++)
        result = check_store(command, shards_store(shards, i), split, error);
    if (result == 0)
        result = check_own(command, shards, share, error);
    shards_close(shards);
    for (int i = 0; i < command->stores.count && result == 0; i++)
        result = give_split(command->stores.path[i], split, error);
    if (result == 0)
        result = print_split(command, split, error);
    json_decref(split);
    return result;
}

int cache_split(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"held-out", OPTION_HELD_OUT, "SHARE", 0,
         "Hold out this share of all sequences (default: 0.05); 0 takes away a split that this command gave",
         0},
        {"replace", OPTION_REPLACE, NULL, 0, "Replace the split that the store has", 0},
        {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .args_doc = "STORE...",
        .doc =
            "Hold out a part of a finished store that was made without a held-out split."
            "\vHeld-out sequences come in runs, spread over the store. Where documents are short enough, a run "
            "is whole documents. Else one sequence on either side of a run is left out of both splits. Records "
            "stay where they are: the store's manifest says which are held out, and train and the other "
            "commands follow it. Shards are given together, and hold out the same as one store would. What "
            "extract itself held out stays held out and counts towards the share; only the rest of the share "
            "is taken from the training sequences.",
    };
    struct split_command command = {.held_out = HELD_OUT_SHARE};
    struct error error;
    cli_parse(&argp, argc, argv, 0, &command);
    return cache_finish(argv[0], run(&command, &error), &error);
}
