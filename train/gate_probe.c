#include "train/gate_probe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/base/random.h"

enum { IN, IN_BIAS, OUT, OUT_BIAS, PARAMETERS };
enum { LOGITS, LOGITS_GRADIENT, MIXED, MIXED_GRADIENT, PROJECTED, PROJECTED_GRADIENT, WORKS };

/* A probe at work, on the device. */
struct fitter {
    const struct gate_recipe *recipe;
    const struct gate_rows *rows, *apart;
    int64_t width, units;
    struct backend *backend;
    struct queue *queue;
    int first; /* parameter: OUT where linear */
    struct matrix value[PARAMETERS], gradient[PARAMETERS], moment[PARAMETERS], square[PARAMETERS];
    struct buffer *buffer[4 * PARAMETERS];
    struct buffer *work[WORKS]; /* of GATE_PROBE_BATCH rows */
    struct buffer *x, *x_apart;
    float *host; /* [GATE_PROBE_BATCH] logits, and then their gradient */
    double *found; /* [apart] logits of the last measurement */
    int64_t step;
};

static void fitter_free(struct fitter *fitter)
{
    for (int b = 0; b < 4 * PARAMETERS; b++)
        buffer_destroy(fitter->buffer[b]);
    for (int w = 0; w < WORKS; w++)
        buffer_destroy(fitter->work[w]);
    buffer_destroy(fitter->x);
    buffer_destroy(fitter->x_apart);
    queue_destroy(fitter->queue);
    free(fitter->host);
    free(fitter->found);
}

/* ---- making ---- */

static void parameter_shape(const struct fitter *fitter, int parameter, int64_t *rows, int64_t *cols)
{
    const int64_t units = fitter->units, width = fitter->width;
    *rows = parameter == IN ? 2 * units : 1;
    *cols = parameter == IN        ? width
            : parameter == IN_BIAS ? 2 * units
            : parameter == OUT     ? (units > 0 ? units : width)
                                   : 1;
}

static int create_parameters(struct fitter *fitter, struct error *error)
{
    struct matrix *const of[4] = {fitter->value, fitter->gradient, fitter->moment, fitter->square};
    for (int p = fitter->first; p < PARAMETERS; p++) {
        int64_t rows, cols;
        parameter_shape(fitter, p, &rows, &cols);
        for (int i = 0; i < 4; i++) {
            struct buffer **buffer = &fitter->buffer[4 * p + i];
            if (buffer_create(fitter->backend, (size_t)(rows * cols) * sizeof(float), buffer, error) < 0)
                return -1;
            of[i][p] = matrix_f32(*buffer, rows, cols);
        }
    }
    return 0;
}

/* Normal values, as large as keeps the variance; biases are zeros, and so is a linear map. */
static int set_first_values(struct fitter *fitter, struct error *error)
{
    struct random random = {fitter->recipe->seed};
    for (int p = fitter->first; p <= OUT && fitter->units > 0; p++) {
        const struct matrix value = fitter->value[p];
        const double deviation = p == IN_BIAS ? 0 : 1 / sqrt((double)value.cols);
        float *values;
        if (array_alloc(&values, value.rows * value.cols, error) < 0)
            return -1;
        for (int64_t v = 0; v < value.rows * value.cols; v++)
            values[v] = (float)(deviation * random_normal(&random));
        op_write(fitter->queue, value, values);
        free(values);
    }
    return queue_wait(fitter->queue, error);
}

static int upload(struct fitter *fitter, const struct gate_rows *rows, struct buffer **buffer,
                  struct error *error)
{
    if (buffer_create(fitter->backend, (size_t)(rows->count * rows->width) * sizeof(float), buffer, error) < 0)
        return -1;
    op_write(fitter->queue, matrix_f32(*buffer, rows->count, rows->width), rows->values);
    return 0;
}

static int create_work(struct fitter *fitter, struct error *error)
{
    const int64_t units = fitter->units > 0 ? fitter->units : 1;
    const int64_t cols[WORKS] = {1, 1, units, units, 2 * units, 2 * units};
    for (int w = 0; w < WORKS; w++) {
        if (buffer_create(fitter->backend, (size_t)(GATE_PROBE_BATCH * cols[w]) * sizeof(float),
                          &fitter->work[w], error) < 0)
            return -1;
    }
    if (array_alloc(&fitter->host, GATE_PROBE_BATCH, error) < 0)
        return -1;
    return array_alloc(&fitter->found, fitter->apart->count, error);
}

