/* ops.h: the contract of every operation on every backend.
 *
 * A backend runs ops on buffers. Only ops read and write buffers. A queue runs its ops in the order in which
 * they were put on it; the host sees a result after queue_wait. (`ref` and `cpu` run an op before the call
 * returns. Do not count on it.)
 *
 *     struct backend *backend;
 *     backend_open("cpu", &(struct backend_options){.threads = 2}, &backend, error);
 *     queue_create(backend, &queue, error);
 *     buffer_create(backend, rows * cols * sizeof(float), &x, error);
 *     op_write(queue, matrix_f32(x, rows, cols), host_values);
 *     op_norm(queue, matrix_f32(x, rows, cols), matrix_f32(scale, 1, cols), 1e-5f, matrix_f32(y, rows, cols));
 *     op_matmul(queue, matrix_f32(y, rows, cols), weight, matrix_f32(z, rows, out), OP_STORE);
 *     op_read(queue, matrix_f32(z, rows, out), host_result);
 *     if (queue_wait(queue, error) < 0) ...
 *
 * Errors. An op returns nothing. A wrong shape, a failed allocation or a device error makes the queue fail: it
 * skips the rest of its ops, and queue_wait returns -1 with the first reason, which names the op and its
 * shapes. A failed queue stays failed. A softmax over the vocabulary of many rows on `cpu` fails, too, when a
 * signal asks the program to stop: with ERROR_INTERRUPTED.
 *
 * Numbers. Activations are f32. Matrix products accumulate in f32. Their operands are f32 or, under MATH_BF16,
 * rounded to bf16; this includes the probabilities by which op_vocab_loss and u multiply the weight. On cpu,
 * op_matmul and op_vocab_* of at most MATMUL_FEW_ROWS rows always take f32, because reading the weight is what
 * bounds them. `ref` accumulates in double and ignores the math mode.
 *
 * Same bytes. A result of `cpu` depends on the op's shapes and inputs only: not on the number of threads, nor
 * on where operands are in memory. Where an output row belongs to an input row, it does not depend on the other
 * rows of the call, their number, or its index among them. Two exceptions:
 * - op_matmul and op_vocab_* have a kernel of their own for at most MATMUL_FEW_ROWS rows. A row has the same bytes in all calls of more
 *   rows, and the same in all calls of so few, but these may differ. op_attention chooses its kernel for each span in the same way: an
 *   output row depends on its query, on the keys and values that it sees, and on whether its span has more than MATMUL_FEW_ROWS queries.
 * - What sums over rows depends on all of them: op_gemm with transpose_a, op_gram, op_sum_rows, op_sum_squares, and the gradients of
 *   shared weights (dscale, down). The gradients of keys and values depend on all rows of their span, and on no other span.
 * All of this holds with every instruction set, but two sets give different bytes.
 *
 * Aliasing. Outputs must not overlap inputs unless the op says "in place".
 *
 * Shapes are written [rows, cols]; M tokens, H hidden size, V vocabulary, I intermediate size.
 */
#ifndef OFFRAMP_KERNELS_OPS_H
#define OFFRAMP_KERNELS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "kernels/dtype.h"

/* ---- backends, queues, buffers ---- */

struct backend;
struct queue;
struct buffer;
struct weight;

enum math {
    MATH_DEFAULT, /* f32 on cpu and ref, bf16 on cuda */
    MATH_F32,
    MATH_TF32, /* f32 operands, products by tensor cores; cuda only */
    MATH_BF16
};

struct backend_options {
    int threads; /* 0: one per processor this process may use */
    enum math math;
    bool timed; /* for backend_times */
};

/* device: "auto" (the fastest one of this machine), "cpu", "ref", "cuda". Where a device is missing, the error
 * says what is needed and how to get it. */
int backend_open(const char *device, const struct backend_options *options, struct backend **backend,
                 struct error *error);
void backend_close(struct backend *backend); /* NULL is fine; buffers, weights, queues first */

const char *backend_name(const struct backend *backend);
enum math backend_math(const struct backend *backend); /* never MATH_DEFAULT */

