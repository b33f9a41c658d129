/* manifest.h: what a store was made for. The JSON object has
 *
 *     "model"   {"layers", "hidden", "vocab", ...}   config_to_json's object and "fingerprint"
 *     "rows"    tokens per sequence
 *     "taps"    [{"name": "12.mid", "codec": "lossless"}, ...], the target under "target",
 *               with its "columns" (columns.h)
 *     "shard"   {"index": i, "count": n}, where it is one of several; 0 of 1 when left out
 *
 * and whatever else the writer wants to keep.
 */
#ifndef OFFRAMP_STORE_MANIFEST_H
#define OFFRAMP_STORE_MANIFEST_H

#include <jansson.h>

#include "common/store/store.h"

#define MANIFEST_TAPS_MAX 1000

/* Fills a zeroed info; taps come out in ascending order. `name` goes into errors. */
int manifest_parse(const char *name, const json_t *manifest, struct store_info *info, struct error *error);
void manifest_free(struct store_info *info); /* a zeroed one is fine */

/* Whether a command that wants `wanted` may go on with a store that has `stored`: an error names the
 * first member that differs ("model.hidden") with both values. Members named so in `ignored` (ended by
 * NULL) may differ. */
int manifest_compare(const json_t *stored, const json_t *wanted, const char *const *ignored,
                     struct error *error);

#endif
