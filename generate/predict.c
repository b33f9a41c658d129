#include "generate/predict.h"

#include <math.h>

#include "common/base/memory.h"

enum { LSE, TOP_LOGIT, STATS };

struct predictor {
    struct queue *queue;
    int hidden, vocab;
    struct buffer *input; /* [1, H] */
    struct buffer *stats; /* [1, STATS] */
    struct buffer *top; /* [1, 1] i32 */
    struct buffer *logits; /* [1, V]; only when sampling */
    float *values; /* [V] on the host; only when sampling */
};

int predictor_create(struct queue *queue, int hidden, int vocab, bool sampling, struct predictor **result,
                     struct error *error)
{
    struct backend *backend = queue_backend(queue);
    struct predictor *predictor = NULL;
    *result = NULL;
    if (array_alloc(&predictor, 1, error) < 0)
        return -1;
    predictor->queue = queue;
    predictor->hidden = hidden;
    predictor->vocab = vocab;
    if (buffer_create(backend, (size_t)hidden * sizeof(float), &predictor->input, error) < 0 ||
        buffer_create(backend, STATS * sizeof(float), &predictor->stats, error) < 0 ||
        buffer_create(backend, sizeof(int32_t), &predictor->top, error) < 0)
        goto failed;
    if (sampling && (buffer_create(backend, (size_t)vocab * sizeof(float), &predictor->logits, error) < 0 ||
                     array_alloc(&predictor->values, vocab, error) < 0))
        goto failed;
    *result = predictor;
    return 0;
failed:
    predictor_destroy(predictor);
    return -1;
}

void predictor_destroy(struct predictor *predictor)
{
    if (!predictor)
        return;
    buffer_destroy(predictor->input);
    buffer_destroy(predictor->stats);
    buffer_destroy(predictor->top);
    buffer_destroy(predictor->logits);
    free(predictor->values);
    free(predictor);
}

struct matrix predictor_input(const struct predictor *predictor)
{
    return matrix_f32(predictor->input, 1, predictor->hidden);
}

/* Greedy: the logits stay on the device. */
static int run_stats(struct predictor *predictor, const struct vocab *weight, struct prediction *prediction,
                     struct error *error)
{
    const struct matrix row = matrix_f32(predictor->stats, 1, STATS);
    const struct vocab_stats stats = {
        .lse = matrix_cols(row, LSE, 1),
        .label = matrix_none(),
        .top = matrix_i32(predictor->top, 1, 1),
        .top_logit = matrix_cols(row, TOP_LOGIT, 1),
        .entropy = matrix_none(),
        .u = matrix_none(),
    };
    float values[STATS];
    op_vocab_stats(predictor->queue, predictor_input(predictor), weight, matrix_none(), &stats);
    op_read(predictor->queue, row, values);
    op_read(predictor->queue, stats.top, &prediction->token);
    if (queue_wait(predictor->queue, error) < 0)
        return -1;
    prediction->probability = exp((double)values[TOP_LOGIT] - (double)values[LSE]);
    return 0;
}

static int run_logits(struct predictor *predictor, const struct vocab *weight, struct prediction *prediction,
                      struct error *error)
{
    const struct matrix logits = matrix_f32(predictor->logits, 1, predictor->vocab);
    const float *values = predictor->values;
    double sum = 0;
    int top = 0;
    if (weight->tied)
        op_matmul(predictor->queue, predictor_input(predictor), weight->tied, logits, OP_STORE);
    else
        op_gemm(predictor->queue, predictor_input(predictor), false, weight->own, true, logits, OP_STORE);
    op_read(predictor->queue, logits, predictor->values);
    if (queue_wait(predictor->queue, error) < 0)
        return -1;
    for (int v = 1; v < predictor->vocab; v++) {
        if (values[v] > values[top])
            top = v;
    }
    for (int v = 0; v < predictor->vocab; v++)
        sum += exp((double)values[v] - (double)values[top]);
    *prediction = (struct prediction){top, 1 / sum, values};
    return 0;
}

int predictor_run(struct predictor *predictor, const struct vocab *weight, struct prediction *prediction,
                  struct error *error)
{
    *prediction = (struct prediction){0};
    if ((predictor->logits ? run_logits : run_stats)(predictor, weight, prediction, error) < 0)
        return -1;
    if (!isfinite(prediction->probability))
        return error_set(error, "the logits are not numbers: the model or the head is damaged, or overflowed");
    return 0;
}
