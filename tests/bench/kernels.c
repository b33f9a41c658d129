/* kernels [THREADS [MODEL]]: what oneDNN reaches on a model's own matrix shapes (SmolLM2-135M's without MODEL),
 * and what the cpu backend's ops take beside it.
 *
 * "tile" is one oneDNN product of packed operands, the best of several numbers of rows, on one thread
 * or on every thread at once with a left side and a result of its own. A ratio is an op's time to that of its
 * products at that rate. Every figure is the median of rounds in which all of them take turns. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/base/random.h"
#include "common/model/model.h"
#include "kernels/cpu/cpu.h"
#include "tests/bench/median.h"

enum { ROUNDS = 7, FIGURES_MAX = 100, LENGTH = 512, ROWS = 4 * LENGTH, VOCAB_ROWS = 512 };

struct figure {
    void (*run)(void *context);
    void *context;
    double seconds[ROUNDS];
};

struct bench {
    int figures;
    struct figure figure[FIGURES_MAX];
};

static double median(const struct figure *figure)
{
    double sorted[ROUNDS];
    memcpy(sorted, figure->seconds, sizeof sorted);
    return sort_to_median(sorted, ROUNDS);
}

static const struct figure *figure_add(struct bench *bench, void (*run)(void *), void *context)
{
    struct figure *figure = &bench->figure[bench->figures++];
    *figure = (struct figure){.run = run, .context = context};
    return figure;
}

static void measure(struct bench *bench)
{
    for (int round = -1; round < ROUNDS; round++) /* the first one warms up */
        for (int i = 0; i < bench->figures; i++) {
            double started = clock_seconds();
            bench->figure[i].run(bench->figure[i].context);
            if (round >= 0)
                bench->figure[i].seconds[round] = clock_seconds() - started;
        }
}

static void *must(void *pointer, const struct error *error)
{
    if (!pointer) {
        fprintf(stderr, "kernels: %s\n", error->text);
        exit(EXIT_FAILED);
    }
    return pointer;
}

static void must_do(int status, const struct error *error)
{
    if (status < 0) {
        fprintf(stderr, "kernels: %s\n", error->text);
        exit(EXIT_FAILED);
    }
}

/* Small random values; bytes that are valid as f32 and as bf16. */
static void *random_operand(size_t count, bool bf16)
{
    struct error error;
    struct random random = {count};
    float *values = must(memory_alloc(count, sizeof *values, &error), &error);
    for (size_t i = 0; i < count; i++) {
        float value = (float)(random_uniform(&random) - 0.5);
        if (bf16)
            ((uint16_t *)values)[i] = f32_to_bf16(value);
        else
            values[i] = value;
    }
    return values;
}

/* ---- oneDNN alone ---- */

static const int tile_rows[] = {64, 128, 256};
enum { TILES = sizeof tile_rows / sizeof *tile_rows };

struct shape_case;

struct tile_case {
    const struct shape_case *shape;
    const struct product *product;
    int repeats; /* per thread */
    double flops; /* of one product */
    const struct figure *one, *all;
};

struct shape_case {
    const char *name;
    int64_t inner, cols;
    struct cpu_backend *backend;
    struct product_right right;
    void *packed;
    char *left; /* per thread */
    float *result;
    size_t left_bytes, result_values;
    struct tile_case tile[TILES];
    const struct figure *op; /* or NULL */
    double op_flops;
};

static void tile_task(void *context, int task, int worker)
{
    const struct tile_case *tile = context;
    const struct shape_case *shape = tile->shape;
    (void)task;
    for (int i = 0; i < tile->repeats; i++)
        product_run(tile->product, worker, shape->left + (size_t)worker * shape->left_bytes, &shape->right,
                    shape->result + (size_t)worker * shape->result_values);
}

static void run_one(void *context)
{
    tile_task(context, 0, 0);
}

static void run_all(void *context)
{
    const struct tile_case *tile = context;
    struct pool *pool = tile->shape->backend->pool;
    pool_run(pool, pool_threads(pool), tile_task, context);
}

static void shape_prepare(struct bench *bench, struct cpu_backend *backend, struct shape_case *shape)
{
    struct error error;
    size_t bytes, threads = (size_t)pool_threads(backend->pool);
    float *values = random_operand((size_t)(shape->inner * shape->cols), false);
    must_do(right_bytes(backend->products, shape->inner, shape->cols, backend->bf16, &bytes, &error), &error);
    shape->backend = backend;
    shape->packed = must(memory_alloc(bytes, 1, &error), &error);
    must_do(right_create(backend->products, shape->inner, shape->cols, backend->bf16, shape->packed,
                         &shape->right, &error),
            &error);
    right_pack(backend->products, &shape->right, 0, values, shape->cols, 1);
    free(values);
    shape->left_bytes = (size_t)(tile_rows[TILES - 1] * shape->inner) * sizeof(float);
    shape->result_values = (size_t)(tile_rows[TILES - 1] * shape->cols);
    shape->left = random_operand(threads * shape->left_bytes / sizeof(float), backend->bf16);
    shape->result = must(memory_alloc(threads * shape->result_values, sizeof(float), &error), &error);
    for (int i = 0; i < TILES; i++) {
        struct tile_case *tile = &shape->tile[i];
        struct product_shape product = {tile_rows[i], shape->inner, shape->cols, backend->bf16, true, false};
        *tile = (struct tile_case){.shape = shape, .product = product_find(backend->products, product, &error)};
        must_do(tile->product ? 0 : -1, &error);
        tile->flops = 2.0 * tile_rows[i] * (double)shape->inner * (double)shape->cols;
        tile->repeats = 1 + (int)(1e9 / tile->flops);
        tile->one = figure_add(bench, run_one, tile);
        tile->all = figure_add(bench, run_all, tile);
    }
}

