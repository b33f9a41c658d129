#include "train/gate_samples.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "train/feed.h"

/* What op_vocab_stats gives of each row, on the device and on the host. */
enum { VALUE_LSE, VALUE_ENTROPY, VALUE_BEST, VALUE_BEST_LOGIT, VALUES };
struct softmaxes {
    struct buffer *buffer[VALUES];
    float *lse, *entropy, *logit; /* [rows], [rows], [rows, best] */
    int32_t *token; /* [rows, best] */
    int best; /* GATE_BEST, or fewer of a small vocabulary */
    bool looked; /* more is wanted than the likeliest token */
};

struct sampler {
    const struct gate_source *source;
    struct gate_samples *samples;
    struct softmaxes vocabulary, list;
    float *states, *h; /* [rows, H] of a batch */
    int64_t hidden;
};

static void softmaxes_free(struct softmaxes *softmaxes)
{
    for (int v = 0; v < VALUES; v++)
        buffer_destroy(softmaxes->buffer[v]);
    free(softmaxes->lse);
    free(softmaxes->entropy);
    free(softmaxes->logit);
    free(softmaxes->token);
}

static void sampler_free(struct sampler *sampler)
{
    softmaxes_free(&sampler->vocabulary);
    softmaxes_free(&sampler->list);
    free(sampler->states);
    free(sampler->h);
}

/* ---- making ---- */

static int softmaxes_create(struct softmaxes *softmaxes, struct backend *backend, int64_t rows, int64_t vocab,
                            bool looked, struct error *error)
{
    softmaxes->looked = looked;
    softmaxes->best = !looked ? 1 : vocab < GATE_BEST ? (int)vocab : GATE_BEST;
    const int64_t best = rows * softmaxes->best, values[VALUES] = {rows, rows, best, best};
    for (int v = 0; v < VALUES; v++) {
        if (buffer_create(backend, (size_t)values[v] * sizeof(float), &softmaxes->buffer[v], error) < 0)
            return -1;
    }
    if (array_alloc(&softmaxes->lse, rows, error) < 0 || array_alloc(&softmaxes->entropy, rows, error) < 0 ||
        array_alloc(&softmaxes->logit, best, error) < 0)
        return -1;
    return array_alloc(&softmaxes->token, best, error);
}

static int sampler_create(struct sampler *sampler, struct error *error)
{
    const struct gate_source *source = sampler->source;
    const struct batch *batch = source->evaluation->batch;
    const int64_t rows = batch->capacity, tokens = sampler->samples->tokens;
    struct gate_samples *samples = sampler->samples;
    if (softmaxes_create(&sampler->vocabulary, batch->backend, rows, source->evaluation->stores->config.vocab,
                         source->features & GATE_CONFIDENCE, error) < 0 ||
        (source->list && softmaxes_create(&sampler->list, batch->backend, rows, source->list->tokens->count,
                                          true, error) < 0) ||
        array_alloc(&sampler->states, rows * sampler->hidden, error) < 0 ||
        array_alloc(&sampler->h, rows * sampler->hidden, error) < 0 ||
        array_alloc(&samples->values, tokens * samples->width, error) < 0 ||
        array_alloc(&samples->agrees, tokens, error) < 0 ||
        array_alloc(&samples->confidence, tokens, error) < 0)
        return -1;
    return source->list ? array_alloc(&samples->likely, tokens, error) : 0;
}

/* ---- a batch, on the device ---- */

