/* vocab.c: logits of one row at a time, described (stats, cross) or turned into a loss and gradients. */
#include <math.h>
#include <stdlib.h>

#include "kernels/ref/ref.h"

/* An output weight as rows of f32: row v at values + v * stride. */
struct rows {
    const float *values;
    int64_t rows, cols, stride;
};

static struct rows vocab_rows(const struct vocab *vocab)
{
    if (vocab->tied)
        return (struct rows){ref_weight(vocab->tied)->values, vocab->tied->rows, vocab->tied->cols,
                             vocab->tied->cols};
    return (struct rows){matrix_floats(vocab->own), vocab->own.rows, vocab->own.cols, vocab->own.stride};
}

static double dot(const float *a, const float *b, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static void fill_logits(const float *h, struct rows weight, double *logits)
{
    for (int64_t v = 0; v < weight.rows; v++)
        logits[v] = dot(h, weight.values + v * weight.stride, weight.cols);
}

/* fill_logits, and what is added to each, or none. */
static void fill_shifted(const float *h, struct rows weight, struct matrix shift, double *logits)
{
    fill_logits(h, weight, logits);
    for (int64_t v = 0; v < shift.cols; v++)
        logits[v] += (double)matrix_floats(shift)[v];
}

static int64_t largest_of(const double *logits, int64_t count)
{
    int64_t top = 0;
    for (int64_t v = 1; v < count; v++)
        if (logits[v] > logits[top])
            top = v;
    return top;
}

/* softmax = that of the logits; returns log sum exp. */
static double fill_softmax(const double *logits, int64_t count, double *softmax)
{
    const double largest = logits[largest_of(logits, count)];
    double total = 0;
    for (int64_t v = 0; v < count; v++)
        total += softmax[v] = exp(logits[v] - largest);
    for (int64_t v = 0; v < count; v++)
        softmax[v] /= total;
    return largest + log(total);
}

/* sum [cols] = factors [rows] times the weight. */
static void combine_rows(const double *factors, struct rows weight, double *sum)
{
    for (int64_t k = 0; k < weight.cols; k++)
        sum[k] = 0;
    for (int64_t v = 0; v < weight.rows; v++)
        for (int64_t k = 0; k < weight.cols; k++)
            sum[k] += factors[v] * (double)weight.values[v * weight.stride + k];
}

static void put_row(struct matrix matrix, int64_t row, double value)
{
    if (!matrix_is_none(matrix))
        matrix_floats(matrix)[row * matrix.stride] = (float)value;
}

/* The largest logits one after another; each is struck out when it has been found. */
static void put_best(const struct vocab_stats *stats, int64_t row, double *logits, int64_t count)
{
    for (int64_t k = 0; k < stats->best.cols; k++) {
        const int64_t top = largest_of(logits, count);
        matrix_ints(stats->best)[row * stats->best.stride + k] = (int32_t)top;
        matrix_floats(stats->best_logit)[row * stats->best_logit.stride + k] = (float)logits[top];
        logits[top] = -INFINITY;
    }
}

void ref_vocab_stats(struct queue *queue, struct matrix h, const struct vocab *vocab, struct matrix labels,
                     const struct vocab_stats *stats)
{
    const struct rows weight = vocab_rows(vocab);
    double *logits = ref_scratch(queue, 2 * weight.rows + weight.cols);
    if (!logits)
        return;
    double *softmax = logits + weight.rows, *u = softmax + weight.rows;
    for (int64_t m = 0; m < h.rows; m++) {
        fill_logits(matrix_floats(h) + m * h.stride, weight, logits);
        const double lse = fill_softmax(logits, weight.rows, softmax);
        const int64_t top = largest_of(logits, weight.rows);
        double mean = 0;
        for (int64_t v = 0; v < weight.rows; v++)
            mean += softmax[v] * logits[v];
        put_row(stats->lse, m, lse);
        put_row(stats->entropy, m, lse - mean);
        put_row(stats->top_logit, m, logits[top]);
        if (!matrix_is_none(stats->top))
            matrix_ints(stats->top)[m * stats->top.stride] = (int32_t)top;
        if (!matrix_is_none(stats->label)) {
            const int32_t label = matrix_ints(labels)[m * labels.stride];
            put_row(stats->label, m, label >= 0 && label < weight.rows ? logits[label] : 0);
        }
        if (!matrix_is_none(stats->u)) {
            combine_rows(softmax, weight, u);
            for (int64_t k = 0; k < weight.cols; k++)
                matrix_floats(stats->u)[m * stats->u.stride + k] = (float)u[k];
        }
        put_best(stats, m, logits, weight.rows);
    }
    free(logits);
}

void ref_vocab_cross(struct queue *queue, struct matrix h, const struct vocab *vocab, struct matrix t,
                     const struct vocab *teacher, struct matrix cross)
{
    const struct rows weight = vocab_rows(vocab), teacher_weight = vocab_rows(teacher);
    double *logits = ref_scratch(queue, 2 * weight.rows);
    if (!logits)
        return;
    double *q = logits + weight.rows;
    for (int64_t m = 0; m < h.rows; m++) {
        double sum = 0;
        fill_logits(matrix_floats(t) + m * t.stride, teacher_weight, logits);
        fill_softmax(logits, weight.rows, q);
        fill_logits(matrix_floats(h) + m * h.stride, weight, logits);
        for (int64_t v = 0; v < weight.rows; v++)
            sum += q[v] * logits[v];
        put_row(cross, m, sum);
    }
    free(logits);
}

/* Values of one row while its loss is computed, V each. */
struct row_work {
    double *logits, *dz; /* dz: gradient of the loss by the logits, before scaling */
    double *teacher; /* the teacher's logits, then their softmax q */
};

/* Loss of row m; fills dz. False for a row that does not count. VOCAB_U's -h.u is not in dz. */
static bool row_loss(const struct vocab_loss *target, const float *h, struct rows weight, int64_t m,
                     struct row_work *work, double *loss)
{
    fill_shifted(h, weight, target->shift, work->logits);
    *loss = fill_softmax(work->logits, weight.rows, work->dz);
    if (target->target == VOCAB_LABELS) {
        const int32_t label = matrix_ints(target->labels)[m * target->labels.stride];
        if (label < 0 || label >= weight.rows)
            return false;
        *loss -= work->logits[label];
        work->dz[label] -= 1;
    } else if (target->target == VOCAB_U) {
        *loss -= dot(h, matrix_floats(target->u) + m * target->u.stride, weight.cols);
    } else {
        const float *state = matrix_floats(target->teacher_state) + m * target->teacher_state.stride;
        fill_shifted(state, vocab_rows(&target->teacher), target->shift, work->teacher);
        fill_softmax(work->teacher, weight.rows, work->teacher);
        for (int64_t v = 0; v < weight.rows; v++) {
            *loss -= work->teacher[v] * work->logits[v];
            work->dz[v] -= work->teacher[v];
        }
    }
    return true;
}

/* down [V, H] += scale dz h^T. */
static void add_outer(struct matrix down, double scale, const double *dz, const float *h)
{
    for (int64_t v = 0; v < down.rows; v++)
        for (int64_t k = 0; k < down.cols; k++)
            ref_put(matrix_floats(down) + v * down.stride + k, scale * dz[v] * (double)h[k], OP_ADD);
}

void ref_vocab_loss(struct queue *queue, struct matrix h, const struct vocab *vocab,
                    const struct vocab_loss *target, struct matrix loss, struct matrix dh, struct matrix down)
{
    const struct rows weight = vocab_rows(vocab);
    const double scale = (double)target->scale;
    double *values = ref_scratch(queue, 3 * weight.rows + weight.cols);
    if (!values)
        return;
    struct row_work work = {values, values + weight.rows, values + 2 * weight.rows};
    double *gradient = values + 3 * weight.rows;
    for (int64_t m = 0; m < h.rows; m++) {
        const float *state = matrix_floats(h) + m * h.stride;
        float *out = matrix_floats(dh) + m * dh.stride;
        double row = 0;
        const bool counts = row_loss(target, state, weight, m, &work, &row);
        put_row(loss, m, counts ? row : 0);
        if (counts)
            combine_rows(work.dz, weight, gradient);
        for (int64_t k = 0; k < weight.cols; k++) {
            const double u =
                target->target == VOCAB_U ? (double)matrix_floats(target->u)[m * target->u.stride + k] : 0;
            out[k] = counts ? (float)(scale * (gradient[k] - u)) : 0;
        }
        if (counts && !matrix_is_none(down))
            add_outer(down, scale, work.dz, state);
    }
    free(values);
}