static void shape_free(struct shape_case *shape)
{
    right_destroy(&shape->right);
    free(shape->packed);
    free(shape->left);
    free(shape->result);
}

/* Operations a second of the best tile. */
static double shape_rate(const struct shape_case *shape, bool all)
{
    double best = 0;
    for (int i = 0; i < TILES; i++) {
        const struct tile_case *tile = &shape->tile[i];
        double flops = tile->flops * tile->repeats * (all ? pool_threads(shape->backend->pool) : 1);
        best = fmax(best, flops / median(all ? tile->all : tile->one));
    }
    return best;
}

/* ---- the backend's ops ---- */

struct ops_case {
    struct queue *queue;
    const struct model_config *config;
    int64_t hidden, heads_width, kv_width, inner;
    struct weight *qkv_weight, *out_weight, *gate_up_weight, *down_weight, *vocab_weight;
    struct matrix x, normed, qkv, attended, gate_up, activated, scale, positions, table;
    struct matrix labels, loss, gradient, target, best, best_logit;
    /* backwards: what comes from above, by the op that it comes to; and weights as they are trained */
    struct matrix dx, dnormed, dqkv, dattended, dgate_up, dactivated;
    struct matrix own[4], down[4]; /* q|k|v, output, gate|up, down; their gradients */
};

static struct matrix make_matrix(struct queue *queue, int64_t rows, int64_t cols)
{
    struct error error;
    struct buffer *buffer;
    float *values = random_operand((size_t)(rows * cols), false);
    must_do(buffer_create(queue_backend(queue), (size_t)(rows * cols) * sizeof(float), &buffer, &error),
            &error);
    op_write(queue, matrix_f32(buffer, rows, cols), values);
    free(values);
    return matrix_f32(buffer, rows, cols);
}

static struct matrix make_ids(struct queue *queue, int64_t rows, int64_t below, bool in_order)
{
    struct error error;
    struct buffer *buffer;
    struct random random = {1};
    int32_t *ids = must(memory_alloc((size_t)rows, sizeof *ids, &error), &error);
    for (int64_t i = 0; i < rows; i++)
        ids[i] = (int32_t)(in_order ? i % below : (int64_t)(random_next(&random) % (uint64_t)below));
    must_do(buffer_create(queue_backend(queue), (size_t)rows * sizeof *ids, &buffer, &error), &error);
    op_write(queue, matrix_i32(buffer, rows, 1), ids);
    free(ids);
    return matrix_i32(buffer, rows, 1);
}

static struct weight *make_weight(struct queue *queue, int64_t rows, int64_t cols, unsigned uses)
{
    struct error error;
    struct weight *weight;
    struct weight_part part = {DTYPE_F32, rows, cols, random_operand((size_t)(rows * cols), false)};
    must_do(weight_prepare(queue_backend(queue), &part, 1, NULL, uses, &weight, &error), &error);
    free((void *)(uintptr_t)part.data);
    return weight;
}

