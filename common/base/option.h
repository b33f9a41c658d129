/* option.h: reads values of command-line options inside an argp parser.
 *
 * A wrong value ends the program with EXIT_WRONG_USAGE. The message names the option and quotes the value.
 *
 *     case OPTION_THREADS: options->threads = (int)option_integer(state, "threads", text, 1, 4096); break;
 */
#ifndef OFFRAMP_BASE_OPTION_H
#define OFFRAMP_BASE_OPTION_H

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>

int64_t option_integer(struct argp_state *state, const char *name, const char *text, int64_t least,
                       int64_t most);
double option_number(struct argp_state *state, const char *name, const char *text, double least, double most);
/* As parse_size. */
uint64_t option_size(struct argp_state *state, const char *name, const char *text, bool binary);
/* The index of a word in a list that NULL ends. */
int option_word(struct argp_state *state, const char *name, const char *text, const char *const *words);

#endif
