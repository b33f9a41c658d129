/* json_repair.h: makes JSON that others wrote acceptable to jansson, which holds less than the format does.
 *
 * jansson ends at a number past its range, at NaN, at half a surrogate pair and at a NUL in a key, also where
 * nobody reads them ("model_max_length": 1000000000000000019884624838656 stands in most tokenizer_config.json).
 * What it cannot hold becomes something near it:
 *     an integer past 64 bits             the same number as a real
 *     a number past a double's range      [[]], which every reader of that member refuses
 *     NaN, Infinity, -Infinity            likewise
 *     half a surrogate pair               U+FFFD
 *     NUL (\u0000) in a key               U+FFFD; in a value, too, unless `keep_nul`
 *     a byte order mark at the beginning  is left out
 * What is not JSON stays as it is, for jansson to refuse.
 */
#ifndef OFFRAMP_BASE_JSON_REPAIR_H
#define OFFRAMP_BASE_JSON_REPAIR_H

#include <stdbool.h>
#include <stddef.h>

/* Lets *text and *size be the repaired text. *copy is what holds it, to be freed, or NULL: nothing had to change.
 * -1 when memory is out. Line breaks stay where they are. */
int json_repair(const char **text, size_t *size, bool keep_nul, char **copy);

#endif
