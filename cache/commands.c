#include <stdio.h>

#include "cache/commands.h"
#include "common/base/cli.h"
#include "common/store/store.h"

static error_t take_other(int key, struct argp_state *state)
{
    if (key == ARGP_KEY_NO_ARGS)
        argp_error(state, "a store is missing");
    return ARGP_ERR_UNKNOWN;
}

error_t cache_take_store(const char **path, int key, const char *text, struct argp_state *state)
{
    if (key != ARGP_KEY_ARG)
        return take_other(key, state);
    if (*path)
        argp_error(state, "one store at a time");
    *path = text;
    return 0;
}

error_t cache_take_stores(struct cache_stores *stores, int key, struct argp_state *state)
{
    if (key != ARGP_KEY_ARGS)
        return take_other(key, state);
    stores->path = (const char *const *)(state->argv + state->next);
    stores->count = state->argc - state->next;
    return 0;
}

int cache_finish(const char *name, int result, struct error *error)
{
    if (result < 0)
        store_advise(error);
    return cache_finish_repair(name, result, error);
}

int cache_finish_repair(const char *name, int result, struct error *error)
{
    if (result == 0)
        result = cli_finish_output(error);
    if (result < 0)
        fprintf(stderr, "%s: %s\n", name, error->text);
    return cli_exit_code(result, error);
}
