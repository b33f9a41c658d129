#include <stdio.h>
#include <string.h>

#include "cache/commands.h"
#include "common/base/cli.h"

void cache_take_store(const char **path, const char *text, struct argp_state *state)
{
    if (*path)
        argp_error(state, "one store at a time");
    *path = text;
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
