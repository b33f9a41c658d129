#include "kernels/cpu/product.h"

#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/hash_index.h"
#include "common/base/memory.h"

/* From libgomp, whose header clang lacks: threads of parallel regions that the calling thread opens. */
void omp_set_num_threads(int threads);

/* oneDNN's memory objects that a worker points at its operands. */
struct operands {
    dnnl_memory_t left, right, result, scratchpad;
};

struct product {
    struct product_shape shape;
    int64_t primitive_rows;
    struct product_cache *cache;
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;
    size_t scratchpad_bytes;
    struct operands *operands; /* [threads], made by each worker on first use */
};

struct product_worker {
    dnnl_stream_t stream;
    void *scratchpad;
    size_t scratchpad_bytes;
};

enum { NARROW_COLS = 16 };

struct product_cache {
    dnnl_engine_t engine;
    int threads;
    struct product_worker *worker; /* [threads] */
    pthread_mutex_t mutex; /* over the products */
    struct product **product; /* [shapes.count] */
    size_t capacity;
    struct hash_index shapes; /* the products by their shape */
};

static void product_destroy(struct product *product)
{
    for (int i = 0; product->operands && i < product->cache->threads; i++) {
        dnnl_memory_destroy(product->operands[i].left);
        dnnl_memory_destroy(product->operands[i].right);
        dnnl_memory_destroy(product->operands[i].result);
        dnnl_memory_destroy(product->operands[i].scratchpad);
    }
    free(product->operands);
    dnnl_primitive_destroy(product->primitive);
    dnnl_primitive_desc_destroy(product->description);
    free(product);
}

void product_cache_destroy(struct product_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < cache->shapes.count; i++)
        product_destroy(cache->product[i]);
    free(cache->product);
    hash_index_free(&cache->shapes);
    for (int i = 0; cache->worker && i < cache->threads; i++) {
        dnnl_stream_destroy(cache->worker[i].stream);
        free(cache->worker[i].scratchpad);
    }
    free(cache->worker);
    dnnl_engine_destroy(cache->engine);
    pthread_mutex_destroy(&cache->mutex);
    free(cache);
}

int product_cache_create(int threads, struct product_cache **result, struct error *error)
{
    struct product_cache *cache = memory_alloc(1, sizeof *cache, error);
    *result = NULL;
    if (!cache)
        return -1;
    omp_set_num_threads(1);
    pthread_mutex_init(&cache->mutex, NULL);
    cache->threads = threads;
    if (array_alloc(&cache->worker, threads, error) < 0)
        goto fail;
    bool failed = dnnl_engine_create(&cache->engine, dnnl_cpu, 0) != dnnl_success;
    for (int i = 0; i < threads && !failed; i++)
        failed = dnnl_stream_create(&cache->worker[i].stream, cache->engine, dnnl_stream_default_flags) !=
                 dnnl_success;
    if (failed) {
        error_set_kind(error, ERROR_NO_MEMORY, "oneDNN could not be started; the machine may be out of memory");
        goto fail;
    }
    *result = cache;
    return 0;
fail:
    product_cache_destroy(cache);
    return -1;
}

/* ---- making products ---- */

static enum error_kind status_kind(dnnl_status_t status)
{
    return status == dnnl_out_of_memory ? ERROR_NO_MEMORY : ERROR_INTERNAL;
}

static dnnl_data_type_t operand_type(bool bf16)
{
    return bf16 ? dnnl_bf16 : dnnl_f32;
}

/* Rows of one call of the primitive, in which a row comes out the same wherever it is. With AMX oneDNN computes
 * narrow products without its tiles, and rounds otherwise, when they have few rows: those of any number of rows
 * are made of such. Its f32 kernel for AVX2 takes six rows at a time, and one to three that are left in another
 * order of sums than six. It cuts the rows of a call into 48, or into halves where that leaves more than 72, so
 * of all multiples of ROW_MULTIPLE only 32 leaves so few (two): such products are made of two calls. */
static int64_t primitive_rows(const struct product_shape *shape)
{
    if (shape->bf16)
        return shape->cols <= NARROW_COLS ? ROW_MULTIPLE : shape->rows;
    return shape->rows == 2 * ROW_MULTIPLE && product_vector_level() == 1 ? ROW_MULTIPLE : shape->rows;
}

