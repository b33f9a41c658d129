#include "extract/order.h"

struct order order_of(const struct store *store)
{
    const struct store_info *info = store_info(store);
    struct order order = {.shard = info->shard, .shards = info->shards};
    for (enum split split = 0; split < SPLIT_COUNT; split++) {
        const uint64_t end = store_sequences(store, split);
        order.first[split] = end;
        for (int tap = 0; tap < info->taps; tap++)
            if (store_progress(store, tap, split) < order.first[split])
                order.first[split] = store_progress(store, tap, split);
        order.count[split] = end - order.first[split];
    }
    return order;
}

uint64_t order_length(const struct order *order)
{
    return split_sum(order->count);
}

struct sequence order_at(const struct order *order, uint64_t index)
{
    const uint64_t train = order->count[SPLIT_TRAIN];
    const enum split split = index < train ? SPLIT_TRAIN : SPLIT_HELD_OUT;
    const uint64_t own = order->first[split] + (index < train ? index : index - train);
    return shard_sequence(order->shard, order->shards, split, own);
}

uint64_t order_stored(const struct order *order, const struct store *store, int tap)
{
    const uint64_t train = store_progress(store, tap, SPLIT_TRAIN) - order->first[SPLIT_TRAIN];
    if (train < order->count[SPLIT_TRAIN])
        return train;
    return train + store_progress(store, tap, SPLIT_HELD_OUT) - order->first[SPLIT_HELD_OUT];
}

int order_set_progress(const struct order *order, struct store *store, int tap, uint64_t stored,
                       struct error *error)
{
    const uint64_t most = order->count[SPLIT_TRAIN], train = stored < most ? stored : most;
    const uint64_t held_out = order->first[SPLIT_HELD_OUT] + stored - train;
    if (store_set_progress(store, tap, SPLIT_TRAIN, order->first[SPLIT_TRAIN] + train, error) < 0)
        return -1;
    if (held_out <= store_progress(store, tap, SPLIT_HELD_OUT))
        return 0;
    return store_set_progress(store, tap, SPLIT_HELD_OUT, held_out, error);
}
