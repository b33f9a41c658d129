/* backend.h: what a backend is made of. For kernels/ only: everybody else includes ops.h.
 *
 * ops.c checks every call against the contract of ops.h (shapes, types, extents, aliasing). Then it calls the
 * function in the table of the queue's backend, which may trust its arguments, and reports a failure with
 * queue_fail. The functions have the names of ops.h without "op_". Each family of ops is a file of the same
 * name in every backend.
 */
#ifndef OFFRAMP_KERNELS_BACKEND_H
#define OFFRAMP_KERNELS_BACKEND_H

#include "kernels/ops.h"

#define GEMMS_ALIKE 64

struct backend_table {
    /* life cycle */
    int (*open)(const struct backend_options *options, struct backend **backend, struct error *error);
    void (*close)(struct backend *backend);
    uint64_t (*memory)(const struct backend *backend); /* NULL: the process's */
    int (*queue_create)(struct backend *backend, struct queue **queue, struct error *error);
    void (*queue_destroy)(struct queue *queue);
    int (*queue_wait)(struct queue *queue, struct error *error);
    /* Both NULL: an op is done when its function returns. */
    uint64_t (*queue_mark)(const struct queue *queue);
    void (*queue_reach)(struct queue *queue, uint64_t mark); /* failures by queue_fail */
    /* Both NULL, or around every op of a timed backend: its seconds go to *total, a member of the backend's
     * times. */
    void (*time_begin)(struct queue *queue, double *total);
    void (*time_end)(struct queue *queue);
    int (*buffer_create)(struct backend *backend, size_t bytes, struct buffer **buffer, struct error *error);
    void (*buffer_destroy)(struct buffer *buffer);
    void (*write)(struct queue *queue, struct matrix matrix, const void *source);
    void (*write_bf16)(struct queue *queue, struct matrix matrix, const void *source);
    void (*read)(struct queue *queue, struct matrix matrix, void *destination);
    void (*read_rounded)(struct queue *queue, struct matrix matrix, float *destination);
    int (*weight_prepare)(struct backend *backend, const struct weight_part *parts, int count,
                          const float *bias, unsigned uses, struct weight **weight, struct error *error);
    int (*weight_subset_create)(struct backend *backend, int64_t rows, int64_t cols, struct weight **subset,
                                struct error *error);
    void (*weight_destroy)(struct weight *weight);

    /* ops */
    void (*matmul)(struct queue *, struct matrix x, const struct weight *, struct matrix y, enum op_mode);
    void (*matmul_grad)(struct queue *, struct matrix dy, const struct weight *, struct matrix dx,
                        enum op_mode);
    void (*embed)(struct queue *, const struct weight *, struct matrix ids, struct matrix y);
    void (*gather)(struct queue *, const struct weight *from, struct matrix ids, struct weight *subset);
    void (*gemm)(struct queue *, struct matrix a, bool transpose_a, struct matrix b, bool transpose_b,
                 struct matrix c, enum op_mode);
    /* op_gemm of 2 to GEMMS_ALIKE that differ in buffers and offsets only; NULL: one after the other is as
     * fast. */
    void (*gemm_alike)(struct queue *, const struct gemm *gemms, int count);
    void (*gram)(struct queue *, struct matrix x, struct matrix y, struct matrix w, struct matrix g);
    void (*copy)(struct queue *, struct matrix x, struct matrix y);
    void (*axpy)(struct queue *, float alpha, struct matrix x, struct matrix y);
    void (*add_bias)(struct queue *, struct matrix b, struct matrix y);
    void (*sum_rows)(struct queue *, struct matrix x, struct matrix s);
    void (*sum_squares)(struct queue *, const struct square_sum *, int count); /* count: 1 or more */
    void (*mean_square)(struct queue *, struct matrix x, struct matrix m);
    void (*norm)(struct queue *, struct matrix x, struct matrix scale, float epsilon, struct matrix y);
    void (*norm_grad)(struct queue *, struct matrix dy, struct matrix x, struct matrix scale, float epsilon,
                      struct matrix dx, enum op_mode, struct matrix dscale);
    void (*swiglu)(struct queue *, struct matrix x, struct matrix y);
    void (*swiglu_grad)(struct queue *, struct matrix dy, struct matrix x, struct matrix dx);
    void (*rope)(struct queue *, struct matrix x, struct matrix positions, struct matrix table,
                 enum rope_pairs);
    void (*rope_grad)(struct queue *, struct matrix dx, struct matrix positions, struct matrix table,
                      enum rope_pairs);
    void (*attention)(struct queue *, const struct attention *, struct matrix q, const struct attention_span *,
                      int count, struct matrix out);
    void (*attention_grad)(struct queue *, const struct attention *, struct matrix q,
                           const struct attention_span *, int count, struct matrix out, struct matrix dout,
                           struct matrix dq, const struct attention_span *dspans);
    void (*vocab_stats)(struct queue *, struct matrix h, const struct vocab *, struct matrix labels,
                        const struct vocab_stats *);
    void (*vocab_cross)(struct queue *, struct matrix h, const struct vocab *, struct matrix t,
                        const struct vocab *teacher, struct matrix cross);
    void (*vocab_loss)(struct queue *, struct matrix h, const struct vocab *, const struct vocab_loss *,
                       struct matrix loss, struct matrix dh, struct matrix down);
    void (*quantise)(struct queue *, struct matrix x, struct matrix basis, struct matrix offset, float spacing,
                     struct matrix q, struct matrix scale, struct matrix lost);
    void (*split_planes)(struct queue *, struct matrix x, struct matrix high, struct matrix low);
    void (*adam)(struct queue *, const struct adam_update *, int count); /* count: 1 or more */
};

