/* pilot.h: the parameters of a tap's codec, from a store that has the tap's states exactly or nearly so.
 *
 *     const struct pilot pilot = {store, tap, sequences, &choice, meter};
 *     pilot_fit(&pilot, &parameters, &setting, &kl, error);
 *
 * The sequences are spread evenly over the store's training split. Most are fitted to; an eighth of them (4096
 * tokens at most, one sequence at least) serves to choose the spacing, so that the choice does not flatter a fit to few
 * tokens. Memory is bounded by the tap's width: 40 bytes times its square, and those 4096 tokens four times.
 *
 * Where bits are asked for (klt:4), records have so many at least: the spacing is that of an ideal coder for each
 * column by itself, or a finer one, where the entropy stage needs less.
 *
 * The same store, sequences and backend give the same bytes.
 */
#ifndef OFFRAMP_PILOT_PILOT_H
#define OFFRAMP_PILOT_PILOT_H

#include "common/base/error.h"
#include "common/base/string.h"
#include "common/pilot/meter.h"
#include "common/store/store.h"

struct pilot {
    struct store *store;
    int tap; /* by place in `store` */
    uint64_t sequences; /* to use of the training split, 1 .. what there are */
    const struct codec_choice *choice; /* of a codec with parameters */
    struct meter *meter; /* of the head that loses (CODEC_KL), for a record's rows; else NULL */
    bool round; /* fit to the states rounded to bf16, though the store has them exactly */
};

/* Tokens worth fitting a codec of states with `hidden` values to, when there are `tokens`: an eighth of them, but 8
 * to 32 for every value. (On SmolLM2-135M at 4 bits, 4, 16 and 48 tokens a value cost 0.15, 0.06 and 0.02 bits more
 * than 85 do.) */
uint64_t pilot_tokens(uint64_t tokens, int hidden);

/* Sequences for that, of a store that has `there` training sequences, where there are `all` over all shards. */
uint64_t pilot_sequences(const struct store_info *info, uint64_t all, uint64_t there);

/* Tokens for each hidden value under which a fit is poor: warned of on standard error. */
#define PILOT_FEW 4
void pilot_warn_few(uint64_t tokens, int hidden);

/* The index in the split of sequence number `number` of `count` that are spread over `total`: ascending, no index twice. */
uint64_t pilot_index(uint64_t number, uint64_t count, uint64_t total);

/* Appends the parameters. *setting: what came of them on the pilot; *kl: with a meter, what the head loses. */
int pilot_fit(const struct pilot *pilot, struct string *parameters, struct codec_setting *setting, double *kl,
              struct error *error);

#endif