static void ops_prepare(struct ops_case *ops, const struct model_config *config, struct queue *queue)
{
    ops->queue = queue;
    ops->config = config;
    ops->hidden = config->hidden;
    ops->heads_width = role_rows(config, ROLE_Q);
    ops->kv_width = role_rows(config, ROLE_K);
    ops->inner = role_rows(config, ROLE_MLP_UP);
    int64_t qkv = ops->heads_width + 2 * ops->kv_width;
    ops->qkv_weight = make_weight(queue, qkv, ops->hidden, WEIGHT_FORWARD);
    ops->out_weight = make_weight(queue, ops->hidden, ops->heads_width, WEIGHT_FORWARD);
    ops->gate_up_weight = make_weight(queue, 2 * ops->inner, ops->hidden, WEIGHT_FORWARD);
    ops->down_weight = make_weight(queue, ops->hidden, ops->inner, WEIGHT_FORWARD);
    ops->vocab_weight = make_weight(queue, config->vocab, ops->hidden, WEIGHT_FORWARD | WEIGHT_BACKWARD);
    ops->x = make_matrix(queue, ROWS, ops->hidden);
    ops->normed = make_matrix(queue, ROWS, ops->hidden);
    ops->qkv = make_matrix(queue, ROWS, qkv);
    ops->attended = make_matrix(queue, ROWS, ops->heads_width);
    ops->gate_up = make_matrix(queue, ROWS, 2 * ops->inner);
    ops->activated = make_matrix(queue, ROWS, ops->inner);
    ops->scale = make_matrix(queue, 1, ops->hidden);
    ops->positions = make_ids(queue, ROWS, LENGTH, true);
    ops->table = make_matrix(queue, LENGTH, config->head_size);
    ops->labels = make_ids(queue, VOCAB_ROWS, config->vocab, false);
    ops->loss = make_matrix(queue, VOCAB_ROWS, 1);
    ops->gradient = make_matrix(queue, VOCAB_ROWS, ops->hidden);
    ops->target = make_matrix(queue, VOCAB_ROWS, ops->hidden);
    ops->best_logit = make_matrix(ops->queue, VOCAB_ROWS, 8);
    ops->best = make_matrix(ops->queue, VOCAB_ROWS, 8);
    ops->best.type = DTYPE_I32;
    ops->dx = make_matrix(queue, ROWS, ops->hidden);
    ops->dnormed = make_matrix(queue, ROWS, ops->hidden);
    ops->dqkv = make_matrix(queue, ROWS, qkv);
    ops->dattended = make_matrix(queue, ROWS, ops->heads_width);
    ops->dgate_up = make_matrix(queue, ROWS, 2 * ops->inner);
    ops->dactivated = make_matrix(queue, ROWS, ops->inner);
    const int64_t shapes[4][2] = {{qkv, ops->hidden},
                                  {ops->hidden, ops->heads_width},
                                  {2 * ops->inner, ops->hidden},
                                  {ops->hidden, ops->inner}};
    for (int i = 0; i < 4; i++) {
        ops->own[i] = make_matrix(queue, shapes[i][0], shapes[i][1]);
        ops->down[i] = make_matrix(queue, shapes[i][0], shapes[i][1]);
    }
}

static void ops_free(struct ops_case *ops)
{
    struct weight *weights[] = {ops->qkv_weight, ops->out_weight, ops->gate_up_weight, ops->down_weight,
                                ops->vocab_weight};
    struct matrix matrices[] = {ops->x,          ops->normed,   ops->qkv,       ops->attended,  ops->gate_up,
                                ops->activated,  ops->scale,    ops->positions, ops->table,     ops->labels,
                                ops->loss,       ops->gradient, ops->target,    ops->best,      ops->best_logit,
                                ops->dx,         ops->dnormed,  ops->dqkv,      ops->dattended, ops->dgate_up,
                                ops->dactivated, ops->own[0],   ops->own[1],    ops->own[2],    ops->own[3],
                                ops->down[0],    ops->down[1],  ops->down[2],   ops->down[3]};
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        weight_destroy(weights[i]);
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++)
        buffer_destroy(matrices[i].buffer);
}

static void run_qkv(void *context)
{
    struct ops_case *ops = context;
    op_matmul(ops->queue, ops->normed, ops->qkv_weight, ops->qkv, OP_STORE);
}

static void run_out(void *context)
{
    struct ops_case *ops = context;
    op_matmul(ops->queue, ops->attended, ops->out_weight, ops->x, OP_ADD);
}

static void run_gate_up(void *context)
{
    struct ops_case *ops = context;
    op_matmul(ops->queue, ops->normed, ops->gate_up_weight, ops->gate_up, OP_STORE);
}

static void run_down(void *context)
{
    struct ops_case *ops = context;
    op_matmul(ops->queue, ops->activated, ops->down_weight, ops->x, OP_ADD);
}

/* The keys and values in q | k | v of every sequence. */
static struct attention list_spans(const struct ops_case *ops, struct matrix qkv,
                                   struct attention_span spans[ROWS / LENGTH])
{
    for (int s = 0; s < ROWS / LENGTH; s++) {
        const struct matrix rows = matrix_rows(qkv, s * LENGTH, LENGTH);
        spans[s] =
            (struct attention_span){.queries = LENGTH,
                                    .k = matrix_cols(rows, ops->heads_width, ops->kv_width),
                                    .v = matrix_cols(rows, ops->heads_width + ops->kv_width, ops->kv_width)};
    }
    return (struct attention){ops->config->attention_heads, ops->config->kv_heads, ops->config->head_size, 0,
                              1.0f / sqrtf((float)ops->config->head_size)};
}

static void run_attention(void *context)
{
    struct ops_case *ops = context;
    struct attention_span spans[ROWS / LENGTH];
    struct attention shape = list_spans(ops, ops->qkv, spans);
    op_attention(ops->queue, &shape, matrix_cols(ops->qkv, 0, ops->heads_width), spans, ROWS / LENGTH,
                 ops->attended);
}

