/* gemm.c: matrix products in tiles of TILE_ROWS rows. */
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/few_rows.h"
#include "kernels/cpu/stage.h"

/* ---- x times a packed weight ---- */

enum { GROUP_TILES = 8 }; /* forward tiles per task: rows of x are staged once for them */

struct pack_job {
    struct queue *queue;
    const struct cpu_loops *loops;
    const struct pack *pack;
    struct matrix x, y;
    const float *bias; /* or NULL */
    enum op_mode mode;
    int64_t groups; /* of tiles */
    struct tile_product product[2][2]; /* [fewer rows][last tile] */
    char *left; /* per worker [TILE_ROWS, tile_inner] */
    float *result; /* per worker [TILE_ROWS, tile_cols] */
};

/* Finds the products that the tiles of this job need. */
static bool find_products(struct pack_job *job)
{
    const struct pack *pack = job->pack;
    const int64_t rows[2] = {TILE_ROWS, padded_rows(job->x.rows % TILE_ROWS)};
    const bool row_wanted[2] = {job->x.rows >= TILE_ROWS, job->x.rows % TILE_ROWS > 0};
    for (int fewer = 0; fewer < 2; fewer++)
        for (int last = 0; last < 2; last++)
            if (row_wanted[fewer] &&
                !tile_product_find(job->queue, pack, last ? pack->tiles - 1 : 0, rows[fewer],
                                   pack->backward && pack->tiles > 1, &job->product[fewer][last]))
                return false;
    return true;
}

static void forward_tiles(const struct pack_job *job, int64_t row, int64_t rows, int64_t group, int worker)
{
    const struct pack *pack = job->pack;
    int64_t end = min_int64((group + 1) * GROUP_TILES, pack->tiles);
    char *space = job->left + (size_t)(worker * TILE_ROWS * pack->tile_inner) * operand_size(pack->bf16);
    const void *left = tile_left(job->loops, pack, job->x, row, rows, padded_rows(rows), space);
    for (int64_t t = group * GROUP_TILES; t < end; t++) {
        int64_t inner, cols, col = t * pack->tile_cols;
        pack_tile_shape(pack, t, &inner, &cols);
        struct matrix y = matrix_cols(job->y, col, cols);
        float *result =
            result_open(y, row, rows, job->mode, job->result + worker * TILE_ROWS * pack->tile_cols);
        tile_multiply(job->queue, &job->product[rows < TILE_ROWS][t == pack->tiles - 1], pack, t, worker, left,
                      padded_rows(rows), false, result);
        result_close(job->loops, result, job->bias ? job->bias + col : NULL, y, row, rows, job->mode);
    }
}

static void backward_tiles(const struct pack_job *job, int64_t row, int64_t rows, int worker)
{
    const struct pack *pack = job->pack;
    char *space = job->left + (size_t)(worker * TILE_ROWS * pack->tile_inner) * operand_size(pack->bf16);
    float *result = result_open(job->y, row, rows, job->mode, job->result + worker * TILE_ROWS * pack->cols);
    for (int64_t t = 0; t < pack->tiles; t++) {
        int64_t inner, cols;
        pack_tile_shape(pack, t, &inner, &cols);
        struct matrix part = matrix_cols(job->x, t * pack->tile_inner, inner);
        const void *left = tile_left(job->loops, pack, part, row, rows, padded_rows(rows), space);
        tile_multiply(job->queue, &job->product[rows < TILE_ROWS][t == pack->tiles - 1], pack, t, worker, left,
                      padded_rows(rows), t > 0, result);
    }
    result_close(job->loops, result, NULL, job->y, row, rows, job->mode);
}

static void pack_rows_task(void *context, int task, int worker)
{
    const struct pack_job *job = context;
    int64_t row = task / job->groups * TILE_ROWS, rows = min_int64(TILE_ROWS, job->x.rows - row);
    if (job->pack->backward)
        backward_tiles(job, row, rows, worker);
    else
        forward_tiles(job, row, rows, task % job->groups, worker);
}

