/* manifest.h: what a store was made for, as a JSON object:
 *
 *     "model"   {"layers", "hidden", "vocab", ...}   config_to_json's object and "fingerprint"
 *     "rows"    tokens per sequence
 *     "taps"    [{"name": "12.mid", "codec": "lossless"}, ...]; the target is "target", and has "columns" (columns.h)
 *     "shard"   {"index": i, "count": n}, where it is one of several; without it 0 of 1
 *     "split"   where `cache split` gave one (split.h)
 *
 * The writer may keep more in it.
 */
#ifndef OFFRAMP_STORE_MANIFEST_H
#define OFFRAMP_STORE_MANIFEST_H

#include <jansson.h>

#include "common/store/store.h"

#define MANIFEST_TAPS_MAX 1000

/* Into a zeroed info, with the taps in ascending order. Errors begin with `name` and say which member is
 * wrong. */
int manifest_parse(const char *name, const json_t *manifest, struct store_info *info, struct error *error);
void manifest_free(struct store_info *info); /* a zeroed one is fine */

/* 0: a command that wants `wanted` may go on with a store that has `stored`. An error names the first member
 * that differs ("model.hidden"), with both values. Members that `ignored` names in this way may differ; NULL
 * ends it. */
int manifest_compare(const json_t *stored, const json_t *wanted, const char *const *ignored,
                     struct error *error);

#endif