/* Every backend's objects begin with these; the backend's own fields follow. A backend sets identity,
 * description, warning, data and a weight's bytes; the other fields are set for it when its function has
 * returned. */
struct backend {
    const struct backend_table *table;
    const char *name;
    char identity[160];
    char description[160];
    const char *warning; /* or NULL */
    struct error unused_gpu; /* for backend_unused_gpu */
    struct backend_options options; /* threads resolved */
    int ran_out; /* enum ran_out, by backend_note_out and backend_ran_out: the threads that load and compute */
    uint64_t activations; /* for backend_activations; 0: as a processor's caches want it */
    uint64_t working; /* for backend_working */
    struct device_times times; /* kept by a backend with a device of its own */
};

/* For backend_ran_out. Safe from any thread. */
static inline void backend_note_out(struct backend *backend, enum ran_out what)
{
    __atomic_store_n(&backend->ran_out, (int)what, __ATOMIC_RELAXED);
}

struct queue {
    struct backend *backend;
    bool failed;
    struct error error; /* the first failure */
};

struct buffer {
    struct backend *backend;
    size_t bytes;
    void *data; /* the device's own pointer */
};

struct weight {
    struct backend *backend;
    int64_t rows, cols;
    unsigned uses;
    bool is_subset; /* made by weight_subset_create */
    size_t bytes; /* held by the backend */
};

/* Remembers the first failure's reason. ops.c puts the op and its operands before the reason of an op
 * that has failed when its function returns. */
void queue_fail(struct queue *queue, enum error_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

extern const struct backend_table ref_table;
extern const struct backend_table cpu_table;

/* Bytes of a value of a view; 0 for a type that none has. */
static inline size_t value_size(enum dtype type)
{
    switch (type) {
    case DTYPE_F32:
    case DTYPE_I32: return 4;
    case DTYPE_F64: return 8;
    case DTYPE_I16: return 2;
    case DTYPE_U8: return 1;
    default: return 0;
    }
}

/* What a row's loss is made of (struct vocab_loss). */
struct loss_shares {
    double labels, teacher; /* c, d */
};
/* has_label: the row's label is in the vocabulary. */
static inline struct loss_shares loss_shares_of(const struct vocab_loss *target, bool has_label)
{
    const double share = target->target == VOCAB_LABELS ? 1 : (double)target->share;
    struct loss_shares shares;
    shares.labels = has_label ? share : 0;
    shares.teacher = 1 - share;
    return shares;
}
static inline float vocab_temperature(const struct vocab_loss *target)
{
    return target->temperature > 0 ? target->temperature : 1;
}

/* Host backends: address of a view's first value. */
static inline float *matrix_floats(struct matrix matrix)
{
    return matrix.buffer ? (float *)matrix.buffer->data + matrix.offset : NULL;
}
static inline int32_t *matrix_ints(struct matrix matrix)
{
    return matrix.buffer ? (int32_t *)matrix.buffer->data + matrix.offset : NULL;
}
static inline int16_t *matrix_shorts(struct matrix matrix)
{
    return matrix.buffer ? (int16_t *)matrix.buffer->data + matrix.offset : NULL;
}
static inline uint8_t *matrix_bytes(struct matrix matrix)
{
    return matrix.buffer ? (uint8_t *)matrix.buffer->data + matrix.offset : NULL;
}
static inline double *matrix_doubles(struct matrix matrix)
{
    return matrix.buffer ? (double *)matrix.buffer->data + matrix.offset : NULL;
}

/* For read_rounded, where the values are on the host already. */
static inline void round_floats(float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        values[i] = bf16_to_f32(f32_to_bf16(values[i]));
}

/* For split_planes: a row's. */
static inline void split_floats(const float *values, int64_t count, uint8_t *high, uint8_t *low)
{
    for (int64_t i = 0; i < count; i++) {
        const uint32_t bits = f32_to_bf16(values[i]), rotated = bits << 1 | bits >> 15;
        high[i] = (uint8_t)(rotated >> 8);
        low[i] = (uint8_t)rotated;
    }
}

/* For quantise: a row's scale from its root mean square. */
static inline float round_scale(double root)
{
    const uint16_t bits = f32_to_bf16((float)root), exponent = bits >> 7;
    if (!(root < 1e39))
        return bf16_to_f32(0x7fc0); /* NaN */
    return exponent == 0 ? 0 : bf16_to_f32(exponent == 0xff ? 0x7f7f : bits); /* the largest finite one */
}

#endif