static void multiply_pack(struct queue *queue, struct matrix x, const struct pack *pack, const float *bias,
                          struct matrix y, enum op_mode mode)
{
    struct cpu_backend *backend = queue_cpu(queue);
    int64_t threads = pool_threads(backend->pool);
    struct pack_job job = {.queue = queue,
                           .loops = backend->loops,
                           .pack = pack,
                           .x = x,
                           .y = y,
                           .bias = bias,
                           .mode = mode,
                           .groups = pack->backward ? 1 : divide_up(pack->tiles, GROUP_TILES)};
    job.left =
        scratch_get(queue, SCRATCH_LEFT, threads * TILE_ROWS * pack->tile_inner, operand_size(pack->bf16));
    job.result = scratch_get(queue, SCRATCH_RESULT, threads * TILE_ROWS * pack->tile_cols, sizeof(float));
    if (find_products(&job))
        cpu_run(queue, divide_up(x.rows, TILE_ROWS) * job.groups, pack_rows_task, &job);
}

void cpu_matmul(struct queue *queue, struct matrix x, const struct weight *base, struct matrix y,
                enum op_mode mode)
{
    const struct cpu_weight *weight = (const struct cpu_weight *)base;
    if (x.rows <= MATMUL_FEW_ROWS)
        few_rows_matmul(queue, x, weight, y, mode);
    else
        multiply_pack(queue, x, weight->forward, weight->bias, y, mode);
}

void cpu_matmul_grad(struct queue *queue, struct matrix dy, const struct weight *base, struct matrix dx,
                     enum op_mode mode)
{
    multiply_pack(queue, dy, ((const struct cpu_weight *)base)->backward, NULL, dx, mode);
}

/* ---- products of buffers ---- */

/* Rows of a transposed left side (tokens) that one product sums over. */
enum { SUM_SLICE = 512 };

struct gemm_job {
    struct queue *queue;
    const struct cpu_loops *loops;
    struct matrix a, c, weights; /* weights: gram's, else none */
    bool bf16, transpose_a;
    enum op_mode mode;
    int64_t rows, inner, cols; /* of the product */
    struct product_right right;
    const struct product *product[2][2][2]; /* [fewer rows][last slice][add] */
    int64_t sum_slice; /* of inner */
    float *left; /* per worker [TILE_ROWS, sum_slice], for both types */
    uint16_t *left_bf16;
    float *result; /* per worker [TILE_ROWS, cols] */
};

static bool find_gemm_products(struct gemm_job *job)
{
    int64_t rows[2] = {TILE_ROWS, padded_rows(job->rows % TILE_ROWS)};
    int64_t inner[2] = {job->sum_slice, job->inner % job->sum_slice};
    bool row_wanted[2] = {job->rows >= TILE_ROWS, job->rows % TILE_ROWS > 0};
    bool inner_wanted[2] = {job->inner >= job->sum_slice, inner[1] > 0};
    for (int fewer = 0; fewer < 2; fewer++)
        for (int last = 0; last < 2; last++)
            for (int add = 0; add < (job->inner > job->sum_slice ? 2 : 1); add++) {
                struct product_shape shape = {.rows = rows[fewer],
                                              .inner = inner[last],
                                              .cols = job->cols,
                                              .bf16 = job->bf16,
                                              .add = add > 0};
                if (!row_wanted[fewer] || !inner_wanted[last])
                    continue;
                if (!(job->product[fewer][last][add] = cpu_product_find(job->queue, shape)))
                    return false;
            }
    return true;
}

/* The left side of rows [row, row + rows) and the slice of `inner` that starts at `at`. */
static const void *gemm_left(const struct gemm_job *job, int64_t row, int64_t rows, int64_t at, int64_t count,
                             int worker)
{
    float *space = job->left + worker * TILE_ROWS * job->sum_slice;
    uint16_t *space_bf16 = job->bf16 ? job->left_bf16 + worker * TILE_ROWS * job->sum_slice : NULL;
    float weights[SUM_SLICE];
    bool weighted = !matrix_is_none(job->weights);
    if (!job->transpose_a)
        return stage_left(job->loops, job->bf16, job->a, row, rows, padded_rows(rows),
                          job->bf16 ? (void *)space_bf16 : space);
    for (int64_t k = 0; weighted && k < count; k++)
        weights[k] = matrix_floats(job->weights)[(at + k) * job->weights.stride];
    return stage_transposed(job->loops, job->a, at, count, row, rows, padded_rows(rows),
                            weighted ? weights : NULL, space, space_bf16);
}

static struct product_right right_from(const struct gemm_job *job, int64_t at)
{
    return (struct product_right){.plain = (const char *)job->right.plain +
                                           (size_t)(at * job->cols) * operand_size(job->bf16)};
}

