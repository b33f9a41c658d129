/* json_repair.h: makes JSON from outside acceptable to jansson, which accepts less than others do.
 *
 * jansson refuses a whole file for one number past its range, for NaN, for half a surrogate pair and for a NUL
 * in a key, even where nobody reads them. (Most tokenizer_config.json files have "model_max_length":
 * 1000000000000000019884624838656.) These are replaced:
 *     an integer past 64 bits             the same number as a real
 *     a number past a double's range      [[]], which every reader of that member refuses
 *     NaN, Infinity, -Infinity            likewise
 *     half a surrogate pair               U+FFFD
 *     NUL (\u0000) in a key               U+FFFD; in a value, too, unless `keep_nul`
 *     a byte order mark at the beginning  is left out
 * Text that is not JSON stays as it is, and jansson refuses it.
 */
#ifndef OFFRAMP_BASE_JSON_REPAIR_H
#define OFFRAMP_BASE_JSON_REPAIR_H

#include <stdbool.h>
#include <stddef.h>

/* Sets *text and *size to the repaired text. Free *copy, which holds it; it is NULL when nothing had to change.
 * Line breaks stay where they are. -1 when memory is out. */
int json_repair(const char **text, size_t *size, bool keep_nul, char **copy);

#endif