/* right: its layout, or NULL for the one oneDNN likes best (asked for afterwards). */
static dnnl_status_t describe_product(dnnl_engine_t engine, const struct product_shape *shape,
                                      const dnnl_memory_desc_t *right, dnnl_primitive_desc_t *description)
{
    const int64_t rows = primitive_rows(shape);
    dnnl_dims_t left_dims = {rows, shape->inner}, right_dims = {shape->inner, shape->cols};
    dnnl_dims_t result_dims = {rows, shape->cols};
    dnnl_memory_desc_t left, any, result;
    dnnl_matmul_desc_t operation;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_post_ops_t sum = NULL;
    dnnl_data_type_t type = operand_type(shape->bf16);
    dnnl_status_t status = dnnl_memory_desc_init_by_tag(&left, 2, left_dims, type, dnnl_ab);
    if (!status)
        status = dnnl_memory_desc_init_by_tag(&any, 2, right_dims, type,
                                              shape->packed ? dnnl_format_tag_any : dnnl_ab);
    if (!status)
        status = dnnl_memory_desc_init_by_tag(&result, 2, result_dims, dnnl_f32, dnnl_ab);
    if (!status)
        status = dnnl_matmul_desc_init(&operation, &left, right ? right : &any, NULL, &result);
    if (!status)
        status = dnnl_primitive_attr_create(&attributes);
    if (!status)
        status = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    if (!status && shape->add) {
        status = dnnl_post_ops_create(&sum);
        if (!status)
            status = dnnl_post_ops_append_sum(sum, 1.0f);
        if (!status)
            status = dnnl_primitive_attr_set_post_ops(attributes, sum);
    }
    if (!status)
        status = dnnl_primitive_desc_create(description, &operation, attributes, engine, NULL);
    dnnl_post_ops_destroy(sum);
    dnnl_primitive_attr_destroy(attributes);
    return status;
}

/* The layout of a packed right side, for every number of rows the one that TILE_ROWS gets. */
static dnnl_status_t packed_layout(dnnl_engine_t engine, int64_t inner, int64_t cols, bool bf16,
                                   dnnl_memory_desc_t *layout)
{
    struct product_shape shape = {
        .rows = TILE_ROWS, .inner = inner, .cols = cols, .bf16 = bf16, .packed = true};
    dnnl_primitive_desc_t description = NULL;
    dnnl_status_t status = describe_product(engine, &shape, NULL, &description);
    if (!status)
        *layout = *dnnl_primitive_desc_query_md(description, dnnl_query_weights_md, 0);
    dnnl_primitive_desc_destroy(description);
    return status;
}

static int product_create(struct product_cache *cache, const struct product_shape *shape,
                          struct product **result, struct error *error)
{
    struct product *product = memory_alloc(1, sizeof *product, error);
    dnnl_memory_desc_t packed;
    dnnl_status_t status = dnnl_success;
    if (!product)
        return -1;
    product->shape = *shape;
    product->primitive_rows = primitive_rows(shape);
    product->cache = cache;
    if (array_alloc(&product->operands, cache->threads, error) < 0)
        goto fail;
    if (shape->packed)
        status = packed_layout(cache->engine, shape->inner, shape->cols, shape->bf16, &packed);
    if (!status)
        status = describe_product(cache->engine, shape, shape->packed ? &packed : NULL, &product->description);
    if (!status)
        status = dnnl_primitive_create(&product->primitive, product->description);
    if (status) {
        error_set_kind(error, status_kind(status),
                       "oneDNN has no %s product of [%lld, %lld] and [%lld, %lld] (status %d)",
                       shape->bf16 ? "bf16" : "f32", (long long)shape->rows, (long long)shape->inner,
                       (long long)shape->inner, (long long)shape->cols, (int)status);
        goto fail;
    }
    product->scratchpad_bytes = dnnl_memory_desc_get_size(
        dnnl_primitive_desc_query_md(product->description, dnnl_query_scratchpad_md, 0));
    *result = product;
    return 0;
fail:
    product_destroy(product);
    return -1;
}

static uint64_t hash_of(const struct product_shape *shape)
{
    const int64_t key[] = {shape->rows, shape->inner, shape->cols,
                           shape->bf16 * 4 + shape->packed * 2 + shape->add};
    return hash_bytes(key, sizeof key, 0);
}

static bool shape_equal(const struct product_shape *a, const struct product_shape *b)
{
    return a->rows == b->rows && a->inner == b->inner && a->cols == b->cols && a->bf16 == b->bf16 &&
           a->packed == b->packed && a->add == b->add;
}

static struct product *find(const struct product_cache *cache, const struct product_shape *shape)
{
    struct hash_probe probe = {.key = hash_of(shape)};
    for (uint32_t i; (i = hash_index_next(&cache->shapes, &probe)) != HASH_INDEX_END;)
        if (shape_equal(&cache->product[i]->shape, shape))
            return cache->product[i];
    return NULL;
}

