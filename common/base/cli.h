/* cli.h: what the programs' command lines share.
 *
 * Exit codes: EXIT_DONE; EXIT_FAILED where the job failed, or was interrupted; EXIT_WRONG_USAGE where the
 * command line is wrong. For what argp finds wrong, it prints how to get help; all else is "program: reason" on
 * stderr.
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

/* Call it first, before any file is opened and any thread is started.
 * - A closed descriptor 0, 1 or 2 is taken, so that no file of the program gets its number: reading and writing it fail.
 * - Writing to a closed pipe, or beyond ulimit -f, gives an error. Without this the program would end without a word.
 * - argp ends a wrong command line with EXIT_WRONG_USAGE.
 * - The program listens to the signals that ask it to stop (interrupt.h). */
void cli_start(void);

/* Prints "program: text" and a line feed on stderr, with the name that the program was started by; in the place
 * of what is drawn there (terminal.h). */
void cli_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* What a program ends with: EXIT_DONE where result >= 0, else by the error's kind EXIT_WRONG_USAGE or
 * EXIT_FAILED. */
int cli_exit_code(int result, const struct error *error);

/* argp_parse (flags: 0 or ARGP_IN_ORDER) with -h, --help, --usage and --version added. These end the program;
 * where standard output did not take all of their text, with EXIT_FAILED. A wrong command line ends it with
 * EXIT_WRONG_USAGE. `argp` has at most CLI_CHILDREN children. */
enum { CLI_CHILDREN = 2 };
void cli_parse(const struct argp *argp, int argc, char **argv, unsigned flags, void *input);

/* These take the whole text. Where it is something else, something is left over, or the value is out of range,
 * the error quotes it. */
int parse_integer(const char *text, int64_t least, int64_t most, int64_t *value, struct error *error);
int parse_number(const char *text, double least, double most, double *value, struct error *error);
/* "4096", "64K", "8G", "1.5M": bytes or counts, powers of 1024 when `binary`, else of 1000. */
int parse_size(const char *text, bool binary, uint64_t *value, struct error *error);

/* The index of a word in a list that NULL ends. The error lists the words. */
int parse_word(const char *text, const char *const *words, int *index, struct error *error);

/* "a,b,c" into freshly allocated items, freed with cli_list_free. An empty item is an error. */
int parse_list(const char *text, char ***items, int *count, struct error *error);
void cli_list_free(char **items, int count);

/* For a command that has --force. Passes when `bytes`, which are still to be written to `path`, fit in the `available` ones.
 * Otherwise ERROR_NO_SPACE; with `force` a warning. choices: what else makes the result smaller, as "choose other codecs";
 * NULL: nothing does, and there is no --force. */
int cli_check_room(const char *path, double bytes, double available, const char *choices, bool force,
                   struct error *error);

/* Flushes stdout; -1 with an error when anything printed was lost (disk full, closed pipe). */
int cli_finish_output(struct error *error);

#endif