static void run_attention_grad(void *context)
{
    struct ops_case *ops = context;
    struct attention_span spans[ROWS / LENGTH], dspans[ROWS / LENGTH];
    struct attention shape = list_spans(ops, ops->qkv, spans);
    list_spans(ops, ops->dqkv, dspans);
    op_attention_grad(ops->queue, &shape, matrix_cols(ops->qkv, 0, ops->heads_width), spans, ROWS / LENGTH,
                      ops->attended, ops->dattended, matrix_cols(ops->dqkv, 0, ops->heads_width), dspans);
}

static void run_norm(void *context)
{
    struct ops_case *ops = context;
    op_norm(ops->queue, ops->x, ops->scale, 1e-5f, ops->normed);
}

static void run_rope(void *context)
{
    struct ops_case *ops = context;
    op_rope(ops->queue, matrix_cols(ops->qkv, 0, ops->heads_width + ops->kv_width), ops->positions, ops->table,
            ROPE_ADJACENT);
}

static void run_swiglu(void *context)
{
    struct ops_case *ops = context;
    op_swiglu(ops->queue, ops->gate_up, ops->activated);
}

static void run_layer(void *context)
{
    run_norm(context);
    run_qkv(context);
    run_rope(context);
    run_attention(context);
    run_out(context);
    run_norm(context);
    run_gate_up(context);
    run_swiglu(context);
    run_down(context);
}

/* A product's two: of its input, and of its weight. */
static void run_product_grad(struct ops_case *ops, int product, struct matrix dy, struct matrix x,
                             struct matrix dx)
{
    op_gemm(ops->queue, dy, false, ops->own[product], false, dx, OP_STORE);
    op_gemm(ops->queue, dy, true, x, false, ops->down[product], OP_ADD);
}

/* What training a layer adds to run_layer. */
static void run_layer_grad(void *context)
{
    struct ops_case *ops = context;
    run_product_grad(ops, 3, ops->dx, ops->activated, ops->dactivated);
    op_swiglu_grad(ops->queue, ops->dactivated, ops->gate_up, ops->dgate_up);
    run_product_grad(ops, 2, ops->dgate_up, ops->normed, ops->dnormed);
    op_norm_grad(ops->queue, ops->dnormed, ops->x, ops->scale, 1e-5f, ops->dx, OP_STORE, matrix_none());
    run_product_grad(ops, 1, ops->dx, ops->attended, ops->dattended);
    run_attention_grad(ops);
    op_rope_grad(ops->queue, matrix_cols(ops->dqkv, 0, ops->heads_width + ops->kv_width), ops->positions,
                 ops->table, ROPE_ADJACENT);
    run_product_grad(ops, 0, ops->dqkv, ops->normed, ops->dnormed);
    op_norm_grad(ops->queue, ops->dnormed, ops->x, ops->scale, 1e-5f, ops->dx, OP_STORE, matrix_none());
}

static void run_loss(struct ops_case *ops, enum vocab_target kind)
{
    struct vocab vocab = {.tied = ops->vocab_weight, .own = matrix_none()};
    struct vocab_loss target = {.target = kind, .scale = 1.0f / VOCAB_ROWS, .teacher_state = matrix_none()};
    target.labels = kind == VOCAB_LABELS ? ops->labels : matrix_none();
    target.u = kind == VOCAB_U ? ops->target : matrix_none();
    op_vocab_loss(ops->queue, matrix_rows(ops->x, 0, VOCAB_ROWS), &vocab, &target, ops->loss, ops->gradient,
                  matrix_none());
}

static void run_labels(void *context)
{
    run_loss(context, VOCAB_LABELS);
}

static void run_distillation(void *context)
{
    run_loss(context, VOCAB_U);
}

static void run_stats(void *context)
{
    struct ops_case *ops = context;
    struct vocab vocab = {.tied = ops->vocab_weight, .own = matrix_none()};
    struct vocab_stats stats = {.lse = ops->loss};
    stats.label = stats.top = stats.top_logit = stats.entropy = stats.u = matrix_none();
    op_vocab_stats(ops->queue, matrix_rows(ops->x, 0, VOCAB_ROWS), &vocab, matrix_none(), &stats);
}

/* What extract asks of the full model, without the best tokens and with them. */
static void run_teacher(struct ops_case *ops, bool best)
{
    struct vocab vocab = {.tied = ops->vocab_weight, .own = matrix_none()};
    struct vocab_stats stats = {.lse = ops->loss, .u = ops->gradient, .best = matrix_none()};
    stats.top = matrix_i32(ops->best.buffer, VOCAB_ROWS, 1);
    if (best) {
        stats.top = matrix_none();
        stats.best = ops->best;
        stats.best_logit = ops->best_logit;
    }
    op_vocab_stats(ops->queue, matrix_rows(ops->x, 0, VOCAB_ROWS), &vocab, matrix_none(), &stats);
}