static int fitter_create(struct fitter *fitter, struct error *error)
{
    if (queue_create(fitter->backend, &fitter->queue, error) < 0 || create_parameters(fitter, error) < 0 ||
        create_work(fitter, error) < 0 || upload(fitter, fitter->rows, &fitter->x, error) < 0 ||
        upload(fitter, fitter->apart, &fitter->x_apart, error) < 0)
        return -1;
    return set_first_values(fitter, error);
}

/* ---- a batch ---- */

static struct matrix work(const struct fitter *fitter, int which, int64_t rows, int64_t cols)
{
    return matrix_f32(fitter->work[which], rows, cols);
}

/* The logits of x to the host. */
static int forward(struct fitter *fitter, struct matrix x, struct error *error)
{
    struct queue *queue = fitter->queue;
    const int64_t rows = x.rows, units = fitter->units;
    const struct matrix logits = work(fitter, LOGITS, rows, 1);
    struct matrix mixed = x;
    if (units > 0) {
        const struct matrix projected = work(fitter, PROJECTED, rows, 2 * units);
        mixed = work(fitter, MIXED, rows, units);
        op_gemm(queue, x, false, fitter->value[IN], true, projected, OP_STORE);
        op_add_bias(queue, fitter->value[IN_BIAS], projected);
        op_swiglu(queue, projected, mixed);
    }
    op_gemm(queue, mixed, false, fitter->value[OUT], true, logits, OP_STORE);
    op_add_bias(queue, fitter->value[OUT_BIAS], logits);
    op_read(queue, logits, fitter->host);
    return queue_wait(queue, error);
}

/* The gradients of the parameters, from that of the logits on the host. */
static void backward(struct fitter *fitter, struct matrix x)
{
    struct queue *queue = fitter->queue;
    const int64_t rows = x.rows, units = fitter->units;
    const struct matrix dlogits = work(fitter, LOGITS_GRADIENT, rows, 1);
    op_write(queue, dlogits, fitter->host);
    op_sum_rows(queue, dlogits, fitter->gradient[OUT_BIAS]);
    if (units == 0) {
        op_gemm(queue, dlogits, true, x, false, fitter->gradient[OUT], OP_STORE);
        return;
    }
    const struct matrix dmixed = work(fitter, MIXED_GRADIENT, rows, units),
                        dprojected = work(fitter, PROJECTED_GRADIENT, rows, 2 * units);
    op_gemm(queue, dlogits, true, work(fitter, MIXED, rows, units), false, fitter->gradient[OUT], OP_STORE);
    op_gemm(queue, dlogits, false, fitter->value[OUT], false, dmixed, OP_STORE);
    op_swiglu_grad(queue, dmixed, work(fitter, PROJECTED, rows, 2 * units), dprojected);
    op_gemm(queue, dprojected, true, x, false, fitter->gradient[IN], OP_STORE);
    op_sum_rows(queue, dprojected, fitter->gradient[IN_BIAS]);
}

static void update(struct fitter *fitter)
{
    struct adam_update updates[PARAMETERS];
    int count = 0;
    fitter->step++;
    for (int p = fitter->first; p < PARAMETERS; p++) {
        const bool decays = p == IN || p == OUT;
        updates[count++] = (struct adam_update){.adam = {.rate = fitter->recipe->rate,
                                                         .beta1 = 0.9f,
                                                         .beta2 = 0.999f,
                                                         .epsilon = 1e-8f,
                                                         .decay = decays ? fitter->recipe->decay : 0,
                                                         .clip = 1,
                                                         .step = fitter->step},
                                                .gradient = fitter->gradient[p],
                                                .value = fitter->value[p],
                                                .first = fitter->moment[p],
                                                .second = fitter->square[p]};
    }
    op_adam(fitter->queue, updates, count);
}

static int step(struct fitter *fitter, int64_t first, int64_t rows, struct error *error)
{
    const struct matrix all = matrix_f32(fitter->x, fitter->rows->count, fitter->width);
    const struct matrix x = matrix_rows(all, first, rows);
    if (forward(fitter, x, error) < 0)
        return -1;
    for (int64_t r = 0; r < rows; r++) {
        const double p = 1 / (1 + exp(-(double)fitter->host[r]));
        fitter->host[r] = (float)((p - fitter->rows->is_so[first + r]) / (double)rows);
    }
    backward(fitter, x);
    update(fitter);
    return 0;
}

