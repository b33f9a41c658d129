#include "train/read_order.h"

#include "common/base/hash.h"
#include "common/base/random.h"

struct sequence read_order_at(const struct read_order *order, uint64_t place)
{
    const uint64_t pass = place / order->count, index = place % order->count;
    if (!order->shuffled)
        return (struct sequence){order->split, index};
    const uint64_t key = hash_bytes(&pass, sizeof pass, order->seed);
    return (struct sequence){order->split, random_permute(index, order->count, key)};
}