static void run_u(void *context)
{
    run_teacher(context, false);
}

static void run_u_and_best(void *context)
{
    run_teacher(context, true);
}

/* ---- the table ---- */

static double op_flops(int64_t inner, int64_t cols)
{
    return 2.0 * ROWS * (double)inner * (double)cols;
}

static void print_shape(const struct shape_case *shape)
{
    printf("  %-18s %6lld x %-6lld %8.0f %8.0f", shape->name, (long long)shape->inner, (long long)shape->cols,
           shape_rate(shape, false) * 1e-9, shape_rate(shape, true) * 1e-9);
    if (shape->op)
        printf(" %8.0f %7.2f", shape->op_flops / median(shape->op) * 1e-9,
               median(shape->op) * shape_rate(shape, true) / shape->op_flops);
    printf("\n");
}

enum { QKV, OUT, GATE_UP, DOWN, SCORES, VALUES, LOGITS, BACK, SHAPES };

/* What products alone would take, at the best rates of their shapes. */
enum bound {
    BY_NOTHING,
    BY_ATTENTION,
    BY_LAYER,
    BY_ATTENTION_GRAD,
    BY_LAYER_GRAD,
    BY_LOGITS,
    BY_LOGITS_AND_BACK,
    BOUNDS
};

static void count_bounds(const struct model_config *config, const struct shape_case *shapes,
                         double bounds[BOUNDS])
{
    const double scores = shape_rate(&shapes[SCORES], true), values = shape_rate(&shapes[VALUES], true);
    const double causal = 2.0 * ROWS * config->head_size * (LENGTH + 1) / 2.0 *
                          config->attention_heads; /* of scores; of values as many */
    const double head_flops = 2.0 * VOCAB_ROWS * (double)config->hidden * (double)config->vocab;
    double products = 0;
    for (int i = 0; i <= DOWN; i++)
        products += shapes[i].op_flops / shape_rate(&shapes[i], true);
    bounds[BY_NOTHING] = 0;
    bounds[BY_ATTENTION] = causal / scores + causal / values;
    bounds[BY_LAYER] = bounds[BY_ATTENTION] + products;
    /* Scores twice, three products of the values' shape; each other product twice. */
    bounds[BY_ATTENTION_GRAD] = 2 * causal / scores + 3 * causal / values;
    bounds[BY_LAYER_GRAD] = 2 * products + bounds[BY_ATTENTION_GRAD];
    bounds[BY_LOGITS] = head_flops / shape_rate(&shapes[LOGITS], true);
    bounds[BY_LOGITS_AND_BACK] = bounds[BY_LOGITS] + head_flops / shape_rate(&shapes[BACK], true);
}

static const struct op_line {
    const char *name;
    void (*run)(void *);
    enum bound bound;
    int rows;
} op_lines[] = {
    {"attention", run_attention, BY_ATTENTION, ROWS},
    {"norm", run_norm, BY_NOTHING, ROWS},
    {"rope", run_rope, BY_NOTHING, ROWS},
    {"swiglu", run_swiglu, BY_NOTHING, ROWS},
    {"whole layer", run_layer, BY_LAYER, ROWS},
    {"attention_grad", run_attention_grad, BY_ATTENTION_GRAD, ROWS},
    {"whole layer's gradient", run_layer_grad, BY_LAYER_GRAD, ROWS},
    {"vocab_loss, labels", run_labels, BY_LOGITS_AND_BACK, VOCAB_ROWS},
    {"vocab_loss, distillation", run_distillation, BY_LOGITS_AND_BACK, VOCAB_ROWS},
    {"vocab_stats, lse", run_stats, BY_LOGITS, VOCAB_ROWS},
    {"vocab_stats, u and top", run_u, BY_LOGITS_AND_BACK, VOCAB_ROWS},
    {"vocab_stats, u and the 8 best", run_u_and_best, BY_LOGITS_AND_BACK, VOCAB_ROWS},
};
enum { OP_LINES = sizeof op_lines / sizeof *op_lines };

static void print_ops(const struct figure *const figures[OP_LINES], const double bounds[BOUNDS])
{
    printf("  %-34s %9s %9s %7s\n", "op", "us/token", "products", "ratio");
    for (int i = 0; i < OP_LINES; i++) {
        const double seconds = median(figures[i]), products = bounds[op_lines[i].bound];
        printf("  %-34s %9.3f", op_lines[i].name, seconds / op_lines[i].rows * 1e6);
        if (products > 0)
            printf(" %9.3f %7.2f", products / op_lines[i].rows * 1e6, seconds / products);
        printf("\n");
    }
}

