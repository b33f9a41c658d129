/* table.cuh: the functions behind the cuda backend's row of ops, one family a file. */
#ifndef OFFRAMP_KERNELS_CUDA_TABLE_CUH
#define OFFRAMP_KERNELS_CUDA_TABLE_CUH

#include "kernels/cuda/device.cuh"

extern "C" {
#include "kernels/cuda_library.h"

/* What the library gives to the program that opens it (memory.cu). */
extern __attribute__((visibility("default"))) const struct cuda_library offramp_cuda_library;
}

/* timing.cu */
void cuda_time_begin(struct queue *queue, double *total);
void cuda_time_end(struct queue *queue);
/* transfer.cu */
void cuda_write(struct queue *queue, struct matrix matrix, const void *source);
void cuda_write_bf16(struct queue *queue, struct matrix matrix, const void *source);
void cuda_read(struct queue *queue, struct matrix matrix, void *destination);
void cuda_read_rounded(struct queue *queue, struct matrix matrix, float *destination);
void cuda_copy(struct queue *queue, struct matrix x, struct matrix y);
uint64_t cuda_queue_mark(const struct queue *queue);
void cuda_queue_reach(struct queue *queue, uint64_t mark);
/* weight.cu */
int cuda_weight_prepare(struct backend *backend, const struct weight_part *parts, int count, const float *bias,
                        unsigned uses, struct weight **weight, struct error *error);
int cuda_weight_subset_create(struct backend *backend, int64_t rows, int64_t cols, struct weight **subset,
                              struct error *error);
void cuda_weight_destroy(struct weight *weight);
void cuda_embed(struct queue *queue, const struct weight *weight, struct matrix ids, struct matrix y);
void cuda_gather(struct queue *queue, const struct weight *from, struct matrix ids, struct weight *subset);
/* y [M, N] of M <= MATMUL_FEW_ROWS rows, from the file's own format. */
void cuda_matmul_few(struct queue *queue, struct matrix x, const struct weight *weight, struct matrix y,
                     enum op_mode mode);
/* gemm.cu */
void cuda_matmul(struct queue *queue, struct matrix x, const struct weight *weight, struct matrix y,
                 enum op_mode mode);
void cuda_matmul_grad(struct queue *queue, struct matrix dy, const struct weight *weight, struct matrix dx,
                      enum op_mode mode);
void cuda_gemm_alike(struct queue *queue, const struct gemm *gemms, int count);
void cuda_gemm(struct queue *queue, struct matrix a, bool transpose_a, struct matrix b, bool transpose_b,
               struct matrix c, enum op_mode mode);
void cuda_gram(struct queue *queue, struct matrix x, struct matrix y, struct matrix w, struct matrix g);
/* elementwise.cu */
void cuda_axpy(struct queue *queue, float alpha, struct matrix x, struct matrix y);
void cuda_add_bias(struct queue *queue, struct matrix b, struct matrix y);
void cuda_sum_rows(struct queue *queue, struct matrix x, struct matrix s);
void cuda_sum_squares(struct queue *queue, const struct square_sum *sums, int count);
void cuda_mean_square(struct queue *queue, struct matrix x, struct matrix m);
/* norm.cu */
void cuda_norm(struct queue *queue, struct matrix x, struct matrix scale, float epsilon, struct matrix y);
void cuda_norm_grad(struct queue *queue, struct matrix dy, struct matrix x, struct matrix scale, float epsilon,
                    struct matrix dx, enum op_mode mode, struct matrix dscale);
/* activation.cu */
void cuda_swiglu(struct queue *queue, struct matrix x, struct matrix y);
void cuda_swiglu_grad(struct queue *queue, struct matrix dy, struct matrix x, struct matrix dx);
/* rope.cu */
void cuda_rope(struct queue *queue, struct matrix x, struct matrix positions, struct matrix table,
               enum rope_pairs pairs);
void cuda_rope_grad(struct queue *queue, struct matrix dx, struct matrix positions, struct matrix table,
                    enum rope_pairs pairs);
/* attention.cu */
void cuda_attention(struct queue *queue, const struct attention *attention, struct matrix q,
                    const struct attention_span *spans, int count, struct matrix out);
void cuda_attention_grad(struct queue *queue, const struct attention *attention, struct matrix q,
                         const struct attention_span *spans, int count, struct matrix out, struct matrix dout,
                         struct matrix dq, const struct attention_span *dspans);
/* vocab.cu */
void cuda_vocab_stats(struct queue *queue, struct matrix h, const struct vocab *vocab, struct matrix labels,
                      const struct vocab_stats *stats);
void cuda_vocab_cross(struct queue *queue, struct matrix h, const struct vocab *vocab, struct matrix t,
                      const struct vocab *teacher, struct matrix cross);
void cuda_vocab_loss(struct queue *queue, struct matrix h, const struct vocab *vocab,
                     const struct vocab_loss *target, struct matrix loss, struct matrix dh, struct matrix down);
/* coding.cu */
void cuda_quantise(struct queue *queue, struct matrix x, struct matrix basis, struct matrix offset,
                   float spacing, struct matrix q, struct matrix scale, struct matrix lost);
void cuda_split_planes(struct queue *queue, struct matrix x, struct matrix high, struct matrix low);
/* optimizer.cu */
void cuda_adam(struct queue *queue, const struct adam_update *updates, int count);

#endif
