/* cli.h: what the programs' command lines share.
 *
 * Exit codes: EXIT_DONE; EXIT_FAILED where the job failed, or was interrupted; EXIT_WRONG_USAGE where the command line is wrong.
 * For what argp finds wrong, it prints how to get help; all else is "program: reason" on stderr.
 *
 *     cli_start();
 *     cli_parse(&argp, argc, argv, 0, &options);
 *     result = work(&options, &error);
 *     if (result < 0)
 *         cli_say("%s", error.text);
 *     return cli_exit_code(result, &error);
 */
#ifndef OFFRAMP_BASE_CLI_H
#define OFFRAMP_BASE_CLI_H

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/interrupt.h" /* cli_interrupted, cli_await */

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_WRONG_USAGE = 2 };

#define OFFRAMP_VERSION "0.1.0"

/* Keeps descriptors 0, 1 and 2 from being a file of the program's own where they are closed (reads and writes fail),
 * sets argp's exit status, makes a closed pipe and a file beyond ulimit -f errors instead of a signal's silence, and
 * listens to the signals that ask the program to stop (interrupt.h). Before any file is opened or thread is started. */
void cli_start(void);

/* "program: text" and a line feed on stderr; the program is called what it was called as. */
void cli_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* What a program ends with: EXIT_DONE where result >= 0, else by the error's kind EXIT_WRONG_USAGE or EXIT_FAILED. */
int cli_exit_code(int result, const struct error *error);

/* argp_parse (flags: 0 or ARGP_IN_ORDER) with -h, --help, --usage and --version, which end the program:
 * with EXIT_FAILED when standard output took less than all. A wrong command line ends it with EXIT_WRONG_USAGE.
 * `argp` has at most CLI_CHILDREN children. */
enum { CLI_CHILDREN = 2 };
void cli_parse(const struct argp *argp, int argc, char **argv, unsigned flags, void *input);

/* Whole-text parsers: -1 with an error that quotes the text when anything is left over or out of range. */
int parse_integer(const char *text, int64_t least, int64_t most, int64_t *value, struct error *error);
int parse_number(const char *text, double least, double most, double *value, struct error *error);
/* "4096", "64K", "8G", "1.5M": bytes or counts, powers of 1024 when `binary`, else of 1000. */
int parse_size(const char *text, bool binary, uint64_t *value, struct error *error);

/* The index of a word in a list ended by NULL; the error lists them. */
int parse_word(const char *text, const char *const *words, int *index, struct error *error);

/* "a,b,c" into freshly allocated items, freed with cli_list_free. An empty item is an error. */
int parse_list(const char *text, char ***items, int *count, struct error *error);
void cli_list_free(char **items, int count);

/* Flushes stdout; -1 with an error when anything printed was lost (disk full, closed pipe). */
int cli_finish_output(struct error *error);

#endif
