#include <stdio.h>
#include <string.h>

#include "cache/commands.h"
#include "common/base/cli.h"

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

/* What is damaged, repair mends, unless the message or the command is repair's own. */
static const char *repair_hint(const char *name, const struct error *error)
{
    return error->kind == ERROR_DAMAGED && !strstr(error->text, "cache repair") && !strstr(name, "repair")
               ? " (`cache verify` finds all that is damaged, `cache repair` mends it)"
               : "";
}

int cache_finish(const char *name, int result, struct error *error)
{
    if (result == 0)
        result = cli_finish_output(error);
    if (result < 0)
        fprintf(stderr, "%s: %s%s\n", name, error->text, repair_hint(name, error));
    return result < 0 ? EXIT_FAILED : EXIT_DONE;
}