static void bench_math(const struct model_config *config, struct backend_options options)
{
    struct bench bench = {.figures = 0};
    struct error error;
    struct backend *base;
    struct queue *queue;
    struct ops_case ops;
    must_do(backend_open("cpu", &options, &base, &error), &error);
    must_do(queue_create(base, &queue, &error), &error);
    struct cpu_backend *backend = (struct cpu_backend *)base;
    ops_prepare(&ops, config, queue);
    const int64_t hidden = ops.hidden, vocab = config->vocab, head = config->head_size;
    struct shape_case shapes[SHAPES] = {
        [QKV] = {.name = "q|k|v", .inner = hidden, .cols = ops.heads_width + 2 * ops.kv_width},
        [OUT] = {.name = "attention output", .inner = ops.heads_width, .cols = hidden},
        [GATE_UP] = {.name = "gate|up", .inner = hidden, .cols = 2 * ops.inner},
        [DOWN] = {.name = "down", .inner = ops.inner, .cols = hidden},
        [SCORES] = {.name = "attention scores", .inner = head, .cols = LENGTH},
        [VALUES] = {.name = "attention values", .inner = LENGTH, .cols = head},
        [LOGITS] = {.name = "logits", .inner = hidden, .cols = vocab},
        [BACK] = {.name = "logits' gradient", .inner = vocab, .cols = hidden},
    };
    void (*runs[])(void *) = {run_qkv, run_out, run_gate_up, run_down};
    const struct figure *figures[OP_LINES];
    double bounds[BOUNDS];
    for (int i = 0; i < SHAPES; i++) {
        shape_prepare(&bench, backend, &shapes[i]);
        if (i > DOWN)
            continue;
        shapes[i].op = figure_add(&bench, runs[i], &ops);
        shapes[i].op_flops = op_flops(shapes[i].inner, shapes[i].cols);
    }
    for (int i = 0; i < OP_LINES; i++)
        figures[i] = figure_add(&bench, op_lines[i].run, &ops);
    measure(&bench);
    must_do(queue_wait(queue, &error), &error);

    printf("%s, %d threads\n", backend_identity(base), pool_threads(backend->pool));
    printf("  %-18s %6s   %-6s %8s %8s %8s %7s\n", "product", "inner", "cols", "1 thread", "all", "op",
           "ratio");
    for (int i = 0; i < SHAPES; i++)
        print_shape(&shapes[i]);
    printf("  (Gflop/s; ratio: the op's time to its products' at the best tile on all threads)\n");
    count_bounds(config, shapes, bounds);
    print_ops(figures, bounds);
    for (int i = 0; i < SHAPES; i++)
        shape_free(&shapes[i]);
    ops_free(&ops);
    queue_destroy(queue);
    backend_close(base);
}

/* ---- the vocabulary of a training step: a subset of its rows, beside all of them ---- */

static const int64_t subset_rows[] = {1536, 4096};
static const int64_t batch_rows[] = {1024, 8192};
enum { SUBSETS = 2, BATCHES = 2 };

struct subset_case {
    struct queue *queue;
    const struct weight *from;
    struct weight *weight; /* the subset, or NULL: all of `from` */
    struct matrix ids, shift, h, u, loss, dh; /* h, u, loss, dh: of the batch's rows */
    const struct figure *figure;
};

static void run_subset(void *context)
{
    const struct subset_case *it = context;
    const struct vocab vocab = {.tied = it->weight ? it->weight : it->from, .own = matrix_none()};
    const struct vocab_loss target = {.target = VOCAB_U,
                                      .labels = matrix_none(),
                                      .teacher_state = matrix_none(),
                                      .u = it->u,
                                      .shift = it->shift,
                                      .scale = 1};
    op_vocab_loss(it->queue, it->h, &vocab, &target, it->loss, it->dh, matrix_none());
}

static void run_gather(void *context)
{
    const struct subset_case *it = context;
    op_gather(it->queue, it->from, it->ids, it->weight);
}

struct subset_bench {
    struct queue *queue;
    struct weight *all;
    void *values;
    struct matrix batch[3], loss; /* h, u, dh; of the largest batch */
    struct subset_case whole, subset[SUBSETS][BATCHES + 1]; /* losses of batches, and gathering */
    struct shape_case shape[SUBSETS][2];
};

static struct subset_case subset_of(struct subset_bench *it, int64_t rows, struct weight *weight,
                                    struct matrix ids, struct matrix shift)
{
    return (struct subset_case){.queue = it->queue,
                                .from = it->all,
                                .weight = weight,
                                .ids = ids,
                                .shift = shift,
                                .h = matrix_rows(it->batch[0], 0, rows),
                                .u = matrix_rows(it->batch[1], 0, rows),
                                .dh = matrix_rows(it->batch[2], 0, rows),
                                .loss = matrix_rows(it->loss, 0, rows)};
}

