/* cache recode: a finished store with other codecs. */
#include <argp.h>
#include <stdlib.h>

#include "cache/commands.h"
#include "cache/rewrite.h"
#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/device/options.h"
#include "common/store/codecs.h"

struct recode_command {
    struct cache_stores stores;
    int threads;
    bool force;
    const char *out, *codec;
};

enum { OPTION_OUT = 256, OPTION_CODEC, OPTION_FORCE };

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct recode_command *command = state->input;
    struct error error;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &command->threads; return 0;
    case OPTION_OUT: command->out = text; return 0;
    case OPTION_CODEC:
        if (codecs_check(text, &error) < 0)
            argp_error(state, "%s", error.text);
        command->codec = text;
        return 0;
    case OPTION_FORCE: command->force = true; return 0;
    case ARGP_KEY_END:
        if (!command->codec || !command->out)
            argp_error(state, "%s is missing", command->codec ? "--out" : "--codec");
        return 0;
    default: return cache_take_stores(&command->stores, key, state);
    }
}

static int run(const struct recode_command *command, struct error *error)
{
    struct rewrite rewrite = {
        .name = "recode", .out = command->out, .threads = command->threads, .force = command->force};
    struct codec_choice *codec = NULL;
    struct shards *shards;
    if (shards_open(command->stores.path, command->stores.count, &shards, error) < 0)
        return -1;
    const struct store_info *info = shards_info(shards);
    int result = array_alloc(&codec, info->taps, error);
    if (result == 0)
        result = codecs_parse(command->codec, info->tap, info->taps, info->layers, codec, error);
    rewrite.codec = codec;
    if (result == 0)
        result = rewrite_store(&rewrite, shards, error);
    free(codec);
    shards_close(shards);
    return result;
}

int cache_recode(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"codec", OPTION_CODEC, "LIST", 0, "The codecs, as for extract: klt:4, or 12=klt:3,final=lossless",
         DEVICE_OPTIONS_GROUP},
        {"out", OPTION_OUT, "STORE", 0, "The folder of the new store", 0},
        {"force", OPTION_FORCE, NULL, 0, "Start even if the disk will become full", 0},
        {0}};
    static const struct argp_child children[] = {{.argp = &threads_argp}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .children = children,
        .args_doc = "STORE...",
        .doc =
            "Write a finished store anew with other codecs."
            "\vTaps whose codec does not change keep their records' bytes. Codecs with parameters (klt) are "
            "fitted to the states as the store has them, so start from lossless or raw. A sample of records "
            "says how large the new store will be. If the disk is too small, nothing is written. Shards are "
            "given together and become one store. When the command was stopped, give it again, and it goes on.",
    };
    struct recode_command command = {0};
    struct error error;
    cli_parse(&argp, argc, argv, 0, &command);
    return cache_finish(argv[0], run(&command, &error), &error);
}