static void gemm_task(void *context, int task, int worker)
{
    const struct gemm_job *job = context;
    int64_t row = (int64_t)task * TILE_ROWS, rows = min_int64(TILE_ROWS, job->rows - row);
    float *result = result_open(job->c, row, rows, job->mode, job->result + worker * TILE_ROWS * job->cols);
    for (int64_t at = 0; at < job->inner; at += job->sum_slice) {
        int64_t count = min_int64(job->sum_slice, job->inner - at);
        const void *left = gemm_left(job, row, rows, at, count, worker);
        struct product_right right = right_from(job, at);
        cpu_product(job->queue, job->product[rows < TILE_ROWS][count < job->sum_slice][at > 0], worker, left,
                    &right, result);
    }
    result_close(job->loops, result, NULL, job->c, row, rows, job->mode);
}

/* g += the products of one slice of tokens after the other, in double. */
static void gram_task(void *context, int task, int worker)
{
    const struct gemm_job *job = context;
    int64_t row = (int64_t)task * TILE_ROWS, rows = min_int64(TILE_ROWS, job->rows - row);
    float *result = job->result + worker * TILE_ROWS * job->cols;
    for (int64_t at = 0; at < job->inner; at += job->sum_slice) {
        int64_t count = min_int64(job->sum_slice, job->inner - at);
        const void *left = gemm_left(job, row, rows, at, count, worker);
        struct product_right right = right_from(job, at);
        cpu_product(job->queue, job->product[rows < TILE_ROWS][count < job->sum_slice][0], worker, left, &right,
                    result);
        for (int64_t r = 0; r < rows; r++)
            job->loops->add_double(result + r * job->cols, job->cols,
                                   matrix_doubles(job->c) + (row + r) * job->c.stride);
    }
}

static void gemm_run(struct gemm_job *job, struct matrix b, bool transpose_b, pool_function *function)
{
    int64_t values = (int64_t)pool_threads(queue_cpu(job->queue)->pool) * TILE_ROWS;
    job->sum_slice = job->transpose_a ? SUM_SLICE : max_int64(job->inner, 1);
    job->right = stage_right(job->queue, job->bf16, b, transpose_b);
    job->left = scratch_get(job->queue, SCRATCH_LEFT, values * job->sum_slice, sizeof(float));
    if (job->bf16)
        job->left_bf16 = scratch_get(job->queue, SCRATCH_LEFT_BF16, values * job->sum_slice, sizeof(uint16_t));
    job->result = scratch_get(job->queue, SCRATCH_RESULT, values * job->cols, sizeof(float));
    if (find_gemm_products(job))
        cpu_run(job->queue, divide_up(job->rows, TILE_ROWS), function, job);
}

static void multiply(struct queue *queue, bool bf16, struct matrix a, bool transpose_a, struct matrix b,
                     bool transpose_b, struct matrix c, enum op_mode mode)
{
    struct gemm_job job = {.queue = queue,
                           .loops = queue_cpu(queue)->loops,
                           .a = a,
                           .c = c,
                           .weights = matrix_none(),
                           .bf16 = bf16,
                           .transpose_a = transpose_a,
                           .mode = mode,
                           .rows = c.rows,
                           .inner = transpose_a ? a.rows : a.cols,
                           .cols = c.cols};
    gemm_run(&job, b, transpose_b, gemm_task);
}

void cpu_gemm(struct queue *queue, struct matrix a, bool transpose_a, struct matrix b, bool transpose_b,
              struct matrix c, enum op_mode mode)
{
    multiply(queue, queue_cpu(queue)->bf16, a, transpose_a, b, transpose_b, c, mode);
}

void cpu_product_f32(struct queue *queue, struct matrix a, struct matrix b, struct matrix c)
{
    multiply(queue, false, a, false, b, false, c, OP_STORE);
}

void cpu_gram(struct queue *queue, struct matrix x, struct matrix y, struct matrix w, struct matrix g)
{
    struct gemm_job job = {.queue = queue,
                           .loops = queue_cpu(queue)->loops,
                           .a = x,
                           .c = g,
                           .weights = w,
                           .transpose_a = true,
                           .rows = x.cols,
                           .inner = x.rows,
                           .cols = y.cols};
    gemm_run(&job, y, false, gram_task);
}