static void subset_prepare(struct bench *bench, struct subset_bench *it, const struct model_config *config)
{
    const int64_t hidden = config->hidden, vocab = config->vocab, most = batch_rows[BATCHES - 1];
    struct backend *backend = queue_backend(it->queue);
    const unsigned uses = WEIGHT_FORWARD | WEIGHT_BACKWARD | WEIGHT_ROWS;
    struct error error;
    it->values = random_operand((size_t)(vocab * hidden), false);
    const struct weight_part part = {DTYPE_F32, vocab, hidden, it->values};
    must_do(weight_prepare(backend, &part, 1, NULL, uses, &it->all, &error), &error);
    it->loss = make_matrix(it->queue, most, 1);
    for (int i = 0; i < 3; i++)
        it->batch[i] = make_matrix(it->queue, most, hidden);
    it->whole = subset_of(it, batch_rows[0], NULL, matrix_none(), matrix_none());
    it->whole.figure = figure_add(bench, run_subset, &it->whole);
    for (int s = 0; s < SUBSETS; s++) {
        const int64_t rows = subset_rows[s];
        const struct matrix ids = make_ids(it->queue, rows, vocab, false),
                            shift = make_matrix(it->queue, 1, rows);
        struct weight *weight;
        must_do(weight_subset_create(it->all, rows, &weight, &error), &error);
        it->shape[s][0] = (struct shape_case){.inner = hidden, .cols = rows};
        it->shape[s][1] = (struct shape_case){.inner = rows, .cols = hidden};
        for (int i = 0; i < 2; i++)
            shape_prepare(bench, (struct cpu_backend *)backend, &it->shape[s][i]);
        for (int b = 0; b <= BATCHES; b++) {
            it->subset[s][b] = subset_of(it, batch_rows[b < BATCHES ? b : 0], weight, ids, shift);
            it->subset[s][b].figure =
                figure_add(bench, b < BATCHES ? run_subset : run_gather, &it->subset[s][b]);
        }
        run_gather(&it->subset[s][0]);
    }
}

static void subset_free(struct subset_bench *it)
{
    for (int s = 0; s < SUBSETS; s++) {
        for (int i = 0; i < 2; i++)
            shape_free(&it->shape[s][i]);
        weight_destroy(it->subset[s][0].weight);
        buffer_destroy(it->subset[s][0].ids.buffer);
        buffer_destroy(it->subset[s][0].shift.buffer);
    }
    for (int i = 0; i < 3; i++)
        buffer_destroy(it->batch[i].buffer);
    buffer_destroy(it->loss.buffer);
    weight_destroy(it->all);
    free(it->values);
}

static void bench_subset(const struct model_config *config, struct backend_options options)
{
    struct bench bench = {.figures = 0};
    struct subset_bench it;
    struct error error;
    struct backend *backend;
    must_do(backend_open("cpu", &options, &backend, &error), &error);
    must_do(queue_create(backend, &it.queue, &error), &error);
    subset_prepare(&bench, &it, config);
    measure(&bench);
    must_do(queue_wait(it.queue, &error), &error);

    const double whole = median(it.whole.figure) / (double)batch_rows[0];
    printf("  vocab_loss of a subset of %d tokens: beside the whole, and gathering it once, as a share of the "
           "loss\n",
           config->vocab);
    printf("  %6s %6s %9s %9s %7s %7s %7s\n", "subset", "rows", "us/token", "products", "ratio", "whole",
           "gather");
    for (int s = 0; s < SUBSETS; s++) {
        const double flops = 2 * (double)config->hidden * (double)subset_rows[s],
                     products =
                         flops / shape_rate(&it.shape[s][0], true) + flops / shape_rate(&it.shape[s][1], true);
        for (int b = 0; b < BATCHES; b++) {
            const double seconds = median(it.subset[s][b].figure), row = seconds / (double)batch_rows[b];
            printf("  %6lld %6lld %9.3f %9.3f %7.2f %7.1f %7.2f\n", (long long)subset_rows[s],
                   (long long)batch_rows[b], row * 1e6, products * 1e6, row / products, whole / row,
                   median(it.subset[s][BATCHES].figure) / seconds);
        }
    }
    subset_free(&it);
    queue_destroy(it.queue);
    backend_close(backend);
}

/* ---- one token: weights in the file's own format, beside what memory gives ---- */

enum { COPY_BYTES = 256 << 20, TOKEN_ROWS = 49152, TOKEN_COLS = 576, FORMATS = DTYPE_Q4_1 + 1, FEW_MOST = 4 };

struct memory_case {
    struct pool *pool;
    char *from, *to;
    uint64_t sums[64]; /* keep the reads */
};

static void copy_task(void *context, int task, int worker)
{
    struct memory_case *memory = context;
    size_t part = COPY_BYTES / (size_t)pool_threads(memory->pool), at = (size_t)task * part;
    (void)worker;
    memcpy(memory->to + at, memory->from + at, part);
}

static void read_task(void *context, int task, int worker)
{
    struct memory_case *memory = context;
    size_t part = COPY_BYTES / (size_t)pool_threads(memory->pool) / sizeof(uint64_t);
    const uint64_t *at = (const uint64_t *)memory->from + (size_t)task * part;
    uint64_t sum[8] = {0};
    (void)worker;
    for (size_t i = 0; i + 8 <= part; i += 8)
        for (int s = 0; s < 8; s++)
            sum[s] += at[i + (size_t)s];
    for (int s = 1; s < 8; s++)
        sum[0] += sum[s];
    memory->sums[task % 64] = sum[0];
}

