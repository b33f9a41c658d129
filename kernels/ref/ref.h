/* ref.h: the backend that says what an op means: plain loops, one thread, sums in double.
 *
 * Speed is not an aim here. Every result is rounded to f32 once, at the end (an OP_ADD rounds the sum
 * with the old value). The math mode is ignored.
 */
#ifndef OFFRAMP_KERNELS_REF_REF_H
#define OFFRAMP_KERNELS_REF_REF_H

#include "kernels/backend.h"

struct ref_weight {
    struct weight common;
    float *values; /* [rows, cols] */
    float *bias; /* [rows], or NULL */
};

/* `count` zeros for one op, to be freed; NULL with the queue failed when memory is out. */
double *ref_scratch(struct queue *queue, int64_t count);

/* *y = value, or the old *y + value. */
static inline void ref_put(float *y, double value, enum op_mode mode)
{
    *y = (float)(mode == OP_ADD ? (double)*y + value : value);
}

static inline const struct ref_weight *ref_weight(const struct weight *weight)
{
    return (const struct ref_weight *)weight;
}

/* memory.c */
int ref_open(const struct backend_options *options, struct backend **backend, struct error *error);
void ref_close(struct backend *backend);
int ref_queue_create(struct backend *backend, struct queue **queue, struct error *error);
void ref_queue_destroy(struct queue *queue);
int ref_queue_wait(struct queue *queue, struct error *error);
int ref_buffer_create(struct backend *backend, size_t bytes, struct buffer **buffer, struct error *error);
void ref_buffer_destroy(struct buffer *buffer);
void ref_write(struct queue *queue, struct matrix matrix, const void *source);
void ref_write_bf16(struct queue *queue, struct matrix matrix, const void *source);
void ref_read(struct queue *queue, struct matrix matrix, void *destination);
void ref_read_rounded(struct queue *queue, struct matrix matrix, float *destination);

/* weight.c */
int ref_weight_prepare(struct backend *backend, const struct weight_part *parts, int count, const float *bias,
                       unsigned uses, struct weight **weight, struct error *error);
int ref_weight_subset_create(struct backend *backend, int64_t rows, int64_t cols, struct weight **subset,
                             struct error *error);
void ref_weight_destroy(struct weight *weight);
void ref_matmul(struct queue *queue, struct matrix x, const struct weight *weight, struct matrix y,
                enum op_mode mode);
void ref_matmul_grad(struct queue *queue, struct matrix dy, const struct weight *weight, struct matrix dx,
                     enum op_mode mode);

/* embed.c */
void ref_embed(struct queue *queue, const struct weight *weight, struct matrix ids, struct matrix y);
void ref_gather(struct queue *queue, const struct weight *from, struct matrix ids, struct weight *subset);

/* gemm.c */
void ref_gemm(struct queue *queue, struct matrix a, bool transpose_a, struct matrix b, bool transpose_b,
              struct matrix c, enum op_mode mode);
void ref_gram(struct queue *queue, struct matrix x, struct matrix y, struct matrix w, struct matrix g);

/* elementwise.c */
void ref_copy(struct queue *queue, struct matrix x, struct matrix y);
void ref_axpy(struct queue *queue, float alpha, struct matrix x, struct matrix y);
void ref_add_bias(struct queue *queue, struct matrix b, struct matrix y);
void ref_sum_rows(struct queue *queue, struct matrix x, struct matrix s);
void ref_sum_squares(struct queue *queue, const struct square_sum *sums, int count);
void ref_mean_square(struct queue *queue, struct matrix x, struct matrix m);

/* norm.c */
void ref_norm(struct queue *queue, struct matrix x, struct matrix scale, float epsilon, struct matrix y);
void ref_norm_grad(struct queue *queue, struct matrix dy, struct matrix x, struct matrix scale, float epsilon,
                   struct matrix dx, enum op_mode mode, struct matrix dscale);

/* activation.c */
void ref_swiglu(struct queue *queue, struct matrix x, struct matrix y);
void ref_swiglu_grad(struct queue *queue, struct matrix dy, struct matrix x, struct matrix dx);

/* rope.c */
void ref_rope(struct queue *queue, struct matrix x, struct matrix positions, struct matrix table,
              enum rope_pairs pairs);
void ref_rope_grad(struct queue *queue, struct matrix dx, struct matrix positions, struct matrix table,
                   enum rope_pairs pairs);

/* attention.c */
void ref_attention(struct queue *queue, const struct attention *attention, struct matrix q,
                   const struct attention_span *spans, int count, struct matrix out);
void ref_attention_grad(struct queue *queue, const struct attention *attention, struct matrix q,
                        const struct attention_span *spans, int count, struct matrix out, struct matrix dout,
                        struct matrix dq, const struct attention_span *dspans);

/* vocab.c */
void ref_vocab_stats(struct queue *queue, struct matrix h, const struct vocab *vocab, struct matrix labels,
                     const struct vocab_stats *stats);
void ref_vocab_cross(struct queue *queue, struct matrix h, const struct vocab *vocab, struct matrix t,
                     const struct vocab *teacher, struct matrix cross);
void ref_vocab_loss(struct queue *queue, struct matrix h, const struct vocab *vocab,
                    const struct vocab_loss *target, struct matrix loss, struct matrix dh, struct matrix down);

/* coding.c */
void ref_quantise(struct queue *queue, struct matrix x, struct matrix basis, struct matrix offset,
                  float spacing, struct matrix q, struct matrix scale, struct matrix lost);
void ref_split_planes(struct queue *queue, struct matrix x, struct matrix high, struct matrix low);

/* optimizer.c */
void ref_adam(struct queue *queue, const struct adam_update *updates, int count);

#endif
