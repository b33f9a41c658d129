#include "train/draft_tokens.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "train/feed.h"
#include "train/frequency.h"

static void count_rows(const struct feed_batch *batch, struct draft_counts *counts)
{
    for (int64_t r = 0; r < batch->rows; r++) {
        const struct target_row *row = &batch->values[r];
        counts->chosen[row->top]++;
        for (int b = 0; b < TARGET_BEST; b++) {
            if (row->best[b] >= 0 && row->best[b] < counts->vocab)
                counts->weight[row->best[b]] += (double)row->best_probability[b];
        }
    }
}

int draft_tokens_count(const struct stores *stores, int threads, struct draft_counts *counts,
                       struct error *error)
{
    const struct feed_plan plan = {
        .split = SPLIT_TRAIN, .values = true, .sequences = 1, .end = stores->sequences[SPLIT_TRAIN]};
    const struct feed_batch *batch;
    struct feed *feed = NULL;
    int result = -1;
    *counts = (struct draft_counts){.vocab = stores->config.vocab};
    if (array_alloc(&counts->chosen, counts->vocab, error) < 0 ||
        array_alloc(&counts->weight, counts->vocab, error) < 0 ||
        feed_open(stores, &plan, threads, &feed, error) < 0)
        return -1;
    while ((result = feed_next(feed, &batch, error)) == 0 && batch)
        count_rows(batch, counts);
    feed_close(feed);
    return result;
}

void draft_counts_free(struct draft_counts *counts)
{
    free(counts->chosen);
    free(counts->weight);
    *counts = (struct draft_counts){0};
}

static int compare_tokens(const void *a, const void *b)
{
    const int32_t *one = a, *other = b;
    return (*one > *other) - (*one < *other);
}

int draft_tokens_choose(const struct draft_counts *counts, int count, int32_t *tokens, struct error *error)
{
    int32_t *order;
    if (array_alloc(&order, counts->vocab, error) < 0)
        return -1;
    const int result = tokens_by_frequency(counts->chosen, counts->weight, counts->vocab, order, error);
    if (result == 0) {
        memcpy(tokens, order, (size_t)count * sizeof *tokens);
        qsort(tokens, (size_t)count, sizeof *tokens, compare_tokens);
    }
    free(order);
    return result;
}
