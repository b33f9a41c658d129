#include <stdio.h>

#include "cache/commands.h"
#include "common/base/cli.h"

void cache_take_store(const char **path, const char *text, struct argp_state *state)
{
    if (*path)
        argp_error(state, "one store at a time");
    *path = text;
}

int cache_finish(const char *name, int result, struct error *error)
{
    if (result == 0)
        result = cli_finish_output(error);
    if (result < 0)
        fprintf(stderr, "%s: %s\n", name, error->text);
    return result < 0 ? EXIT_FAILED : EXIT_DONE;
}
