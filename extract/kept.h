/* kept.h: the states that the pilot has computed, for the run to store, so that no sequence runs through the
 * model twice.
 *
 * They are a store: the folder "pilot" in the one that is made. It has the same taps, as exactly as their
 * codecs see them: bf16 where the codec rounds to that first, else f32. So a record is the same whether its
 * states come from here or from the model.
 *
 *     sequences of the split   0   1   2   3   4   5   6   7   8   9  10  11
 *     kept, in their order         0               1               2          kept_index: number -> index in the split
 *
 *     kept_open(own, store, &kept, error);
 *     if (kept_has(kept, sequence))                                    // from any thread
 *         kept_read(kept, tap, sequence, states, values, error);       // one thread
 *     kept_close(kept);
 */
#ifndef OFFRAMP_EXTRACT_KEPT_H
#define OFFRAMP_EXTRACT_KEPT_H

#include <jansson.h>
#include <stdbool.h>

#include "common/base/error.h"
#include "common/store/store.h"
#include "common/store/target.h"

/* Whether it pays to keep the states of `count` of `all` training sequences: below a share of 1/KEPT_LEAST,
 * computing them twice takes less than keeping them may. */
#define KEPT_LEAST 64
bool kept_pays(uint64_t count, uint64_t all);

/* The manifest of the pilot's store for `count` sequences, spread over the training sequences of `store`; NULL
 * on error. everything: all taps, to be kept. Otherwise those that lack[tap] says, as lossless bf16, which is
 * what codecs are fitted to. */
json_t *kept_manifest(const struct store *store, uint64_t count, bool everything, const bool *lack,
                      struct error *error);

struct kept;

/* The states of the pilot's store `own`, which is kept's from now on, even after an error. An error where it is
 * not complete or not of this store's sequences: then it is of no use. */
int kept_open(struct store *own, struct store *store, struct kept **kept, struct error *error);
void kept_close(struct kept *kept); /* NULL is fine */

/* NULL has none. */
bool kept_has(const struct kept *kept, struct sequence sequence);
/* states [rows, hidden], of the target its u and, then, values [rows]. */
int kept_read(struct kept *kept, int tap, struct sequence sequence, float *states, struct target_row *values,
              struct error *error);

/* Adds to an ERROR_DAMAGED of the pilot's store `own` what helps: without that store its states are computed again.
 * Always returns -1. */
int kept_advise(const struct store *own, struct error *error);

#endif