/* What a command line may name: devices as backend_open takes them, and math modes in the enum's order from
 * MATH_F32. NULL ends each list. */
const char *const *device_names(void);
const char *const *math_names(void);

/* What the bytes of a result depend on: backend, instruction set, math mode, library versions, for
 * instance "cpu avx512 f32 onednn-2.6.3". Lives as long as the backend. */
const char *backend_identity(const struct backend *backend);
/* For people, such as "cpu (AVX-512, 2 threads)". Lives as long as the backend. */
const char *backend_description(const struct backend *backend);
/* Of a backend opened as "auto": why it does not use the GPU of this machine, and what mends that. NULL when it
 * does, or when there is no GPU. Lives as long as the backend. */
const char *backend_unused_gpu(const struct backend *backend);
/* What the user should know before a long run, one line, or NULL. Lives as long as the backend. */
const char *backend_warning(const struct backend *backend);

/* Bytes of the device's own memory that are free; 0: buffers and weights are in the process's memory. */
uint64_t backend_memory(const struct backend *backend);
/* Bytes of activations per call with which ops run fastest: more do not fit in a processor's caches, fewer do
 * not fill a device. */
uint64_t backend_activations(const struct backend *backend);
/* Bytes of the device's own memory that ops take beside buffers and weights; 0: it is the process's memory. */
uint64_t backend_working(const struct backend *backend);
/* What has failed last for want of device memory since the last call. */
enum ran_out {
    RAN_OUT_NOTHING,
    RAN_OUT_ROWS, /* a buffer or an op: with fewer rows it may not */
    RAN_OUT_WEIGHT /* weight_prepare */
};
enum ran_out backend_ran_out(struct backend *backend);

/* Seconds that a device has worked for a backend that was opened timed: on ops, on copies to it (op_write,
 * weights), and on copies from it (op_read). The three may overlap. They count what queues have waited for, of
 * queues of one thread. All are 0 for cpu and ref, where ops take the caller's own time. */
struct device_times {
    double ops, in, out;
};
struct device_times backend_times(const struct backend *backend);

int queue_create(struct backend *backend, struct queue **queue, struct error *error);
void queue_destroy(struct queue *queue); /* NULL is fine */
int queue_wait(struct queue *queue, struct error *error);
/* Reading while computing goes on:
 *     op_read(queue, x, states);
 *     mark = queue_mark(queue);
 *     ... more ops, which may change x ...
 *     queue_reach(queue, mark, error);        // states are there; -1 as queue_wait, for what led to them
 */
uint64_t queue_mark(const struct queue *queue);
int queue_reach(struct queue *queue, uint64_t mark, struct error *error);
struct backend *queue_backend(const struct queue *queue);

/* Contents start as zeros. */
int buffer_create(struct backend *backend, size_t bytes, struct buffer **buffer, struct error *error);
void buffer_destroy(struct buffer *buffer); /* NULL is fine */

/* ---- views ---- */

/* rows x cols values (at least one each) in a buffer; row r starts at value offset + r * stride. A
 * view owns nothing. */
struct matrix {
    struct buffer *buffer;
    enum dtype type; /* DTYPE_F32, DTYPE_F64, DTYPE_I32, DTYPE_I16 or DTYPE_U8 */
    int64_t offset; /* values */
    int64_t rows, cols;
    int64_t stride; /* values; >= cols */
};

/* A whole buffer of that shape, rows one behind the other. */
struct matrix matrix_f32(struct buffer *buffer, int64_t rows, int64_t cols);
struct matrix matrix_i32(struct buffer *buffer, int64_t rows, int64_t cols);
struct matrix matrix_f64(struct buffer *buffer, int64_t rows, int64_t cols);
/* Rows [first, first + rows), or columns [first, first + cols), of a view. */
struct matrix matrix_rows(struct matrix matrix, int64_t first, int64_t rows);
struct matrix matrix_cols(struct matrix matrix, int64_t first, int64_t cols);
/* An absent optional argument. */
struct matrix matrix_none(void);
bool matrix_is_none(struct matrix matrix);

