/* attention.c: causal softmax attention and its gradients, one query of one head at a time. */
#include <math.h>
#include <stdlib.h>

#include "kernels/ref/ref.h"

/* What one query of one head sees: keys `first` .. of its span, `shared` of them, then `own` ones. */
struct view {
    int64_t query; /* in the span */
    int64_t first, shared, own;
    int64_t column, kv_width; /* of its key head; of all of them */
};

static struct view view_of(const struct attention *attention, const struct attention_span *span, int64_t query,
                           int head)
{
    const int64_t position = span->k.rows - span->queries + query, window = attention->window;
    const int64_t size = attention->head_size, kv_width = attention->kv_heads * size;
    const int64_t first = window && position >= window ? position - window + 1 : 0;
    return (struct view){.query = query,
                         .first = first,
                         .shared = position + 1 - first,
                         .own = span->own_k.cols / kv_width,
                         .column = head / (attention->heads / attention->kv_heads) * size,
                         .kv_width = kv_width};
}

/* The i-th key, value or gradient of those a query sees; NULL where there is no such matrix. */
static float *seen(const struct view *view, struct matrix shared, struct matrix own, int64_t i)
{
    if (i < view->shared)
        return matrix_is_none(shared)
                   ? NULL
                   : matrix_floats(shared) + (view->first + i) * shared.stride + view->column;
    return matrix_is_none(own) ? NULL
                               : matrix_floats(own) + view->query * own.stride +
                                     (i - view->shared) * view->kv_width + view->column;
}

static double dot(const float *x, const float *y, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)y[i];
    return sum;
}

/* The softmax of a query's scores. */
static void weigh(const struct attention *attention, const struct attention_span *span, const struct view *view,
                  const float *q, double *weight)
{
    const int64_t count = view->shared + view->own;
    double largest = -INFINITY, total = 0;
    for (int64_t i = 0; i < count; i++) {
        weight[i] =
            dot(q, seen(view, span->k, span->own_k, i), attention->head_size) * (double)attention->scale;
        largest = fmax(largest, weight[i]);
    }
    for (int64_t i = 0; i < count; i++)
        total += weight[i] = exp(weight[i] - largest);
    for (int64_t i = 0; i < count; i++)
        weight[i] /= total;
}

static void attend(const struct attention *attention, const struct attention_span *span,
                   const struct view *view, const double *weight, float *out)
{
    for (int i = 0; i < attention->head_size; i++) {
        double sum = 0;
        for (int64_t key = 0; key < view->shared + view->own; key++)
            sum += weight[key] * (double)seen(view, span->v, span->own_v, key)[i];
        out[i] = (float)sum;
    }
}

void ref_attention(struct queue *queue, const struct attention *attention, struct matrix q,
                   const struct attention_span *spans, int count, struct matrix out)
{
    int64_t row = 0;
    for (int i = 0; i < count; row += spans[i++].queries) {
        double *weight = ref_scratch(queue, spans[i].k.rows + spans[i].own_k.cols);
        if (!weight)
            return;
        for (int64_t r = 0; r < spans[i].queries; r++)
            for (int head = 0; head < attention->heads; head++) {
                const struct view view = view_of(attention, &spans[i], r, head);
                const int64_t column = (int64_t)head * attention->head_size;
                weigh(attention, &spans[i], &view, matrix_floats(q) + (row + r) * q.stride + column, weight);
                attend(attention, &spans[i], &view, weight,
                       matrix_floats(out) + (row + r) * out.stride + column);
            }
        free(weight);
    }
}

/* ---- gradients ---- */

/* Sums of a span's gradients: of k, v, own_k, own_v, one behind the other, in rows of kv_width. */
struct sums {
    double *k, *v, *own_k, *own_v;
};

/* With s the scores before their scale, w the softmax: dw_i = dout . v_i, and as out = sum of w_i v_i,
 * ds_i = scale w_i (dw_i - dout . out). */
static void attend_grad(const struct attention *attention, const struct attention_span *span,
                        const struct view *view, const double *weight, const float *q, const float *out,
                        const float *dout, double *dq, struct sums sums)
{
    const int64_t size = attention->head_size, width = view->kv_width;
    const double mean = dot(dout, out, size);
    for (int64_t key = 0; key < view->shared + view->own; key++) {
        const bool shared = key < view->shared;
        const int64_t row = shared ? view->first + key : view->query * view->own + key - view->shared;
        const float *k = seen(view, span->k, span->own_k, key);
        const double slope = (double)attention->scale * weight[key] *
                             (dot(dout, seen(view, span->v, span->own_v, key), size) - mean);
        double *dk = (shared ? sums.k : sums.own_k) + row * width + view->column;
        double *dv = (shared ? sums.v : sums.own_v) + row * width + view->column;
        for (int64_t i = 0; i < size; i++) {
            dq[i] += slope * (double)k[i];
            dk[i] += slope * (double)q[i];
            dv[i] += weight[key] * (double)dout[i];
        }
    }
}

static void add_sums(const double *sums, int64_t width, struct matrix to)
{
    for (int64_t r = 0; r < to.rows; r++)
        for (int64_t c = 0; c < to.cols; c++)
            ref_put(matrix_floats(to) + r * to.stride + c, sums[r * width + c], OP_ADD);
}

void ref_attention_grad(struct queue *queue, const struct attention *attention, struct matrix q,
                        const struct attention_span *spans, int count, struct matrix out, struct matrix dout,
                        struct matrix dq, const struct attention_span *dspans)
{
    const int64_t size = attention->head_size, width = attention->kv_heads * size;
    int64_t row = 0;
    for (int i = 0; i < count; i++) {
        const struct attention_span *span = &spans[i];
        const int64_t keys = span->k.rows, own = span->queries * span->own_k.cols;
        double *memory = ref_scratch(queue, 2 * (keys * width + own) + keys + span->own_k.cols + size);
        if (!memory)
            return;
        const struct sums sums = {memory, memory + keys * width, memory + 2 * keys * width,
                                  memory + 2 * keys * width + own};
        double *sum = sums.own_v + own, *weight = sum + size;
        for (int64_t r = 0; r < span->queries; r++, row++)
            for (int head = 0; head < attention->heads; head++) {
                const struct view view = view_of(attention, span, r, head);
                const int64_t column = head * size;
                const float *query = matrix_floats(q) + row * q.stride + column;
                for (int64_t c = 0; c < size; c++)
                    sum[c] = 0;
                weigh(attention, span, &view, query, weight);
                attend_grad(attention, span, &view, weight, query,
                            matrix_floats(out) + row * out.stride + column,
                            matrix_floats(dout) + row * dout.stride + column, sum, sums);
                for (int64_t c = 0; c < size; c++)
                    matrix_floats(dq)[row * dq.stride + column + c] = (float)sum[c];
            }
        add_sums(sums.k, width, dspans[i].k);
        add_sums(sums.v, width, dspans[i].v);
        add_sums(sums.own_k, span->own_k.cols, dspans[i].own_k);
        add_sums(sums.own_v, span->own_k.cols, dspans[i].own_v);
        free(memory);
    }
}
