#include "extract/sequences.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "extract/portions.h"

/* Sequences in memory, of which `taken` were given. */
struct pile {
    int32_t *ids;
    size_t capacity; /* of ids */
    uint64_t count, taken;
};

struct sequences {
    struct sequences_wish wish;
    struct portions portions;
    struct pile pile[SPLIT_COUNT];
};

static int put(void *context, enum split split, const int32_t *ids, const int32_t *starts, int count,
               struct error *error)
{
    struct sequences *sequences = context;
    const struct sequences_wish *wish = &sequences->wish;
    const size_t length = (size_t)wish->rows + 1;
    struct pile *pile = &sequences->pile[split];
    const uint64_t number = packing_sequences(sequences->portions.packing, split);
    (void)starts;
    (void)count;
    if (split == SPLIT_TRAIN && number % (uint64_t)wish->shards != (uint64_t)wish->shard)
        return 0;
    if (array_grow(&pile->ids, &pile->capacity, (pile->count + 1) * length, error) < 0)
        return -1;
    memcpy(pile->ids + pile->count * length, ids, length * sizeof *ids);
    pile->count++;
    return 0;
}

int sequences_open(const struct sequences_wish *wish, struct sequences **result, struct error *error)
{
    struct sequences *sequences;
    *result = NULL;
    if (array_alloc(&sequences, 1, error) < 0)
        return -1;
    sequences->wish = *wish;
    const struct packing_rules rules = {.rows = wish->rows,
                                        .end = wish->rules.end,
                                        .most = {wish->most[SPLIT_TRAIN], wish->most[SPLIT_HELD_OUT]},
                                        .runs = wish->runs,
                                        .put = put,
                                        .context = sequences};
    if (portions_create(&rules, &sequences->wish.rules, wish->threads, &sequences->portions, error) < 0 ||
        portions_open(&sequences->portions, wish->list, NULL, error) < 0) {
        sequences_close(sequences);
        return -1;
    }
    *result = sequences;
    return 0;
}

void sequences_close(struct sequences *sequences)
{
    if (!sequences)
        return;
    portions_close(&sequences->portions);
    for (int split = 0; split < SPLIT_COUNT; split++)
        free(sequences->pile[split].ids);
    free(sequences);
}

int sequences_next(struct sequences *sequences, int32_t *ids, struct error *error)
{
    const size_t length = (size_t)sequences->wish.rows + 1;
    struct pile *pile = &sequences->pile[SPLIT_TRAIN];
    while (pile->taken == pile->count && !sequences->portions.complete) {
        pile->taken = pile->count = 0;
        if (cli_interrupted())
            return error_set_kind(error, ERROR_INTERRUPTED, "interrupted while the corpus was read");
        if (portions_advance(&sequences->portions, error) < 0)
            return -1;
    }
    if (pile->taken == pile->count)
        return 0;
    memcpy(ids, pile->ids + pile->taken * length, length * sizeof *ids);
    pile->taken++;
    return 1;
}

uint64_t sequences_held_out(const struct sequences *sequences)
{
    return sequences->pile[SPLIT_HELD_OUT].count;
}

const int32_t *sequences_held_out_ids(const struct sequences *sequences, uint64_t number)
{
    return sequences->pile[SPLIT_HELD_OUT].ids + number * ((size_t)sequences->wish.rows + 1);
}

double sequences_share(const struct sequences *sequences)
{
    const struct pile *pile = &sequences->pile[SPLIT_TRAIN];
    const uint64_t all = packing_sequences(sequences->portions.packing, SPLIT_TRAIN);
    const uint64_t waiting = (pile->count - pile->taken) * (uint64_t)sequences->wish.shards;
    const double bytes =
        sequences->wish.list->bytes > 0
            ? (double)corpus_bytes_read(sequences->portions.corpus) / (double)sequences->wish.list->bytes
            : 1;
    const double read = sequences->wish.most[SPLIT_TRAIN] == UINT64_MAX
                            ? bytes
                            : (double)all / (double)sequences->wish.most[SPLIT_TRAIN];
    const double given = all > waiting ? (double)(all - waiting) / (double)all : 0;
    const double share = (read > bytes ? read : bytes) * given;
    return share < 1 ? share : 1;
}