/* Copies from host memory and to it; rows are one behind the other on the host. `source` may be changed once
 * op_write has returned. `destination` is filled after queue_wait, or after queue_reach with a mark that was
 * taken after op_read. */
void op_write(struct queue *queue, struct matrix matrix, const void *source);
void op_read(struct queue *queue, struct matrix matrix, void *destination);
/* op_write of bf16 values, at any address, to f32: half the bytes on the bus. */
void op_write_bf16(struct queue *queue, struct matrix matrix, const void *source);
/* op_read of f32 values, rounded to bf16 as f32_to_bf16 does: half the bytes on the bus. `destination` is
 * f32. */
void op_read_rounded(struct queue *queue, struct matrix matrix, float *destination);

/* ---- prepared weights: frozen, used many times ---- */

/* Rows [rows, cols] of a weight in the file's own format; `data` is in host memory (a mapped file), at any
 * address. */
struct weight_part {
    enum dtype type;
    int64_t rows, cols;
    const void *data;
};

enum {
    WEIGHT_FORWARD = 1, /* op_matmul, op_vocab_* with more than MATMUL_FEW_ROWS rows */
    WEIGHT_BACKWARD = 2, /* op_matmul_grad, the gradient and u of op_vocab_* */
    WEIGHT_ROWS = 4 /* op_embed, op_matmul and op_vocab_* with at most MATMUL_FEW_ROWS rows */
};
#define MATMUL_FEW_ROWS 8

/* A weight W [N, K] of `count` parts with the same cols K, stacked by rows (q, k and v; gate and up). The
 * parts' data must outlive a weight with WEIGHT_ROWS. It is kept in the form that is fastest for its uses:
 * packed once in the compute type, or in the file's own format for products of few rows. bias: N values that
 * op_matmul adds, which are copied; or NULL. One thread may prepare weights while another puts ops on queues;
 * the upload does not wait for them. */
int weight_prepare(struct backend *backend, const struct weight_part *parts, int count, const float *bias,
                   unsigned uses, struct weight **weight, struct error *error);
/* A weight of `rows` rows of the width of `from`, for all uses and without a bias, whose rows op_gather takes from
 * `from`: as often as one likes, without another allocation. Before the first time it must not be used. It does not
 * need `from` afterwards. In an op with two weights of a vocabulary, either both come from here or none does. */
int weight_subset_create(const struct weight *from, int64_t rows, struct weight **subset, struct error *error);
void weight_destroy(struct weight *weight); /* NULL is fine */
/* Bytes the backend holds for it, the mapped file not counted. */
size_t weight_bytes(const struct weight *weight);

enum op_mode { OP_STORE, OP_ADD }; /* y = result, or y += result */

/* y [M, N] (=, +=) x [M, K] W^T (+ bias). M <= MATMUL_FEW_ROWS runs one kernel for every such M. */
void op_matmul(struct queue *queue, struct matrix x, const struct weight *weight, struct matrix y,
               enum op_mode mode);
/* dx [M, K] (=, +=) dy [M, N] W. */
void op_matmul_grad(struct queue *queue, struct matrix dy, const struct weight *weight, struct matrix dx,
                    enum op_mode mode);
/* y [M, K] = rows ids [M, 1] (i32) of W. An id outside 0 .. N-1 makes the queue fail. */
void op_embed(struct queue *queue, const struct weight *weight, struct matrix ids, struct matrix y);

/* Row s of the subset [S, K] = row ids [S, 1] (i32) of `from`, which has WEIGHT_ROWS, packed for products. An id
 * outside `from` makes the queue fail, and the subset must not be used. */
void op_gather(struct queue *queue, const struct weight *from, struct matrix ids, struct weight *subset);

/* ---- products of buffers: trained weights, statistics ---- */

/* c [M, N] (=, +=) op(a) op(b), op(a) [M, K]: a, or with transpose_a the transpose of a [K, M];
 * likewise b. With transpose_a the sum over K (tokens) runs in parts fixed by K alone, in order. */
