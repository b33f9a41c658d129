/* cache merge: the shards of an extraction as one store. */
#include <argp.h>

#include "cache/commands.h"
#include "cache/rewrite.h"
#include "common/base/cli.h"

struct merge_command {
    struct cache_stores stores;
    const char *out;
};

enum { OPTION_OUT = 256 };

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct merge_command *command = state->input;
    switch (key) {
    case OPTION_OUT: command->out = text; return 0;
    case ARGP_KEY_NO_ARGS: argp_error(state, "the shards are missing"); return EINVAL;
    case ARGP_KEY_END:
        if (!command->out)
            argp_error(state, "--out is missing");
        return 0;
    default: return cache_take_stores(&command->stores, key, state);
    }
}

static int run(const struct merge_command *command, struct error *error)
{
    const struct rewrite rewrite = {.name = "merge", .out = command->out};
    struct shards *shards;
    if (shards_open(command->stores.path, command->stores.count, &shards, error) < 0)
        return -1;
    int result = rewrite_store(&rewrite, shards, error);
    shards_close(shards);
    return result;
}

int cache_merge(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"out", OPTION_OUT, "STORE", 0, "The folder of the new store", 0}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .args_doc = "SHARD...",
        .doc =
            "Make one store of all shards of an extraction."
            "\vEvery shard must be there once, and be finished. Records keep their bytes, and each is checked. "
            "When the command was stopped, give it again, and it goes on.",
    };
    struct merge_command command = {0};
    struct error error;
    cli_parse(&argp, argc, argv, 0, &command);
    return cache_finish(argv[0], run(&command, &error), &error);
}