static int add(struct product_cache *cache, const struct product_shape *shape, struct product **product,
               struct error *error)
{
    const size_t count = cache->shapes.count;
    if (array_grow(&cache->product, &cache->capacity, count + 1, error) < 0 ||
        product_create(cache, shape, product, error) < 0)
        return -1;
    cache->product[count] = *product;
    if (hash_index_put(&cache->shapes, hash_of(shape), (uint32_t)count, error) == 0)
        return 0;
    product_destroy(*product);
    return -1;
}

const struct product *product_find(struct product_cache *cache, struct product_shape shape, struct error *error)
{
    omp_set_num_threads(1);
    pthread_mutex_lock(&cache->mutex);
    struct product *product = find(cache, &shape);
    const bool failed = !product && add(cache, &shape, &product, error) < 0;
    pthread_mutex_unlock(&cache->mutex);
    return failed ? NULL : product;
}

/* ---- running them ---- */

static int prepare_operands(const struct product *product, struct operands *operands)
{
    dnnl_engine_t engine = product->cache->engine;
    const dnnl_primitive_desc_t of = product->description;
    dnnl_status_t status = dnnl_memory_create(
        &operands->left, dnnl_primitive_desc_query_md(of, dnnl_query_src_md, 0), engine, DNNL_MEMORY_NONE);
    if (!status && !product->shape.packed)
        status =
            dnnl_memory_create(&operands->right, dnnl_primitive_desc_query_md(of, dnnl_query_weights_md, 0),
                               engine, DNNL_MEMORY_NONE);
    if (!status)
        status = dnnl_memory_create(&operands->result, dnnl_primitive_desc_query_md(of, dnnl_query_dst_md, 0),
                                    engine, DNNL_MEMORY_NONE);
    if (!status && product->scratchpad_bytes)
        status = dnnl_memory_create(&operands->scratchpad,
                                    dnnl_primitive_desc_query_md(of, dnnl_query_scratchpad_md, 0), engine,
                                    DNNL_MEMORY_NONE);
    return status ? -1 : 0;
}

static int grow_scratchpad(struct product_worker *worker, size_t bytes)
{
    void *block = NULL;
    if (worker->scratchpad_bytes >= bytes)
        return 0;
    if (posix_memalign(&block, 4096, bytes) != 0)
        return -1;
    free(worker->scratchpad);
    worker->scratchpad = block;
    worker->scratchpad_bytes = bytes;
    return 0;
}

static dnnl_status_t run_primitive(const struct product *product, const struct product_worker *worker,
                                   const struct operands *operands, const void *left,
                                   const struct product_right *right, float *result)
{
    dnnl_status_t status = dnnl_memory_set_data_handle(operands->left, (void *)(uintptr_t)left);
    if (!status)
        status = dnnl_memory_set_data_handle(operands->result, result);
    if (!status && !product->shape.packed)
        status = dnnl_memory_set_data_handle(operands->right, (void *)(uintptr_t)right->plain);
    if (!status && operands->scratchpad)
        status = dnnl_memory_set_data_handle(operands->scratchpad, worker->scratchpad);
    dnnl_exec_arg_t arguments[] = {
        {DNNL_ARG_SRC, operands->left},
        {DNNL_ARG_WEIGHTS, product->shape.packed ? right->packed : operands->right},
        {DNNL_ARG_DST, operands->result},
        {DNNL_ARG_SCRATCHPAD, operands->scratchpad},
    };
    if (!status)
        status =
            dnnl_primitive_execute(product->primitive, worker->stream, operands->scratchpad ? 4 : 3, arguments);
    return status;
}

int product_run(const struct product *product, int number, const void *left, const struct product_right *right,
                float *result)
{
    struct product_worker *worker = &product->cache->worker[number];
    struct operands *operands = &product->operands[number];
    const struct product_shape *shape = &product->shape;
    const size_t left_row = (size_t)shape->inner * (shape->bf16 ? sizeof(uint16_t) : sizeof(float));
    omp_set_num_threads(1);
    if (grow_scratchpad(worker, product->scratchpad_bytes) < 0)
        return -1;
    if (!operands->left && prepare_operands(product, operands) < 0)
        return -1;
    for (int64_t row = 0; row < shape->rows; row += product->primitive_rows)
        if (run_primitive(product, worker, operands, (const char *)left + (size_t)row * left_row, right,
                          result + row * shape->cols))
            return -1;
    return 0;
}

/* ---- packed right sides ---- */

