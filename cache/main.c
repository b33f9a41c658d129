/* cache: looks after stores. The first word of the command line is the subcommand. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/commands.h"
#include "common/base/cli.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {{"info", cache_info},   {"verify", cache_verify}, {"repair", cache_repair},
                {"merge", cache_merge}, {"recode", cache_recode}, {"export", cache_export},
                {"bench", cache_bench}, {"split", cache_split}};

struct call {
    int code; /* what the subcommand returned */
};

static int run_command(int index, struct argp_state *state)
{
    char *name;
    if (asprintf(&name, "%s %s", state->name, commands[index].name) < 0)
        argp_failure(state, EXIT_FAILED, 0, "out of memory");
    char **argv = state->argv + state->next - 1, *word = argv[0], *program = program_invocation_short_name;
    argv[0] = program_invocation_short_name = name; /* what messages begin with */
    int code = commands[index].run(state->argc - state->next + 1, argv);
    argv[0] = word;
    program_invocation_short_name = program;
    free(name);
    return code;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct call *call = state->input;
    switch (key) {
    case ARGP_KEY_ARG:
        for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
            if (strcmp(text, commands[i].name) == 0) {
                call->code = run_command((int)i, state);
                state->next = state->argc; /* the rest was the subcommand's */
                return 0;
            }
        argp_error(state, "there is no command \"%s\"", text);
        return EINVAL;
    case ARGP_KEY_NO_ARGS: argp_error(state, "a command is missing"); return EINVAL;
    default: return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv)
{
    static const struct argp argp = {
        .parser = parse,
        .args_doc = "COMMAND [OPTION...] STORE...",
        .doc = "Look after the stores that extract writes.\n\n"
               "  info      what a store holds, how large it is, how far it has come\n"
               "  verify    read everything in it and name what is damaged\n"
               "  repair    make a damaged store whole again\n"
               "  merge     make one store of the shards of an extraction\n"
               "  recode    write a store anew with other codecs\n"
               "  split     hold out a part of a store that was made without a held-out split\n"
               "  export    write the tokens and states of a tap to a file for other programs\n"
               "  bench     what every codec would make of its records: size, speed, loss"
               "\v`cache COMMAND --help` says more.",
    };
    struct call call = {EXIT_DONE};
    cli_start();
    cli_parse(&argp, argc, argv, ARGP_IN_ORDER, &call);
    return call.code;
}