void op_gemm(struct queue *queue, struct matrix a, bool transpose_a, struct matrix b, bool transpose_b,
             struct matrix c, enum op_mode mode);

/* op_gemm of each of `count`, in any order: none may write what another reads or writes. A device runs
 * neighbours in the list as one call when they differ only in where their values are. */
struct gemm {
    struct matrix a;
    bool transpose_a;
    struct matrix b;
    bool transpose_b;
    struct matrix c;
    enum op_mode mode;
};
void op_gemm_group(struct queue *queue, const struct gemm *gemms, int count);

/* Sufficient statistics of a weighted regression: g [K, N] (f64) += sum_m w_m x_m^T y_m, with
 * x [M, K], y [M, N], w [M, 1]. Products in f32, at most 512 rows at a time, summed in f64. */
void op_gram(struct queue *queue, struct matrix x, struct matrix y, struct matrix w, struct matrix g);

/* ---- element-wise, per row ---- */

/* y = x, of any type; both have the same shape and type. */
void op_copy(struct queue *queue, struct matrix x, struct matrix y);
/* y += alpha * x, same shape. */
void op_axpy(struct queue *queue, float alpha, struct matrix x, struct matrix y);
/* y [M, N] += b [1, N], every row. */
void op_add_bias(struct queue *queue, struct matrix b, struct matrix y);
/* s [1, N] += the sum of x [M, N] over rows, in parts fixed by M, in order. */
void op_sum_rows(struct queue *queue, struct matrix x, struct matrix s);
/* Each s [1, 1] (f64) += the sum of squares of its x, accumulated in f64 in parts fixed by x's shape. Where
 * several have the same s, they are added in the order of the list. A device runs a whole list in two
 * launches. */
struct square_sum {
    struct matrix x, s;
};
void op_sum_squares(struct queue *queue, const struct square_sum *sums, int count);
/* m [M, 1] = mean of squares of each row of x [M, N]. */
void op_mean_square(struct queue *queue, struct matrix x, struct matrix m);

/* Root-mean-square norm (Zhang and Sennrich 2019, arXiv 1910.07467): within every group of
 * scale.cols neighbouring columns, y = x / sqrt(mean(x^2) + epsilon) * scale. scale [1, G], G divides
 * N (G = N: the usual norm; G = head size: Qwen3's norm per attention head). In place allowed. */
void op_norm(struct queue *queue, struct matrix x, struct matrix scale, float epsilon, struct matrix y);
/* Its gradient: dx (=, +=) from dy and the norm's input x; dscale [1, G] +=, or matrix_none. */
void op_norm_grad(struct queue *queue, struct matrix dy, struct matrix x, struct matrix scale, float epsilon,
                  struct matrix dx, enum op_mode mode, struct matrix dscale);

/* y [M, I] = silu(g) * u, with x [M, 2 I] = [g, u] (Shazeer 2020, arXiv 2002.05202). */
void op_swiglu(struct queue *queue, struct matrix x, struct matrix y);
/* dx [M, 2 I] = its gradient. */
void op_swiglu_grad(struct queue *queue, struct matrix dy, struct matrix x, struct matrix dx);

/* ---- attention ---- */

enum rope_pairs {
    ROPE_ADJACENT, /* pairs (2i, 2i + 1): GGUF's Llama order */
    ROPE_HALVES /* pairs (i, i + D/2): Hugging Face's order */
};

/* Rotary embedding (Su et al. 2021, arXiv 2104.09864), in place. x [M, attention heads * D]. table [positions,
 * D]: row p has the cosines of the D/2 angles, then the sines. positions [M, 1] (i32): one outside the table
 * makes the queue fail. */
void op_rope(struct queue *queue, struct matrix x, struct matrix positions, struct matrix table,
             enum rope_pairs pairs);
/* Its gradient, in place: dx turned back by the same angles. */
void op_rope_grad(struct queue *queue, struct matrix dx, struct matrix positions, struct matrix table,
                  enum rope_pairs pairs);