static void run_copy(void *context)
{
    struct memory_case *memory = context;
    pool_run(memory->pool, pool_threads(memory->pool), copy_task, memory);
}

static void run_read(void *context)
{
    struct memory_case *memory = context;
    pool_run(memory->pool, pool_threads(memory->pool), read_task, memory);
}

struct token_case {
    struct queue *queue;
    struct weight *weight;
    void *data;
    struct matrix x, y;
    double bytes;
    const struct figure *figure;
};

static void run_token(void *context)
{
    struct token_case *token = context;
    op_matmul(token->queue, token->x, token->weight, token->y, OP_STORE);
}

static void token_prepare(struct bench *bench, struct token_case *token, struct queue *queue, enum dtype type,
                          int rows)
{
    struct error error;
    struct weight_part part = {type, TOKEN_ROWS, TOKEN_COLS, NULL};
    size_t row_bytes;
    dtype_row_bytes(type, TOKEN_COLS, &row_bytes);
    part.data = token->data = must(memory_alloc(TOKEN_ROWS, row_bytes, &error), &error);
    memset(token->data, 0x21, TOKEN_ROWS * row_bytes);
    token->queue = queue;
    token->bytes = (double)TOKEN_ROWS * (double)row_bytes;
    must_do(weight_prepare(queue_backend(queue), &part, 1, NULL, WEIGHT_ROWS, &token->weight, &error), &error);
    token->x = make_matrix(queue, rows, TOKEN_COLS);
    token->y = make_matrix(queue, rows, TOKEN_ROWS);
    token->figure = figure_add(bench, run_token, token);
}

static void bench_tokens(struct backend_options options)
{
    struct bench bench = {.figures = 0};
    struct error error;
    struct backend *base;
    struct queue *queue;
    struct token_case tokens[FORMATS][2];
    struct memory_case memory;
    must_do(backend_open("cpu", &options, &base, &error), &error);
    must_do(queue_create(base, &queue, &error), &error);
    memory.pool = ((struct cpu_backend *)base)->pool;
    memory.from = must(memory_alloc(COPY_BYTES, 1, &error), &error);
    memory.to = must(memory_alloc(COPY_BYTES, 1, &error), &error);
    const struct figure *copy = figure_add(&bench, run_copy, &memory);
    const struct figure *read = figure_add(&bench, run_read, &memory);
    for (int type = 0; type < FORMATS; type++)
        for (int few = 0; few < 2; few++)
            token_prepare(&bench, &tokens[type][few], queue, (enum dtype)type, few ? FEW_MOST : 1);
    measure(&bench);
    must_do(queue_wait(queue, &error), &error);

    double bytes = COPY_BYTES / median(read);
    printf("memory: %.1f GB/s read, %.1f GB/s copied\n", bytes * 1e-9, COPY_BYTES / median(copy) * 1e-9);
    printf("  %-10s %12s %12s %8s   (weight [%d, %d], GB/s; ratio to reading it)\n", "format", "1 row",
           "4 rows", "ratio", TOKEN_ROWS, TOKEN_COLS);
    for (int type = 0; type < FORMATS; type++) {
        double one = tokens[type][0].bytes / median(tokens[type][0].figure);
        printf("  %-10s %12.1f %12.1f %8.2f\n", dtype_name((enum dtype)type), one * 1e-9,
               tokens[type][1].bytes / median(tokens[type][1].figure) * 1e-9, bytes / one);
        for (int few = 0; few < 2; few++) {
            weight_destroy(tokens[type][few].weight);
            buffer_destroy(tokens[type][few].x.buffer);
            buffer_destroy(tokens[type][few].y.buffer);
            free(tokens[type][few].data);
        }
    }
    free(memory.from);
    free(memory.to);
    queue_destroy(queue);
    backend_close(base);
}

int main(int argc, char **argv)
{
    struct model_config config = {.hidden = 576,
                                  .attention_heads = 9,
                                  .kv_heads = 3,
                                  .head_size = 64,
                                  .intermediate = 1536,
                                  .vocab = 49152};
    struct error error;
    int64_t threads = 0;
    if (argc > 1)
        must_do(parse_integer(argv[1], 0, 4096, &threads, &error), &error);
    if (argc > 2) {
        struct model *model;
        must_do(model_open(argv[2], &model, &error), &error);
        config = *model_config(model);
        model_close(model);
    }
    struct backend_options options = {.threads = (int)threads, .math = MATH_F32};
    bench_math(&config, options);
    bench_subset(&config, options);
    options.math = MATH_BF16;
    bench_math(&config, options);
    bench_subset(&config, options);
    options.math = MATH_F32;
    bench_tokens(options);
    return EXIT_DONE;
}