int right_bytes(struct product_cache *cache, int64_t inner, int64_t cols, bool bf16, size_t *bytes,
                struct error *error)
{
    dnnl_memory_desc_t layout;
    omp_set_num_threads(1);
    const dnnl_status_t status = packed_layout(cache->engine, inner, cols, bf16, &layout);
    if (status != dnnl_success)
        return error_set_kind(error, status_kind(status), "oneDNN cannot pack a weight of [%lld, %lld] in %s",
                              (long long)inner, (long long)cols, bf16 ? "bf16" : "f32");
    *bytes = dnnl_memory_desc_get_size(&layout);
    return 0;
}

int right_create(struct product_cache *cache, int64_t inner, int64_t cols, bool bf16, void *data,
                 struct product_right *right, struct error *error)
{
    dnnl_memory_desc_t layout;
    dnnl_memory_t memory = NULL;
    omp_set_num_threads(1);
    dnnl_status_t status = packed_layout(cache->engine, inner, cols, bf16, &layout);
    if (status == dnnl_success)
        status = dnnl_memory_create(&memory, &layout, cache->engine, data);
    if (status != dnnl_success)
        return error_set_kind(error, status_kind(status), "oneDNN cannot pack a weight of [%lld, %lld] in %s",
                              (long long)inner, (long long)cols, bf16 ? "bf16" : "f32");
    *right = (struct product_right){.packed = memory};
    return 0;
}

void right_destroy(struct product_right *right)
{
    dnnl_memory_destroy(right->packed);
    right->packed = NULL;
}

int right_pack(struct product_cache *cache, const struct product_right *right, int worker, const float *source,
               int64_t inner_stride, int64_t col_stride)
{
    const dnnl_memory_desc_t *layout;
    dnnl_memory_desc_t plain;
    dnnl_memory_t from = NULL;
    dnnl_primitive_desc_t description = NULL;
    dnnl_primitive_t primitive = NULL;
    dnnl_dims_t strides = {inner_stride, col_stride};
    omp_set_num_threads(1);
    dnnl_status_t status = dnnl_memory_get_memory_desc(right->packed, &layout);
    if (!status)
        status = dnnl_memory_desc_init_by_strides(&plain, 2, layout->dims, dnnl_f32, strides);
    if (!status)
        status = dnnl_memory_create(&from, &plain, cache->engine, (void *)(uintptr_t)source);
    if (!status)
        status = dnnl_reorder_primitive_desc_create(&description, &plain, cache->engine, layout, cache->engine,
                                                    NULL);
    if (!status)
        status = dnnl_primitive_create(&primitive, description);
    if (!status) {
        dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, right->packed}};
        status = dnnl_primitive_execute(primitive, cache->worker[worker].stream, 2, arguments);
    }
    dnnl_primitive_destroy(primitive);
    dnnl_primitive_desc_destroy(description);
    dnnl_memory_destroy(from);
    return status ? -1 : 0;
}

/* ---- what oneDNN runs on ---- */

static const char *isa_name(void)
{
#ifdef __x86_64__
    static const struct {
        dnnl_cpu_isa_t isa;
        const char *name;
    } names[] = {
        {dnnl_cpu_isa_sse41, "sse41"},
        {dnnl_cpu_isa_avx, "avx"},
        {dnnl_cpu_isa_avx2, "avx2"},
        {dnnl_cpu_isa_avx2_vnni, "avx2_vnni"},
        {dnnl_cpu_isa_avx512_core, "avx512_core"},
        {dnnl_cpu_isa_avx512_core_vnni, "avx512_core_vnni"},
        {dnnl_cpu_isa_avx512_core_bf16, "avx512_core_bf16"},
        {dnnl_cpu_isa_avx512_core_amx, "avx512_core_amx"},
    };
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].isa == isa)
            return names[i].name;
#endif
    return "generic";
}

void product_describe(char *text, size_t size)
{
    const dnnl_version_t *version = dnnl_version();
    snprintf(text, size, "onednn-%d.%d.%d %s", version->major, version->minor, version->patch, isa_name());
}

enum bf16_products product_bf16(struct product_cache *cache)
{
    dnnl_memory_desc_t layout;
    if (packed_layout(cache->engine, 64, 64, true, &layout) != dnnl_success)
        return BF16_NONE;
#ifdef __x86_64__
    if ((dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) != dnnl_cpu_isa_avx512_core_bf16)
        return BF16_EMULATED;
#endif
    return BF16_NATIVE;
}

int product_vector_level(void)
{
#ifdef __x86_64__
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    if ((isa & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core)
        return 2;
    if ((isa & dnnl_cpu_isa_avx2) == dnnl_cpu_isa_avx2)
        return 1;
#endif
    return 0;
}