/* ---- all steps ---- */

/* Whole batches; a last one that is shorter is left out unless it is the only one. */
static int64_t batch_count(const struct fitter *fitter)
{
    const int64_t count = fitter->rows->count;
    return count > GATE_PROBE_BATCH ? count / GATE_PROBE_BATCH : 1;
}

/* The next batch, in an order of this pass. */
static int next_step(struct fitter *fitter, struct error *error)
{
    const uint64_t batches = (uint64_t)batch_count(fitter), number = (uint64_t)fitter->step;
    const uint64_t batch =
        random_permute(number % batches, batches, fitter->recipe->seed + 1 + number / batches);
    const int64_t count = fitter->rows->count;
    return step(fitter, GATE_PROBE_BATCH * (int64_t)batch, count < GATE_PROBE_BATCH ? count : GATE_PROBE_BATCH,
                error);
}

/* The mean cross-entropy of the rows apart, and their logits. */
static int measure(struct fitter *fitter, double *loss, struct error *error)
{
    const struct gate_rows *apart = fitter->apart;
    const struct matrix all = matrix_f32(fitter->x_apart, apart->count, apart->width);
    double sum = 0;
    for (int64_t first = 0; first < apart->count; first += GATE_PROBE_BATCH) {
        const int64_t left = apart->count - first, rows = left < GATE_PROBE_BATCH ? left : GATE_PROBE_BATCH;
        if (forward(fitter, matrix_rows(all, first, rows), error) < 0)
            return -1;
        for (int64_t r = 0; r < rows; r++) {
            const double logit = fitter->host[r], signed_logit = apart->is_so[first + r] ? -logit : logit;
            sum += fmax(signed_logit, 0) + log1p(exp(-fabs(signed_logit)));
            fitter->found[first + r] = logit;
        }
    }
    *loss = sum / (double)apart->count;
    return 0;
}

static int keep(struct fitter *fitter, const struct gate_parameters *probe, double *logits, struct error *error)
{
    float *const of[PARAMETERS] = {probe->in, probe->in_bias, probe->out, probe->out_bias};
    for (int p = fitter->first; p < PARAMETERS; p++)
        op_read(fitter->queue, fitter->value[p], of[p]);
    memcpy(logits, fitter->found, (size_t)fitter->apart->count * sizeof *logits);
    return queue_wait(fitter->queue, error);
}

/* Steps from one measurement to the next. */
static int64_t stretch(const struct fitter *fitter)
{
    enum { LEAST = 16, MOST = 64 };
    const int64_t batches = batch_count(fitter);
    return batches < LEAST ? LEAST : batches > MOST ? MOST : batches;
}

static int fit(struct fitter *fitter, const struct gate_parameters *probe, double *logits, bool *complete,
               struct error *error)
{
    double best = INFINITY, loss;
    for (int since = 0; fitter->step < fitter->recipe->steps && since < fitter->recipe->patience; since++) {
        if (cli_interrupted())
            return 0;
        for (int64_t s = stretch(fitter); s > 0; s--) {
            if (next_step(fitter, error) < 0)
                return -1;
        }
        if (measure(fitter, &loss, error) < 0)
            return -1;
        if (loss < best) {
            best = loss;
            since = -1;
            if (keep(fitter, probe, logits, error) < 0)
                return -1;
        }
    }
    if (!isfinite(best))
        return error_set(error, "the probe of a gate cannot be fitted: its loss is not a number");
    *complete = true;
    return 0;
}

int gate_probe_fit(struct backend *backend, const struct gate_recipe *recipe, const struct gate_rows *rows,
                   const struct gate_rows *apart, const struct gate_parameters *probe, double *logits,
                   bool *complete, struct error *error)
{
    struct fitter fitter = {.recipe = recipe,
                            .rows = rows,
                            .apart = apart,
                            .width = rows->width,
                            .units = recipe->units,
                            .backend = backend,
                            .first = recipe->units > 0 ? IN : OUT};
    *complete = false;
    int result = fitter_create(&fitter, error);
    if (result == 0)
        result = fit(&fitter, probe, logits, complete, error);
    fitter_free(&fitter);
    return result;
}