static void put_softmax(struct softmaxes *softmaxes, struct queue *queue, struct matrix h,
                        const struct vocab *vocab, int64_t first)
{
    const int64_t rows = h.rows;
    struct matrix lse = matrix_f32(softmaxes->buffer[VALUE_LSE], rows, 1),
                  entropy = matrix_f32(softmaxes->buffer[VALUE_ENTROPY], rows, 1);
    const struct vocab_stats stats = {
        .lse = lse,
        .entropy = softmaxes->looked ? entropy : matrix_none(),
        .best = matrix_i32(softmaxes->buffer[VALUE_BEST], rows, softmaxes->best),
        .best_logit = matrix_f32(softmaxes->buffer[VALUE_BEST_LOGIT], rows, softmaxes->best),
    };
    op_vocab_stats(queue, h, vocab, matrix_none(), &stats);
    op_read(queue, lse, softmaxes->lse + first);
    if (softmaxes->looked)
        op_read(queue, entropy, softmaxes->entropy + first);
    op_read(queue, stats.best, softmaxes->token + first * softmaxes->best);
    op_read(queue, stats.best_logit, softmaxes->logit + first * softmaxes->best);
}

static int take_piece(struct sampler *sampler, struct piece piece, struct error *error)
{
    const struct gate_source *source = sampler->source;
    const struct evaluation_setting *setting = source->evaluation;
    struct trial *const trials[1] = {source->trial};
    const struct vocab vocab = head_vocab(source->trial->head, setting->batch->output);
    struct queue *queue = setting->workspace->queue;
    struct stack stack;
    if (trials_forward(trials, 1, setting->workspace, setting->batch, piece, &stack, error) < 0)
        return -1;
    put_softmax(&sampler->vocabulary, queue, stack.h, &vocab, piece.first);
    if (source->list) {
        const struct vocab list = short_list_vocab(source->list);
        put_softmax(&sampler->list, queue, stack.h, &list, piece.first);
    }
    op_read(queue, stack.h, sampler->h + piece.first * sampler->hidden);
    return 0;
}

/* In pieces that the device's memory holds. */
static int take_batch(struct sampler *sampler, struct error *error)
{
    const struct evaluation_setting *setting = sampler->source->evaluation;
    struct workspace *workspace = setting->workspace;
    const bool by_row = trial_is_by_row(sampler->source->trial);
    const int64_t rows = setting->batch->rows;
    int result;
    do {
        const int64_t pieces = workspace_pieces(workspace, by_row, rows);
        result = 0;
        for (int64_t p = 0; p < pieces && result == 0; p++)
            result = take_piece(sampler, workspace_piece(workspace, by_row, rows, p), error);
        if (result == 0)
            result = queue_wait(workspace->queue, error);
    } while (result < 0 && workspace_recover(workspace, by_row, error));
    if (result < 0)
        return -1;
    op_read(setting->batch->queue, batch_states(setting->batch, sampler->source->trial->config.spec.tap),
            sampler->states);
    return queue_wait(setting->batch->queue, error);
}

/* ---- a batch, on the host ---- */

static int32_t rank_of(const struct short_list *list, int32_t token)
{
    return list ? list->tokens->rank[token] : 0;
}

/* list: whether `token` counts the short list's tokens. */
static void see_softmax(const struct softmaxes *softmaxes, const struct short_list *list, bool of_list,
                        int64_t row, struct gate_softmax *seen)
{
    const float *logit = softmaxes->logit + row * softmaxes->best;
    const int32_t *token = softmaxes->token + row * softmaxes->best;
    const int last = softmaxes->best - 1;
    for (int b = 0; b < GATE_BEST; b++)
        seen->logit[b] = logit[b < last ? b : last];
    for (int r = 0; r < 2; r++) {
        const int32_t which = token[r < last ? r : last];
        seen->rank[r] = of_list ? which : rank_of(list, which); /* the list is in the order of ranks */
    }
    seen->lse = softmaxes->lse[row];
    seen->entropy = softmaxes->entropy[row];
}

static void see_candidates(const struct sampler *sampler, const struct gate_candidates *candidates, int64_t row,
                           struct gate_named *seen)
{
    const struct short_list *list = sampler->source->list;
    const float *h = sampler->h + row * sampler->hidden;
    for (int n = 0; n < GATE_NAMED; n++) {
        const int32_t token = candidates->token[n];
        double sum = 0;
        if (token < 0) { /* there are fewer: as the last */
            seen->logit[n] = seen->logit[n - 1];
            seen->prior[n] = 0;
            continue;
        }
        const float *weights = list->rows + list->tokens->rank[token] * sampler->hidden;
        for (int64_t c = 0; c < sampler->hidden; c++)
            sum += (double)h[c] * weights[c];
        seen->logit[n] = (float)sum;
        seen->prior[n] = candidates->prior[n];
    }
}

