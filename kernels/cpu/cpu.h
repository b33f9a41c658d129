/* cpu.h: what the files of the cpu backend share. Nobody outside this folder includes it.
 *
 * Work is cut into tasks that a pool of threads takes in any order. To keep every byte independent
 * of the number of threads, what a task computes is fixed by the op's shape: matrix products go in
 * tiles of TILE_ROWS rows, each run by one oneDNN primitive on one thread (product.h), and sums over
 * rows go in tasks of fixed length that are added up in order.
 */
#ifndef OFFRAMP_KERNELS_CPU_CPU_H
#define OFFRAMP_KERNELS_CPU_CPU_H

#include <stdatomic.h>

#include "common/base/pool.h"
#include "kernels/backend.h"
#include "kernels/cpu/loops/loops.h"
#include "kernels/cpu/product.h"

struct cpu_backend {
    struct backend base;
    struct pool *pool;
    const struct cpu_loops *loops;
    struct product_cache *products;
    bool bf16; /* products of operands rounded to bf16 */
};

/* Working memory of a queue, by what it holds; kept and grown, so that ops allocate nothing in the long run. */
enum scratch {
    SCRATCH_LEFT, /* rows of left sides, per worker */
    SCRATCH_LEFT_BF16,
    SCRATCH_RIGHT, /* a whole right side */
    SCRATCH_RESULT, /* tiles of results, per worker */
    SCRATCH_SUMS, /* tasks of sums over rows */
    SCRATCH_KEYS,
    SCRATCH_VALUES,
    SCRATCH_SCORES, /* per worker */
    SCRATCH_WEIGHTS, /* per worker */
    SCRATCH_STATES, /* vocab: one chunk of h */
    SCRATCH_TEACHER_STATES,
    SCRATCH_PARTS, /* vocab: one chunk's softmax */
    SCRATCH_TEACHER_PARTS,
    SCRATCH_PLAIN_PARTS,
    SCRATCH_PART_SUMS,
    SCRATCH_PART_BEST,
    SCRATCH_PACK_FORWARD, /* vocab: an own weight, packed for one op */
    SCRATCH_PACK_BACKWARD,
    SCRATCH_PACK_TEACHER,
    SCRATCH_COEFFICIENTS,
    SCRATCH_COUNT
};

struct cpu_queue {
    struct queue base;
    struct {
        void *data;
        size_t bytes;
    } scratch[SCRATCH_COUNT];
    atomic_bool product_failed; /* set by any worker */
};

static inline struct cpu_backend *queue_cpu(const struct queue *queue)
{
    return (struct cpu_backend *)queue->backend;
}

/* ---- device.c ---- */

/* count objects of `size` bytes, contents undefined, valid until the slot is asked for again. NULL: the
 * queue has failed. */
void *scratch_get(struct queue *queue, enum scratch slot, int64_t count, size_t size);

/* pool_run, unless the queue has failed; a failed product fails the queue. */
void cpu_run(struct queue *queue, int64_t tasks, pool_function *function, void *context);

/* product_run for tasks; a failure is reported by cpu_run. */
void cpu_product(struct queue *queue, const struct product *product, int worker, const void *left,
                 const struct product_right *right, float *result);

/* product_find; NULL: the queue has failed. */
const struct product *cpu_product_find(struct queue *queue, struct product_shape shape);

/* ---- gemm.c ---- */

/* c = a b, of f32 in every math mode. */
void cpu_product_f32(struct queue *queue, struct matrix a, struct matrix b, struct matrix c);

/* ---- tasks of rows ---- */

/* Rows of `cols` values that make a task worth a thread's while. */
static inline int64_t rows_per_task(int64_t cols)
{
    enum { VALUES = 32768 };
    return cols >= VALUES ? 1 : VALUES / (cols > 0 ? cols : 1);
}

static inline int64_t divide_up(int64_t total, int64_t per_task)
{
    return (total + per_task - 1) / per_task;
}

static inline int64_t min_int64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t max_int64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static inline int64_t round_up(int64_t value, int64_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

/* ---- ops, in files named like those of ref ---- */

int cpu_weight_prepare(struct backend *, const struct weight_part *parts, int count, const float *bias,
                       unsigned uses, struct weight **weight, struct error *error);
int cpu_weight_subset_create(struct backend *, int64_t rows, int64_t cols, struct weight **subset,
                             struct error *error);
void cpu_weight_destroy(struct weight *);
void cpu_matmul(struct queue *, struct matrix x, const struct weight *, struct matrix y, enum op_mode);
void cpu_matmul_grad(struct queue *, struct matrix dy, const struct weight *, struct matrix dx, enum op_mode);
void cpu_embed(struct queue *, const struct weight *, struct matrix ids, struct matrix y);
void cpu_gather(struct queue *, const struct weight *from, struct matrix ids, struct weight *subset);
void cpu_gemm(struct queue *, struct matrix a, bool transpose_a, struct matrix b, bool transpose_b,
              struct matrix c, enum op_mode);
void cpu_gram(struct queue *, struct matrix x, struct matrix y, struct matrix w, struct matrix g);
void cpu_copy(struct queue *, struct matrix x, struct matrix y);
void cpu_axpy(struct queue *, float alpha, struct matrix x, struct matrix y);
void cpu_add_bias(struct queue *, struct matrix b, struct matrix y);
void cpu_sum_rows(struct queue *, struct matrix x, struct matrix s);
void cpu_sum_squares(struct queue *, const struct square_sum *, int count);
void cpu_mean_square(struct queue *, struct matrix x, struct matrix m);
void cpu_norm(struct queue *, struct matrix x, struct matrix scale, float epsilon, struct matrix y);
void cpu_norm_grad(struct queue *, struct matrix dy, struct matrix x, struct matrix scale, float epsilon,
                   struct matrix dx, enum op_mode, struct matrix dscale);
void cpu_swiglu(struct queue *, struct matrix x, struct matrix y);
void cpu_swiglu_grad(struct queue *, struct matrix dy, struct matrix x, struct matrix dx);
void cpu_rope(struct queue *, struct matrix x, struct matrix positions, struct matrix table, enum rope_pairs);
void cpu_rope_grad(struct queue *, struct matrix dx, struct matrix positions, struct matrix table,
                   enum rope_pairs);
void cpu_attention(struct queue *, const struct attention *, struct matrix q, const struct attention_span *,
                   int count, struct matrix out);
void cpu_attention_grad(struct queue *, const struct attention *, struct matrix q,
                        const struct attention_span *, int count, struct matrix out, struct matrix dout,
                        struct matrix dq, const struct attention_span *dspans);
void cpu_vocab_stats(struct queue *, struct matrix h, const struct vocab *, struct matrix labels,
                     const struct vocab_stats *);
void cpu_vocab_cross(struct queue *, struct matrix h, const struct vocab *, struct matrix t,
                     const struct vocab *teacher, struct matrix cross);
void cpu_vocab_loss(struct queue *, struct matrix h, const struct vocab *, const struct vocab_loss *,
                    struct matrix loss, struct matrix dh, struct matrix down);
void cpu_quantise(struct queue *, struct matrix x, struct matrix basis, struct matrix offset, float spacing,
                  struct matrix q, struct matrix scale, struct matrix lost);
void cpu_split_planes(struct queue *, struct matrix x, struct matrix high, struct matrix low);
void cpu_adam(struct queue *, const struct adam_update *, int count);

#endif