struct attention {
    int heads,
        kv_heads; /* attention heads; kv_heads divides heads: head h reads key head h / (heads / kv_heads) */
    int head_size; /* D */
    int window; /* a query sees at most so many keys, its own included; 0: its own and all before it */
    float scale; /* of q . k, usually 1 / sqrt(D) */
};

/* The rows of a call that belong to one sequence. Its queries are R neighbouring rows of q and out; its keys
 * and values may lie in any buffer.
 *
 *     q, out          span 0's rows | span 1's rows | ...        one behind the other, all of q
 *     k, v            span 0: keys 0 .. S - 1                    the last R of them belong to its R queries
 *     own_k, own_v    span 0: row r: E keys of query r alone     one beside the other, each kv_heads D wide
 */
struct attention_span {
    int64_t queries; /* R >= 1 */
    struct matrix k, v; /* [S, kv_heads D], S >= R */
    /* [R, E kv_heads D], or none: E more keys of each query, which no other query sees and no window hides. */
    struct matrix own_k, own_v;
};

/* Causal softmax attention of `count` spans. q and out [sum of R, heads D]. Query r of a span stands at key S -
 * R + r and sees keys 0 .. S - R + r (or its window), and its own ones. A span of at most MATMUL_FEW_ROWS queries
 * runs one kernel, a span of more another one. On a device, spans of equal R and S whose keys lie one behind the
 * other run as one call. */
void op_attention(struct queue *queue, const struct attention *attention, struct matrix q,
                  const struct attention_span *spans, int count, struct matrix out);
/* Its gradients, from what it read and its result `out`. dq is stored. To dspans[i].k, .v, .own_k and .own_v the
 * gradients of those of spans[i] are added; each may be none: not wanted. Those of two spans must not overlap, also
 * where the spans see the same keys. dspans[i].queries is not read. */
void op_attention_grad(struct queue *queue, const struct attention *attention, struct matrix q,
                       const struct attention_span *spans, int count, struct matrix out, struct matrix dout,
                       struct matrix dq, const struct attention_span *dspans);

/* ---- the vocabulary: fused with the output product, the whole [M, V] never exists ---- */

/* An output weight: a prepared one (tied, frozen), or a trained buffer [V, H]. */
struct vocab {
    const struct weight *tied; /* or NULL */
    struct matrix own; /* used when tied is NULL */
};

/* What op_vocab_stats fills, per row; an absent output is not computed. */
struct vocab_stats {
    struct matrix lse; /* [M, 1] log sum exp of the logits */
    struct matrix label; /* [M, 1] the label's logit; needs labels */
    struct matrix top; /* [M, 1] i32, the largest logit's token, the smallest id among equals */
    struct matrix top_logit; /* [M, 1] */
    struct matrix entropy; /* [M, 1] of the softmax, nats */
    struct matrix u; /* [M, H] sum_v softmax_v W_v; needs WEIGHT_BACKWARD */
    struct matrix
        best; /* [M, K] i32, the K largest logits' tokens, falling, the smaller id first among equals */
    struct matrix best_logit; /* [M, K] of those; both or none */
};
#define VOCAB_BEST_MOST 32 /* K is at most so many, and at most V */

/* Logits h W^T of h [M, H] (already normed), described. labels [M, 1] i32 or none; a label outside
 * 0 .. V-1 gives a label logit of 0. Where a row's logits are not all finite, its best tokens have no meaning,
 * but are in 0 .. V-1. */
void op_vocab_stats(struct queue *queue, struct matrix h, const struct vocab *vocab, struct matrix labels,
                    const struct vocab_stats *stats);

/* cross [M, 1] = sum_v q_v z_v, q the softmax of teacher logits t W_t^T, t [M, H], z the logits h W^T:
 * with lse and the teacher's entropy this is KL(q || p) for an output weight of one's own. */
void op_vocab_cross(struct queue *queue, struct matrix h, const struct vocab *vocab, struct matrix t,
                    const struct vocab *teacher, struct matrix cross);