static void find_likely(const struct softmaxes *softmaxes, const struct short_list *list, int64_t row,
                        struct gate_candidates *likely)
{
    for (int n = 0; n < GATE_NAMED; n++) {
        const int64_t at = row * softmaxes->best + n;
        const bool there = n < softmaxes->best;
        likely->token[n] = there ? list->tokens->token[softmaxes->token[at]] : -1;
        likely->prior[n] = there ? expf(softmaxes->logit[at] - softmaxes->lse[row]) : 0;
    }
}

/* Rows [0, batch->rows), which are the tokens from `first` on. */
static void keep_rows(const struct sampler *sampler, int64_t first)
{
    const struct gate_source *source = sampler->source;
    const struct batch *batch = source->evaluation->batch;
    const struct gate_samples *samples = sampler->samples;
    const struct softmaxes *vocabulary = &sampler->vocabulary;
    for (int64_t r = 0; r < batch->rows; r++) {
        const int64_t token = first + r, at = r * vocabulary->best;
        struct gate_sight sight = {.state = sampler->states + r * sampler->hidden};
        samples->agrees[token] = vocabulary->token[at] == batch->values[r].top;
        samples->confidence[token] = exp((double)vocabulary->logit[at] - vocabulary->lse[r]);
        if (source->features & GATE_CONFIDENCE)
            see_softmax(vocabulary, source->list, false, r, &sight.vocabulary);
        if (source->list) {
            see_softmax(&sampler->list, source->list, true, r, &sight.short_list);
            find_likely(&sampler->list, source->list, r, &samples->likely[token]);
        }
        if (source->features & GATE_CANDIDATES)
            see_candidates(sampler, &source->candidates[token], r, &sight.named);
        gate_features(source->features, sampler->hidden, &sight, samples->values + token * samples->width);
    }
}

/* ---- the split ---- */

static int sample_batch(void *context, const struct feed_batch *next, struct error *error)
{
    struct sampler *sampler = context;
    const struct evaluation_setting *setting = sampler->source->evaluation;
    if (batch_load(setting->batch, next, TEACH_OUTCOME, error) < 0 || take_batch(sampler, error) < 0)
        return -1;
    keep_rows(sampler, (int64_t)next->first * setting->stores->rows);
    return 0;
}

int gate_samples_read(const struct gate_source *source, struct gate_samples *samples, bool *complete,
                      struct error *error)
{
    const struct evaluation_setting *setting = source->evaluation;
    struct batch *batch = setting->batch;
    struct feed_plan plan = {
        .split = SPLIT_HELD_OUT, .sequences = setting->sequences, .end = source->sequences};
    struct sampler sampler = {.source = source, .samples = samples, .hidden = batch->hidden};
    struct feed *feed = NULL;
    *samples = (struct gate_samples){.features = source->features,
                                     .tokens = (int64_t)source->sequences * setting->stores->rows,
                                     .width = gate_width(source->features, batch->hidden)};
    *complete = false;
    batch_use(batch, &source->trial->config.spec.tap, 1);
    batch_plan(batch, TEACH_OUTCOME, &plan);
    int result = sampler_create(&sampler, error);
    if (result == 0)
        result = feed_open(setting->stores, &plan, setting->threads, &feed, error);
    if (result == 0)
        result = feed_take_all(feed, sample_batch, &sampler, complete, error);
    feed_close(feed);
    batch_use(batch, batch->tap, batch->taps);
    sampler_free(&sampler);
    if (result < 0 || !*complete)
        gate_samples_free(samples);
    return result;
}

void gate_samples_free(struct gate_samples *samples)
{
    free(samples->values);
    free(samples->agrees);
    free(samples->confidence);
    free(samples->likely);
    *samples = (struct gate_samples){0};
}
