/* measure.h: what codecs make of a store's own records: size, speed, and what the model's head loses.
 *
 *     const struct measure_options options = {names, count, records};
 *     measure_codecs(store, &options, &measures, &taps, &records, error);      // free(*measures)
 *
 * Codecs with parameters are fitted to the store first, as extract would (pilot.h). What is measured is other
 * records: held-out ones where there are some, else training ones that the fit did not see as far as there are.
 */
#ifndef OFFRAMP_CACHE_MEASURE_H
#define OFFRAMP_CACHE_MEASURE_H

#include "common/store/store.h"

/* The head, much the most work, is asked about every fourth token. */
#define MEASURE_STRIDE 4

/* A codec at a tap. Bits are per value. */
struct measure {
    char codec[CODEC_NAME_SIZE];
    int tap; /* by place */
    double bits; /* of records, their headers included */
    double parameter_bits; /* of parameters and their copy, spread over all values of the tap in this store */
    double slack_bits; /* of the rest of a record's last page in LMDB */
    double loss; /* mean of |x - decoded|^2 / |x|^2 over tokens */
    double kl; /* nats per token between the model's head on states before and after */
    /* Seconds per value of one thread: the best of some rounds. */
    double encode_transform, encode_entropy, decode_transform, decode_entropy;
};

struct measure_options {
    char **codecs; /* [count] names as --codec takes them */
    int count;
    uint64_t records; /* of each tap to measure, at most */
};

/* (*measures) [taps, count], codecs of a tap side by side, the target not among the taps. *taps: how many those are;
 * *records: how many of each were measured. Shows its progress on stderr. Every tap must have a record. */
int measure_codecs(struct store *store, const struct measure_options *options, struct measure **measures,
                   int *taps, uint64_t *records, struct error *error);

/* Whether measure_codecs takes held-out records. */
bool measure_takes_held_out(const struct store *store);

#endif
