/* commands.h: the subcommands of `cache`, one file each. argv[0] is the command's full name ("cache info"). */
#ifndef OFFRAMP_CACHE_COMMANDS_H
#define OFFRAMP_CACHE_COMMANDS_H

#include <argp.h>

#include "common/base/error.h"

/* Each parses its own options and returns an exit code (common/base/cli.h). */
int cache_info(int argc, char **argv);
int cache_verify(int argc, char **argv);
int cache_repair(int argc, char **argv);
int cache_merge(int argc, char **argv);
int cache_recode(int argc, char **argv);
int cache_export(int argc, char **argv);
int cache_bench(int argc, char **argv);
int cache_split(int argc, char **argv);

/* Takes the argument STORE. A command's argp parser calls it for every key that is not one of its options, and
 * returns what it returns. No store, or two, ends the program as wrong usage. */
error_t cache_take_store(const char **path, int key, const char *text, struct argp_state *state);

/* The same for the arguments STORE...: stores, or all shards of one. */
struct cache_stores {
    const char *const *path; /* [count] */
    int count;
};
error_t cache_take_stores(struct cache_stores *stores, int key, struct argp_state *state);

/* Ends a command: flushes stdout, and says "NAME: reason" on stderr when that failed or `result` is -1. Of a
 * damaged store it says, too, how it is mended. Returns the exit code. */
int cache_finish(const char *name, int result, struct error *error);
/* The same without the advice, for `cache repair` itself. */
int cache_finish_repair(const char *name, int result, struct error *error);

#endif
