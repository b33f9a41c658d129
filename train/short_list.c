#include "train/short_list.h"

#include <stdlib.h>

#include "common/base/memory.h"
#include "train/feed.h"
#include "train/frequency.h"

/* ---- counting ---- */

/* How often each token comes. */
struct counting {
    int64_t vocab, *times;
};

static int count_batch(void *context, const struct feed_batch *batch, struct error *error)
{
    const struct counting *counting = context;
    for (int64_t r = 0; r < batch->rows; r++) {
        const int32_t token = batch->values ? batch->values[r].top : batch->labels[r];
        if (token < 0 || token >= counting->vocab)
            return error_set(error, "token %d of the training split is not in the vocabulary", (int)token);
        counting->times[token]++;
    }
    return 0;
}

/* The most frequent ones, from how often each comes. */
static int choose_tokens(const int64_t *times, struct short_list_tokens *tokens, struct error *error)
{
    const int64_t vocab = tokens->vocab, eighth = vocab / 8;
    int32_t *order;
    double all = 0, those = 0;
    tokens->count = (int)(eighth < 8                 ? (vocab < 8 ? vocab : 8)
                          : eighth < SHORT_LIST_MOST ? eighth
                                                     : SHORT_LIST_MOST);
    if (array_alloc(&order, vocab, error) < 0)
        return -1;
    int result = array_alloc(&tokens->token, tokens->count, error);
    if (result == 0)
        result = array_alloc(&tokens->rank, vocab, error);
    if (result == 0)
        result = tokens_by_frequency(times, NULL, vocab, order, error);
    for (int64_t v = 0; v < vocab && result == 0; v++) {
        const double often = (double)times[order[v]];
        all += often;
        those += v < tokens->count ? often : 0;
        tokens->rank[order[v]] = v < tokens->count ? (int32_t)v : tokens->count;
        if (v < tokens->count)
            tokens->token[v] = order[v];
    }
    tokens->covered = all > 0 ? those / all : 0;
    free(order);
    return result;
}

int short_list_count(const struct stores *stores, uint64_t seed, int threads, struct short_list_tokens *tokens,
                     bool *complete, struct error *error)
{
    const uint64_t sequences = stores->sequences[SPLIT_TRAIN],
                   enough = SHORT_LIST_COUNTED / (uint64_t)stores->rows + 1;
    const struct feed_plan plan = {.split = SPLIT_TRAIN,
                                   .shuffled = true,
                                   .seed = seed,
                                   .values = store_find_target(shards_info(stores->shards)) >= 0,
                                   .sequences = 1,
                                   .end = sequences < enough ? sequences : enough};
    struct feed *feed = NULL;
    struct counting counting = {.vocab = stores->config.vocab};
    *tokens = (struct short_list_tokens){.vocab = stores->config.vocab};
    *complete = false;
    if (array_alloc(&counting.times, counting.vocab, error) < 0)
        return -1;
    int result = feed_open(stores, &plan, threads, &feed, error);
    if (result == 0)
        result = feed_take_all(feed, count_batch, &counting, complete, error);
    if (result == 0 && *complete)
        result = choose_tokens(counting.times, tokens, error);
    feed_close(feed);
    free(counting.times);
    if (result < 0)
        short_list_tokens_free(tokens);
    return result;
}

void short_list_tokens_free(struct short_list_tokens *tokens)
{
    free(tokens->token);
    free(tokens->rank);
    *tokens = (struct short_list_tokens){0};
}

/* ---- rows ---- */

/* Of the model's output weight, which the stores keep. */
static int take_shared(struct short_list *list, const struct stores *stores, struct error *error)
{
    const struct short_list_tokens *tokens = list->tokens;
    const int64_t hidden = stores->config.hidden;
    struct source_shape shape;
    void *data = NULL;
    size_t row = 0;
    if (shards_get_source(stores->shards, "output", &shape, &data, error) < 0)
        return -1;
    int result = 0;
    if (shape.rows != tokens->vocab || shape.cols != hidden || !dtype_row_bytes(shape.type, hidden, &row))
        result = error_set(error, "the store's output weight is not the model's");
    for (int t = 0; t < tokens->count && result == 0; t++)
        dtype_to_f32(shape.type, (const char *)data + (size_t)tokens->token[t] * row, hidden,
                     list->rows + t * hidden);
    free(data);
    return result;
}

/* Of the head's own. */
static int take_own(struct short_list *list, const struct trial *trial, struct matrix own, struct error *error)
{
    for (int t = 0; t < list->tokens->count; t++)
        op_read(trial->queue, matrix_rows(own, list->tokens->token[t], 1), list->rows + t * own.cols);
    return queue_wait(trial->queue, error);
}

int short_list_open(const struct short_list_tokens *tokens, const struct trial *trial,
                    const struct stores *stores, struct short_list **list, struct error *error)
{
    const int64_t hidden = stores->config.hidden;
    const struct vocab own = head_vocab(trial->head, NULL);
    struct short_list *made;
    *list = NULL;
    if (array_alloc(&made, 1, error) < 0)
        return -1;
    made->tokens = tokens;
    int result = array_alloc(&made->rows, tokens->count * hidden, error);
    if (result == 0)
        result =
            matrix_is_none(own.own) ? take_shared(made, stores, error) : take_own(made, trial, own.own, error);
    const struct weight_part part = {
        .type = DTYPE_F32, .rows = tokens->count, .cols = hidden, .data = made->rows};
    if (result == 0)
        result = weight_prepare(queue_backend(trial->queue), &part, 1, NULL, WEIGHT_FORWARD | WEIGHT_ROWS,
                                &made->weight, error);
    if (result < 0) {
        short_list_close(made);
        return -1;
    }
    *list = made;
    return 0;
}

void short_list_close(struct short_list *list)
{
    if (!list)
        return;
    weight_destroy(list->weight);
    free(list->rows);
    free(list);
}

struct vocab short_list_vocab(const struct short_list *list)
{
    return (struct vocab){.tied = list->weight, .own = matrix_none()};
}
