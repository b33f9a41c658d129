/* pilot.h: fits a tap's codec to the states of a few sequences of a store.
 *
 * The store has the tap's states exactly, or nearly so. The sequences are spread evenly over its training
 * split. The codec is fitted to most of them. An eighth (4096 tokens at most, one sequence at least) serves to
 * choose the spacing: so the choice does not favour a fit to few tokens. Memory: 40 bytes times the square of
 * the tap's width, and four times those 4096 tokens.
 *
 * Where bits are asked for (klt:4), records have at least so many. The spacing is that of an ideal coder for
 * each column by itself; where the entropy stage needs fewer bits, it is finer.
 *
 * The same store, sequences and backend give the same bytes.
 *
 *     const struct pilot pilot = {.store = store, .tap = tap, .sequences = sequences, .choice = &choice, .meter = meter};
 *     pilot_fit(&pilot, &parameters, &setting, &kl, error);
 */
#ifndef OFFRAMP_PILOT_PILOT_H
#define OFFRAMP_PILOT_PILOT_H

#include "common/base/error.h"
#include "common/base/string.h"
#include "common/pilot/meter.h"
#include "common/store/store.h"

struct pilot {
    struct store *store;
    int tap; /* index in `store` */
    uint64_t sequences; /* to use of the training split, 1 .. what there are */
    const struct codec_choice *choice; /* of a codec with parameters */
    struct meter *meter; /* of the head that loses (CODEC_KL), for a record's rows; else NULL */
    bool
        round; /* the states are rounded to bf16 first: a store that has them as f32 gives the same as one that has not */
};

/* How many of `tokens` a codec of states with `hidden` values is fitted to: an eighth, but at least 8 and at
 * most 32 for every value. (On SmolLM2-135M at 4 bits, 4, 16 and 48 tokens a value cost 0.15, 0.06 and 0.02
 * bits more than 85 do.) */
uint64_t pilot_tokens(uint64_t tokens, int hidden);

/* The same in sequences, of a store that has `there` training sequences of the `all` of all shards. */
uint64_t pilot_sequences(const struct store_info *info, uint64_t all, uint64_t there);

/* With fewer tokens than this for each hidden value a fit is poor: pilot_warn_few warns of it on stderr. */
#define PILOT_FEW 4
void pilot_warn_few(uint64_t tokens, int hidden);

/* The index in the split of sequence number `number` of `count` that are spread over `total`: ascending, no
 * index twice. */
uint64_t pilot_index(uint64_t number, uint64_t count, uint64_t total);

/* Appends the parameters. *setting: what came of them on the pilot; *kl: with a meter, what the head loses. */
int pilot_fit(const struct pilot *pilot, struct string *parameters, struct codec_setting *setting, double *kl,
              struct error *error);

#endif
