/* measure.h: what codecs make of a store's own records: size, speed, and what the model's head loses.
 *
 *     const struct measure_options options = {names, count, records};
 *     struct measured measured;
 *     measure_codecs(store, &options, &measured, error);
 *     ... measured.measure[tap * options.count + codec] ...
 *     free(measured.measure);
 *
 * Codecs with parameters are fitted to the store first, as extract does (pilot.h). Other records are measured:
 * held-out ones where there are some, else training ones, which the fit did not see as far as there are enough.
 */
#ifndef OFFRAMP_CACHE_MEASURE_H
#define OFFRAMP_CACHE_MEASURE_H

#include "common/store/store.h"

/* The head is asked about every fourth token, since it is most of the work. */
#define MEASURE_STRIDE 4

/* A codec at a tap. Bits are per value. */
struct measure {
    char codec[CODEC_NAME_SIZE];
    int tap; /* index in store_info */
    double bits; /* of records, their headers included */
    double parameter_bits; /* of parameters and their copy, spread over all values of the tap in this store */
    double slack_bits; /* of the unused end of a record's last page */
    double loss; /* mean of |x - decoded|^2 / |x|^2 over tokens */
    double kl; /* nats per token between the model's head on states before and after */
    /* Seconds per value of one thread, the best of some rounds: */
    double encode_transform, encode_entropy, decode_transform, decode_entropy;
};

struct measure_options {
    char **codecs; /* [count] names as --codec takes them */
    int count;
    uint64_t records; /* of each tap to measure, at most */
};

struct measured {
    struct measure *measure; /* [taps, options->count], to free; the target is not among the taps */
    int taps;
    uint64_t records; /* of each tap */
};

/* Every tap must have a record. Shows its progress on stderr. On error measured->measure is NULL. */
int measure_codecs(struct store *store, const struct measure_options *options, struct measured *measured,
                   struct error *error);

/* Whether measure_codecs takes held-out records. */
bool measure_takes_held_out(const struct store *store);

#endif
