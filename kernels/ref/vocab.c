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

/* softmax of logits / temperature + shift (or none); returns log sum exp. */
static double fill_shifted(const double *logits, int64_t count, double temperature, struct matrix shift,
                           double *softmax)
{
    for (int64_t v = 0; v < count; v++)
        softmax[v] = logits[v] / temperature;
    for (int64_t v = 0; v < shift.cols; v++)
        softmax[v] += (double)matrix_floats(shift)[v];
    return fill_softmax(softmax, count, softmax);
}

/* Values of one row while its loss is computed, V each. */
struct row_work {
    double *logits, *softmax;
    double *dz; /* gradient of the loss by the logits, before scaling; without what u has of it */
    double *teacher; /* the teacher's logits, then their softmax q */
};

/* Adds c times the cross-entropy on the label, and its gradient; softmax: that of the logits. */
static void add_cross_entropy(double share, int32_t label, double lse, int64_t count, struct row_work *work,
                              double *loss)
{
    *loss += share * (lse - work->logits[label]);
    for (int64_t v = 0; v < count; v++)
        work->dz[v] += share * work->softmax[v];
    work->dz[label] -= share;
}

/* Adds d times distillation. */
static void add_distillation(const struct vocab_loss *target, double share, const float *h, struct rows weight,
                             int64_t m, struct row_work *work, double *loss)
{
    const double t = (double)vocab_temperature(target);
    double cross = 0;
    const double lse = fill_shifted(work->logits, weight.rows, t, target->shift, work->softmax);
    for (int64_t v = 0; v < weight.rows; v++)
        work->dz[v] += share * t * work->softmax[v];
    if (target->target == VOCAB_U) {
        cross = dot(h, matrix_floats(target->u) + m * target->u.stride, weight.cols);
    } else {
        const float *state = matrix_floats(target->teacher_state) + m * target->teacher_state.stride;
        fill_logits(state, vocab_rows(&target->teacher), work->teacher);
        fill_shifted(work->teacher, weight.rows, t, target->shift, work->teacher);
        for (int64_t v = 0; v < weight.rows; v++) {
            cross += work->teacher[v] * work->logits[v] / t;
            work->dz[v] -= share * t * work->teacher[v];
        }
    }
    *loss += share * t * t * (lse - cross);
}

/* What row m is made of: shares with its weight in them; both 0 for a row that does not count. Fills its loss and
 * dz. */
static struct loss_shares row_loss(const struct vocab_loss *target, const float *h, struct rows weight,
                                   int64_t m, struct row_work *work, double *loss)
{
    const int32_t label =
        matrix_is_none(target->labels) ? -1 : matrix_ints(target->labels)[m * target->labels.stride];
    struct loss_shares shares = loss_shares_of(target, label >= 0 && label < weight.rows);
    double w = 1;
    *loss = 0;
    for (int64_t v = 0; v < weight.rows; v++)
        work->dz[v] = 0;
    if (shares.labels == 0 && shares.teacher == 0)
        return shares;
    fill_logits(h, weight, work->logits);
    const double lse = fill_shifted(work->logits, weight.rows, 1, target->shift, work->softmax);
    if (target->weighted)
        w = exp(work->logits[largest_of(work->logits, weight.rows)] - lse);
    if (shares.labels > 0)
        add_cross_entropy(shares.labels, label, lse, weight.rows, work, loss);
    if (shares.teacher > 0)
        add_distillation(target, shares.teacher, h, weight, m, work, loss);
    for (int64_t v = 0; v < weight.rows; v++)
        work->dz[v] *= w;
    *loss *= w;
    shares.labels *= w;
    shares.teacher *= w;
    return shares;
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
    double *values = ref_scratch(queue, 4 * weight.rows + weight.cols);
    if (!values)
        return;
    struct row_work work = {values, values + weight.rows, values + 2 * weight.rows, values + 3 * weight.rows};
    double *gradient = values + 4 * weight.rows;
    for (int64_t m = 0; m < h.rows; m++) {
        const float *state = matrix_floats(h) + m * h.stride;
        float *out = matrix_floats(dh) + m * dh.stride;
        double row;
        const struct loss_shares shares = row_loss(target, state, weight, m, &work, &row);
        put_row(loss, m, row);
        combine_rows(work.dz, weight, gradient);
        for (int64_t k = 0; k < weight.cols; k++) {
            const double u =
                target->target == VOCAB_U ? (double)matrix_floats(target->u)[m * target->u.stride + k] : 0;
            out[k] = (float)(scale * (gradient[k] - shares.teacher * u));
        }
        if (!matrix_is_none(down))
            add_outer(down, scale, work.dz, state);
    }
    free(values);
}