enum vocab_target {
    VOCAB_LABELS, /* cross-entropy on labels alone: d = 0 */
    VOCAB_U, /* distillation into a frozen weight, tied or own, through u (docs/design.md): q . z = h . u, T = 1 */
    VOCAB_TEACHER /* distillation from a teacher's states: q = softmax of its logits / T */
};

/* With the logits z of a row, its label's z_l, and the teacher's probabilities q at the temperature T, the row's
 * loss is
 *
 *     w (c (lse(z) - z_l) + d T^2 (lse(z / T) - q . z / T))
 *
 * c and d are the shares of cross-entropy and of distillation. T^2 keeps the size of distillation's gradient
 * (Hinton, Vinyals and Dean 2015, arXiv 1503.02531). The weight w of a row is 1, or its largest probability at
 * temperature 1, which is a constant to the gradient: EE-LLM's dynamic token-wise weight (Chen et al. 2023, arXiv
 * 2312.04916), which is not brought to a mean of 1 either. */
struct vocab_loss {
    enum vocab_target target;
    float
        share; /* VOCAB_U, VOCAB_TEACHER: c, 0 .. 1, with d = 1 - c. A row whose label is outside 0 .. V-1 has c = 0 */
    bool weighted; /* w is the largest probability */
    float temperature; /* VOCAB_TEACHER: T; 0 counts as 1 */
    struct matrix labels; /* [M, 1] i32: VOCAB_LABELS, and where share is above 0 */
    struct matrix u; /* VOCAB_U: [M, H] */
    struct matrix teacher_state; /* VOCAB_TEACHER: [M, H], normed */
    struct vocab teacher; /* VOCAB_TEACHER: its output weight */
    /* [1, V] or none: added to the exponents of every sum over the vocabulary: in lse, and in q. Where the weight
     * holds a sample of a vocabulary's rows, the logarithm of how many rows each stands for. */
    struct matrix shift;
    float scale; /* of the gradients, usually 1 / rows that count */
};

/* loss [M, 1] per row (0 where c and d are), dh [M, H] = scale * gradient, and
 * down [V, H] += scale * gradient of the own weight (none: tied). Two products for a tied weight. */
void op_vocab_loss(struct queue *queue, struct matrix h, const struct vocab *vocab,
                   const struct vocab_loss *target, struct matrix loss, struct matrix dh, struct matrix down);

/* ---- what codecs keep of states ---- */

/* Rows of x [M, K] in another basis [K, N], as integers. With s the root mean square of a row of x, rounded to
 * bf16, and v = x basis / s / spacing - offset, offset [1, N] (below bf16's normal numbers s is 0, and 1 / s
 * counts as 0):
 *     q [M, N] (i16) = v to the nearest integer, ties to even, within int16
 *     scale [M, 1] = s        lost [M, 1] = the sum of (v - q)^2 over the row
 * The product is f32 in every math mode. Where a value of the row, or of its product with the basis, is not
 * finite, scale is NaN, and q and lost have no meaning. */
void op_quantise(struct queue *queue, struct matrix x, struct matrix basis, struct matrix offset, float spacing,
                 struct matrix q, struct matrix scale, struct matrix lost);

/* The bits of x [M, N], rounded to bf16 as f32_to_bf16 does, in two planes of u8: high [M, N] gets the
 * exponents, low [M, N] the mantissas with the sign behind them. */
void op_split_planes(struct queue *queue, struct matrix x, struct matrix high, struct matrix low);

/* ---- optimizer ---- */

/* Adam with decoupled weight decay (Kingma and Ba 2014; Loshchilov and Hutter 2017). */
struct adam {
    float rate, beta1, beta2, epsilon, decay;
    float clip; /* the gradient is multiplied by this first */
    int64_t step; /* from 1, for bias correction */
};
/* The step of one parameter. All four have the same shape: value, first and second moment are updated in place,
 * gradient is set to zero. */
struct adam_update {
    struct adam adam;
    struct matrix gradient, value, first, second;
};
/* The steps of `count` parameters, which do not overlap. A device runs all of a list in one launch, so a list
 * should hold all parameters of all trials that take their step together. */
void op_adam(struct queue *queue, const struct adam_update *updates, int count);

#endif
