/* read_order.h: the order in which the sequences of a split are read.
 *
 * The order is an endless line of places. Place p is a sequence that depends on (seed, p) only, so a reader can
 * begin anywhere. Each `count` places are a pass over the split, which holds every sequence once:
 *
 *     place      0  1  2  3 | 4  5  6  7 | 8 ...
 *     sequence   2  0  3  1 | 1  3  0  2 | ...        // shuffled: another order in every pass
 *     sequence   0  1  2  3 | 0  1  2  3 | ...        // not shuffled
 */
#ifndef OFFRAMP_TRAIN_READ_ORDER_H
#define OFFRAMP_TRAIN_READ_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/store/store.h"

struct read_order {
    enum split split;
    uint64_t count; /* sequences of the split, at least 1 */
    bool shuffled;
    uint64_t seed; /* of the shuffles */
};

struct sequence read_order_at(const struct read_order *order, uint64_t place);

#endif
