/* device.c: the cpu backend's life cycle, its queue, its host buffers, and its table. */
#include "kernels/cpu/cpu.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"

static void device_close(struct backend *base)
{
    struct cpu_backend *backend = (struct cpu_backend *)base;
    if (!backend)
        return;
    product_cache_destroy(backend->products);
    pool_destroy(backend->pool);
    free(backend);
}

/* The widest loops that the CPU runs, no wider than ONEDNN_MAX_CPU_ISA lets oneDNN be: so one
 * variable puts a whole run on an older CPU's footing. */
static const struct cpu_loops *choose_loops(void)
{
#ifdef __x86_64__
    int level = product_vector_level();
    if (level >= 2)
        return &cpu_loops_avx512;
    if (level >= 1 && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        return &cpu_loops_avx2;
#endif
    return &cpu_loops_base;
}

static void describe(struct backend *base, const struct cpu_loops *loops, bool bf16)
{
    static const char *const words[][2] = {{"avx512", "AVX-512"}, {"avx2", "AVX2"}};
    const char *set = "no AVX2";
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (!strcmp(loops->name, words[i][0]))
            set = words[i][1];
    snprintf(base->description, sizeof base->description, "cpu (%s, %s%d thread%s)", set, bf16 ? "bf16, " : "",
             base->options.threads, base->options.threads == 1 ? "" : "s");
}

static int device_open(const struct backend_options *options, struct backend **result, struct error *error)
{
    struct cpu_backend *backend = memory_alloc(1, sizeof *backend, error);
    char onednn[96];
    *result = NULL;
    if (!backend)
        return -1;
    backend->base.table = &cpu_table;
    backend->base.name = "cpu";
    backend->base.options = *options;
    backend->loops = choose_loops();
    backend->bf16 = options->math == MATH_BF16;
    if (pool_create(options->threads, &backend->pool, error) < 0)
        goto fail;
    backend->base.options.threads = pool_threads(backend->pool);
    if (product_cache_create(pool_threads(backend->pool), &backend->products, error) < 0)
        goto fail;
    product_describe(onednn, sizeof onednn);
    const enum bf16_products bf16 = product_bf16(backend->products);
    if (backend->bf16 && bf16 == BF16_EMULATED)
        backend->base.warning = "this CPU has no instructions for bf16 products: --math f32 is faster on it";
    if (backend->bf16 && bf16 == BF16_NONE) {
        error_set_kind(error, ERROR_USAGE,
                       "this CPU has no bf16 products (%s; they need AVX-512); use --math f32", onednn);
        goto fail;
    }
    snprintf(backend->base.identity, sizeof backend->base.identity, "cpu %s %s %s", backend->loops->name,
             backend->bf16 ? "bf16" : "f32", onednn);
    describe(&backend->base, backend->loops, backend->bf16);
    *result = &backend->base;
    return 0;
fail:
    device_close(&backend->base);
    return -1;
}

static int device_queue_create(struct backend *backend, struct queue **result, struct error *error)
{
    struct cpu_queue *queue = memory_alloc(1, sizeof *queue, error);
    *result = NULL;
    if (!queue)
        return -1;
    queue->base.backend = backend;
    *result = &queue->base;
    return 0;
}

static void device_queue_destroy(struct queue *base)
{
    struct cpu_queue *queue = (struct cpu_queue *)base;
    if (!queue)
        return;
    for (int slot = 0; slot < SCRATCH_COUNT; slot++)
        free(queue->scratch[slot].data);
    free(queue);
}

static int device_queue_wait(struct queue *queue, struct error *error)
{
    if (!queue->failed)
        return 0;
    *error = queue->error;
    return -1;
}

static int device_buffer_create(struct backend *backend, size_t bytes, struct buffer **result,
                                struct error *error)
{
    struct buffer *buffer = memory_alloc(1, sizeof *buffer, error);
    *result = NULL;
    if (!buffer)
        return -1;
    *buffer = (struct buffer){.backend = backend, .bytes = bytes, .data = memory_alloc(bytes, 1, error)};
    if (!buffer->data) {
        free(buffer);
        return -1;
    }
    *result = buffer;
    return 0;
}

static void device_buffer_destroy(struct buffer *buffer)
{
    if (!buffer)
        return;
    free(buffer->data);
    free(buffer);
}

static void *row_address(struct matrix m, int64_t row)
{
    return (char *)m.buffer->data + (size_t)(m.offset + row * m.stride) * value_size(m.type);
}

static void device_write(struct queue *queue, struct matrix matrix, const void *source)
{
    (void)queue;
    size_t row = (size_t)matrix.cols * value_size(matrix.type);
    for (int64_t r = 0; r < matrix.rows; r++)
        memcpy(row_address(matrix, r), (const char *)source + (size_t)r * row, row);
}

static void device_write_bf16(struct queue *queue, struct matrix matrix, const void *source)
{
    const size_t row = (size_t)matrix.cols * sizeof(uint16_t);
    for (int64_t r = 0; r < matrix.rows; r++)
        queue_cpu(queue)->loops->widen_bf16((const char *)source + (size_t)r * row, matrix.cols,
                                            row_address(matrix, r));
}

static void device_read(struct queue *queue, struct matrix matrix, void *destination)
{
    (void)queue;
    size_t row = (size_t)matrix.cols * value_size(matrix.type);
    for (int64_t r = 0; r < matrix.rows; r++)
        memcpy((char *)destination + (size_t)r * row, row_address(matrix, r), row);
}

static void device_read_rounded(struct queue *queue, struct matrix matrix, float *destination)
{
    device_read(queue, matrix, destination);
    round_floats(destination, matrix.rows * matrix.cols);
}

/* ---- shared by the ops ---- */

void *scratch_get(struct queue *base, enum scratch slot, int64_t count, size_t size)
{
    struct cpu_queue *queue = (struct cpu_queue *)base;
    size_t bytes;
    void *block = NULL;
    if (base->failed)
        return NULL;
    if (!size_multiply((size_t)count, size, &bytes)) {
        queue_fail(base, ERROR_NO_MEMORY, "working memory of %lld objects of %zu bytes cannot be addressed",
                   (long long)count, size);
        return NULL;
    }
    if (bytes <= queue->scratch[slot].bytes && queue->scratch[slot].data)
        return queue->scratch[slot].data;
    free(queue->scratch[slot].data);
    queue->scratch[slot].data = NULL;
    queue->scratch[slot].bytes = 0;
    if (posix_memalign(&block, 4096, bytes ? bytes : 1) != 0) {
        queue_fail(base, ERROR_NO_MEMORY, "out of memory: %zu bytes of working memory could not be had", bytes);
        return NULL;
    }
    queue->scratch[slot].data = block;
    queue->scratch[slot].bytes = bytes;
    return block;
}

void cpu_run(struct queue *base, int64_t tasks, pool_function *function, void *context)
{
    struct cpu_queue *queue = (struct cpu_queue *)base;
    if (base->failed || tasks <= 0)
        return;
    if (tasks > INT_MAX) {
        queue_fail(base, ERROR_INPUT, "%lld tasks of work are too many for one call; pass fewer rows",
                   (long long)tasks);
        return;
    }
    pool_run(queue_cpu(base)->pool, (int)tasks, function, context);
    if (atomic_load(&queue->product_failed))
        queue_fail(base, ERROR_NO_MEMORY, "a oneDNN product failed; the machine may be out of memory");
}

void cpu_product(struct queue *queue, const struct product *product, int worker, const void *left,
                 const struct product_right *right, float *result)
{
    if (product_run(product, worker, left, right, result) < 0)
        atomic_store(&((struct cpu_queue *)queue)->product_failed, true);
}

const struct product *cpu_product_find(struct queue *queue, struct product_shape shape)
{
    struct error error;
    if (queue->failed)
        return NULL;
    const struct product *product = product_find(queue_cpu(queue)->products, shape, &error);
    if (!product)
        queue_fail(queue, error.kind, "%s", error.text);
    return product;
}

const struct backend_table cpu_table = {
    .open = device_open,
    .close = device_close,
    .queue_create = device_queue_create,
    .queue_destroy = device_queue_destroy,
    .queue_wait = device_queue_wait,
    .buffer_create = device_buffer_create,
    .buffer_destroy = device_buffer_destroy,
    .write = device_write,
    .write_bf16 = device_write_bf16,
    .read = device_read,
    .read_rounded = device_read_rounded,
    .weight_prepare = cpu_weight_prepare,
    .weight_subset_create = cpu_weight_subset_create,
    .weight_destroy = cpu_weight_destroy,
    .matmul = cpu_matmul,
    .matmul_grad = cpu_matmul_grad,
    .embed = cpu_embed,
    .gather = cpu_gather,
    .gemm = cpu_gemm,
    .gram = cpu_gram,
    .copy = cpu_copy,
    .axpy = cpu_axpy,
    .add_bias = cpu_add_bias,
    .sum_rows = cpu_sum_rows,
    .sum_squares = cpu_sum_squares,
    .mean_square = cpu_mean_square,
    .norm = cpu_norm,
    .norm_grad = cpu_norm_grad,
    .swiglu = cpu_swiglu,
    .swiglu_grad = cpu_swiglu_grad,
    .rope = cpu_rope,
    .rope_grad = cpu_rope_grad,
    .attention = cpu_attention,
    .attention_grad = cpu_attention_grad,
    .vocab_stats = cpu_vocab_stats,
    .vocab_cross = cpu_vocab_cross,
    .vocab_loss = cpu_vocab_loss,
    .quantise = cpu_quantise,
    .split_planes = cpu_split_planes,
    .adam = cpu_adam,
};
